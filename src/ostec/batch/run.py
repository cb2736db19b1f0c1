"""Many photos in turn: what is done is skipped, a bad photo costs only itself, a kill only the photo at work."""

from __future__ import annotations

import errno
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any, Literal, Protocol

from ostec.errors import BadPhoto, BadSettings, Cancelled, CannotWrite, NoFace, OstecError
from ostec.files.done import Asked, ResultsFolder
from ostec.files.names import face_name, output_names
from ostec.files.photos import find_photos, load_photo, remove_leftovers, write_atomically
from ostec.interfaces import BatchingCompleter, Completer, Parts
from ostec.pipeline import complete_face, find_faces
from ostec.settings import FORMATS, Settings
from ostec.types import Result

_SUMMARY_EVERY_S = 1.0
_ONE_PHOTO_ONLY = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EEXIST)
"""Why a file cannot be written while its neighbours can; for any other reason the batch stops."""


@dataclass(frozen=True)
class Options:
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


@dataclass(frozen=True)
class Record:
    """What became of one photo; `summary.json` lists these."""

    photo: str
    name: str
    """What its files are called."""
    status: Literal["waiting", "done", "skipped", "failed"] = "waiting"
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    """Written, relative to `save_dir`."""
    warnings: tuple[str, ...] = ()
    traceback: str = ""
    """Where it failed, for errors that are not this package's own."""


@dataclass(frozen=True)
class Event:
    """How far the batch is; sent at every stage of a photo and when its status is known."""

    index: int
    """Of the photo, 0-based."""
    total: int
    record: Record
    share: float
    """Of the photo's work, 0..1."""


@dataclass(frozen=True)
class Summary:
    """What became of all photos."""

    records: tuple[Record, ...]

    def count(self, status: str) -> int:
        """How many photos have this status."""
        return sum(record.status == status for record in self.records)


class Choice(Protocol):
    """Parts picked by name, built only if there is work to do (`components.Choice`)."""

    @property
    def names(self) -> Mapping[str, str]: ...

    @property
    def licences(self) -> Mapping[str, str]: ...

    def load(self) -> Parts: ...


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


def run_batch(
    photos: Sequence[Path],
    save_dir: Path,
    choice: Choice,
    settings: Settings,
    options: Options,
    on_event: Callable[[Event], Any] = lambda event: None,
) -> Summary:
    """Complete every photo and save it under `save_dir`, beside a `summary.json` kept up to date.

    A photo whose files are there, made from the same bytes with the same settings and parts, is skipped. Writing one
    photo overlaps with computing the next. Any error of one photo goes to its record; `CannotWrite` is raised when no
    photo could be written (a full disk, say), and errors of `choice.load()` pass through. On KeyboardInterrupt
    finished results are still written before it is raised again.
    """
    batch = _Batch(list(dict.fromkeys(photos)), Path(save_dir), choice, settings, options, on_event)
    return batch.run()


