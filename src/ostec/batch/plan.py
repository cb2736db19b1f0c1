"""Which photos a batch works on, what their files are called, and which of them are done already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ostec.batch.summary import BatchLog
from ostec.errors import BadPhoto, BadSettings
from ostec.files.done import Expected, ResultsFolder
from ostec.files.names import output_names
from ostec.files.photos import find_photos
from ostec.interfaces import Parts
from ostec.settings import FORMATS, Settings


@dataclass(frozen=True)
class BatchOptions:
    """What a batch does with each photo, beside completing it."""

    faces: Literal["largest", "all"] = "largest"
    """Which faces of a photo."""
    formats: tuple[str, ...] = FORMATS
    """Files to write, as for `Result.save`."""
    overwrite: bool = False
    """Also redo photos that are done."""
    batch_size: int = 1
    """Photos at work at the same time, each in a thread; the projection completer searches their views together."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise BadSettings(f"batch_size is {self.batch_size}; choose 1 or more.")


class PartSelection(Protocol):
    """Parts picked by name, built only if there is work to do (`registry.components.PartSelection`)."""

    @property
    def names(self) -> Mapping[str, str]: ...

    @property
    def device(self) -> str: ...

    @property
    def weights(self) -> Mapping[str, str]: ...

    def load(self) -> Parts: ...


@dataclass(frozen=True)
class Job:
    """One photo of a batch."""

    index: int
    """0-based."""
    photo: Path
    name: str
    """What its files are called."""


class Plan:
    """The jobs of a batch, in order, and the folder of its results."""

    def __init__(
        self,
        photos: Sequence[Path],
        save_dir: Path,
        selection: PartSelection,
        settings: Settings,
        options: BatchOptions,
    ) -> None:
        self.save_dir, self.settings, self.options = save_dir, settings, options
        names = output_names(photos)
        self.jobs = [Job(i, photo, name) for i, (photo, name) in enumerate(zip(photos, names, strict=True))]
        self.folder = ResultsFolder(save_dir, _inputs(photos, selection))
        self._expected = Expected(
            settings,
            selection.names,
            selection.device,
            selection.weights,
            options.formats,
            options.faces == "all",
        )

    def due(self, log: BatchLog) -> Iterator[Job]:
        """The jobs still to be done; the others are noted in the log as skipped, or as failed where their files would
        replace somebody else's."""
        for job in self.jobs:
            try:
                done = None if self.options.overwrite else self._done(job)
                if done is None:
                    self.check_harmless(job, job.name)
            except Exception as error:
                log.fail(job.index, error)
                continue
            if done is None:
                yield job
            else:
                log.report(job.index, 1.0, status="skipped", files=done)

    def check_harmless(self, job: Job, name: str) -> None:
        """Raise `CannotWrite` where files called `name` would replace a photo, or what another program made."""
        self.folder.check_harmless(job.photo, name, self.options.overwrite)

    def _done(self, job: Job) -> tuple[str, ...] | None:
        return self.folder.files_if_done(job.photo, job.name, self._expected)


def collect_photos(source: Path, save_dir: Path, recursive: bool = False) -> list[Path]:
    """The photos of a folder, or the one file; never what lies in `save_dir`.

    Raises `BadPhoto` where there is none, and `BadSettings` where `save_dir` is the photos' own folder: textures
    would be taken for photos the next time.
    """
    photos = find_photos(source, recursive)
    if not source.is_dir():
        return photos
    save_dir = save_dir.resolve()
    if save_dir == source.resolve():
        raise BadSettings(
            f"{source}: the photos' own folder cannot be save_dir, their textures would be taken for photos next time; "
            f"choose another, such as {source / 'completed'}."
        )
    photos = [photo for photo in photos if save_dir not in photo.resolve().parents]
    if not photos:
        raise BadPhoto(
            f"{source}: no photo in this folder{'' if recursive else '; --recursive looks into subfolders too'}."
        )
    return photos


def _inputs(photos: Sequence[Path], selection: PartSelection) -> Iterator[Path]:
    """The photos, and the fits whose names end like those of the outputs."""
    yield from photos
    if selection.names.get("reconstructor") == "file":
        for folder in {photo.parent for photo in photos}:
            yield from folder.glob("*.npz")
