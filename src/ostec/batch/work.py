"""The work on one photo: nothing here knows of other photos, threads or the summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from ostec.batch.plan import Job
from ostec.errors import NoFace
from ostec.files.done import ResultsFolder
from ostec.files.names import face_name
from ostec.files.photos import load_photo
from ostec.interfaces import Parts
from ostec.pipeline import complete_face, find_faces
from ostec.settings import Settings
from ostec.types import Result


def complete_photo(
    job: Job, parts: Parts, settings: Settings, faces: Literal["largest", "all"], progress: Callable[[str, float], Any]
) -> Iterator[tuple[str, Result]]:
    """Complete the largest face of a photo, or all: (name of its files, result) for each.

    The largest comes last, as its report lists the names of all. Faces that turn out to be none are named among its
    warnings. `progress(stage, share)` is called with the share of the photo's work. Raises `BadPhoto`, `NoFace` where
    there is no face, and what the parts raise.
    """
    photo = load_photo(job.photo)
    detections = find_faces(photo, parts)
    if faces == "largest":
        detections = detections[:1]
    first: Result | None = None
    names: list[str] = []
    missed: list[NoFace] = []
    for turn, detection in enumerate(detections):

        def face_progress(stage: str, share: float, turn: int = turn) -> Any:
            return progress(stage, (turn + share) / len(detections))

        try:
            result = complete_face(photo, detection, parts, settings, face_progress)
        except NoFace as error:
            missed.append(error)
            continue
        names.append(face_name(job.name, len(names) + 1))
        if first is None:
            first = result
        else:
            yield names[-1], result
    if first is None:
        raise missed[0]
    warnings = [*first.report.get("warnings", []), *map(str, missed)]
    yield job.name, replace(first, report={**first.report, "warnings": warnings, "faces": faces, "face_names": names})


def save(result: Result, folder: ResultsFolder, name: str, formats: Sequence[str]) -> list[str]:
    """Write a result in place of the one that an earlier run left by this name; the files, relative to the folder.

    Raises `CannotWrite`.
    """
    folder.remove_earlier(name, result.report.get("face_names", ()))
    files = result.save(folder.save_dir, name, tuple(formats))
    return [path.relative_to(folder.save_dir).as_posix() for path in files.values()]