class _Batch:
    """All of a batch's state; photos of a group are at work in threads of their own, and take turns to change it."""

    def __init__(
        self,
        photos: list[Path],
        save_dir: Path,
        choice: Choice,
        settings: Settings,
        options: Options,
        on_event: Callable[[Event], Any],
    ) -> None:
        self.photos, self.save_dir, self.choice = photos, save_dir, choice
        self.settings, self.options, self.on_event = settings, options, on_event
        names = output_names(photos)
        self.records = [Record(str(photo), name) for photo, name in zip(photos, names, strict=True)]
        self.asked = Asked(settings, choice.names, choice.licences, options.formats, options.faces == "all")
        self.folder = ResultsFolder(save_dir, self.inputs())
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ostec-writer")
        self.writing: _Write | None = None
        self.turn = RLock()
        self.stopping = False
        self.summary_time = 0.0

    def inputs(self) -> Iterator[Path]:
        """The photos, and the fits of the same endings as the outputs."""
        yield from self.photos
        if self.choice.names.get("reconstructor") == "file":
            for folder in {photo.parent for photo in self.photos}:
                yield from folder.glob("*.npz")

    def run(self) -> Summary:
        remove_leftovers(self.save_dir)
        self.write_summary()
        try:
            self.do_photos()
        except BaseException as error:
            with suppress(_Stop):
                self.settle()
            self.writer.shutdown()
            with suppress(CannotWrite):
                self.write_summary()
            if isinstance(error, _Stop):
                raise CannotWrite(f"stopped, as no photo can be written: {error.__cause__}") from error.__cause__
            raise
        self.writer.shutdown()
        self.write_summary()
        return Summary(tuple(self.records))

    def do_photos(self) -> None:
        due, parts = filter(self.is_due, range(len(self.photos))), None
        while group := list(islice(due, self.options.batch_size)):
            parts = parts or self.choice.load()
            self.do_group(group, parts)
            if time.monotonic() - self.summary_time > _SUMMARY_EVERY_S:
                self.write_summary()
        self.settle()

    def is_due(self, index: int) -> bool:
        """Whether a photo is still to be completed."""
        photo, name, options = self.photos[index], self.records[index].name, self.options
        try:
            done = None if options.overwrite else self.folder.files_if_done(photo, name, self.asked)
            if done is None:
                self.folder.check_harmless(photo, name, options.overwrite)
        except Exception as error:
            self.fail(index, error)
            return False
        if done is not None:
            self.tell(index, replace(self.records[index], status="skipped", files=done), 1.0)
        return done is None

    def do_group(self, group: Sequence[int], parts: Parts) -> None:
        """Everything about some photos but their last write; only what would hit every photo is raised."""
        slots = _slots(parts.completer, len(group))
        if len(group) == 1:
            self.do_photo(group[0], parts, slots[0])
            return
        with ThreadPoolExecutor(len(group), thread_name_prefix="ostec-photo") as pool:
            try:
                for photo in as_completed(
                    [pool.submit(self.do_photo, i, parts, s) for i, s in zip(group, slots, strict=True)]
                ):
                    photo.result()
            except BaseException:
                self.stopping = True
                raise

    def do_photo(self, index: int, parts: Parts, slot: AbstractContextManager[Completer]) -> None:
        try:
            with slot as completer:
                self.complete(index, replace(parts, completer=completer))
        except (_Stop, Cancelled):
            raise
        except Exception as error:
            self.fail(index, error)

    def complete(self, index: int, parts: Parts) -> None:
        """Complete the photo's faces. The first face's report lists them all, so it is written last."""
        start, name = time.perf_counter(), self.records[index].name
        self.tell(index, self.records[index], 0.0)
        photo = load_photo(self.photos[index])
        detections = find_faces(photo, parts)
        if self.options.faces == "largest":
            detections = detections[:1]
        first: Result | None = None
        names: list[str] = []
        missed: list[NoFace] = []
        for turn, detection in enumerate(detections):
            try:
                result = complete_face(photo, detection, parts, self.settings, self.progress(index, turn, detections))
            except NoFace as error:
                missed.append(error)
                continue
            names.append(face_name(name, len(names) + 1))
            if first is None:
                first = result
            else:
                self.write(index, names[-1], result, {})
        if first is None:
            raise missed[0]
        self.note(index, seconds=round(time.perf_counter() - start, 3), warnings=tuple(map(str, missed)))
        self.write(index, name, first, {"faces": self.options.faces, "face_names": names}, last=True)

    def progress(self, index: int, turn: int, detections: Sequence[Any]) -> Callable[[str, float], bool]:
        def note_progress(stage: str, share: float) -> bool:
            with self.turn:
                if self.writing is not None and self.writing.future.done():
                    self.settle()
                if self.records[index].status == "waiting":
                    self.tell(index, self.records[index], (turn + share) / len(detections))
            return not self.stopping

        return note_progress

    def write(self, index: int, name: str, result: Result, extra: Mapping[str, Any], last: bool = False) -> None:
        """Hand a result to the writer thread as soon as it is free."""
        with self.turn:
            self.settle()
            if self.records[index].status == "failed":
                return
            self.folder.check_harmless(self.photos[index], name, self.options.overwrite)
            result = replace(result, report={**result.report, **extra})
            future = self.writer.submit(_save, result, self.save_dir, name, self.options.formats)
            self.writing = _Write(index, last, future)

    def settle(self) -> None:
        """Wait for the write under way and note how it went."""
        write, self.writing = self.writing, None
        if write is None:
            return
        try:
            files, warnings, seconds = write.future.result()
        except KeyboardInterrupt:
            self.writing = write
            raise
        except Exception as error:
            self.fail(write.index, error)
            if _hits_every_photo(error):
                raise _Stop from error
            return
        record = self.records[write.index]
        self.note(
            write.index,
            files=(*record.files, *files),
            warnings=(*record.warnings, *warnings),
            seconds=round(record.seconds + seconds, 3),
        )
        if write.last:
            self.tell(write.index, replace(self.records[write.index], status="done"), 1.0)

    def fail(self, index: int, error: Exception) -> None:
        if isinstance(error, OstecError):
            record = replace(self.records[index], reason=str(error))
        else:
            where = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-5))
            reason = f"{self.photos[index]}: {type(error).__name__}: {error}"
            record = replace(self.records[index], reason=reason, traceback=where)
        self.tell(index, replace(record, status="failed"), 1.0)

    def note(self, index: int, **changes: Any) -> None:
        self.records[index] = replace(self.records[index], **changes)

    def tell(self, index: int, record: Record, share: float) -> None:
        with self.turn:
            self.records[index] = record
            self.on_event(Event(index, len(self.photos), record, share))

    def write_summary(self) -> None:
        counts = Counter(record.status for record in self.records)
        summary = {
            "settings": asdict(self.settings),
            "options": asdict(self.options),
            "components": dict(self.choice.names),
            "counts": {status: counts[status] for status in ("done", "skipped", "failed", "waiting")},
            "photos": [asdict(record) for record in self.records],
        }
        write_atomically(self.save_dir / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
        self.summary_time = time.monotonic()


@dataclass(frozen=True)
class _Write:
    """A result on its way to the disk."""

    index: int
    last: bool
    """Of the photo's faces."""
    future: Future[tuple[list[str], list[str], float]]


class _Stop(Exception):
    """No further photo can be written, because of the error that caused this."""


def _slots(completer: Completer, count: int) -> Sequence[AbstractContextManager[Completer]]:
    """The completer for each of some photos at work at the same time."""
    return completer.slots(count) if isinstance(completer, BatchingCompleter) else [nullcontext(completer)] * count


def _save(result: Result, save_dir: Path, name: str, formats: tuple[str, ...]) -> tuple[list[str], list[str], float]:
    """(files written, the report's warnings, seconds)."""
    start = time.perf_counter()
    files = result.save(save_dir, name, formats)
    written = [path.relative_to(save_dir).as_posix() for path in files.values()]
    return written, list(result.report.get("warnings", [])), time.perf_counter() - start


def _hits_every_photo(error: BaseException | None) -> bool:
    """Whether the next photo would fail to be written for the same reason."""
    if not isinstance(error, CannotWrite):
        return False
    while error is not None:
        if isinstance(error, OSError) and error.errno not in _ONE_PHOTO_ONLY:
            return True
        error = error.__cause__
    return False
