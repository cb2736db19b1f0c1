"""The folder of a batch's results: what is done there, and what must not be replaced."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ostec._version import __version__
from ostec.errors import CannotWrite
from ostec.files.photos import remove
from ostec.settings import Settings

_ENDINGS = (".png", ".obj", ".mtl", ".glb", ".npz", ".json", "_frontal.png", "_sheet.jpg", "_search.gif")
"""What the names of a face's files end with."""


@dataclass(frozen=True)
class Expected:
    """What the files of a photo must have been made with, by this version of the package, to be left as they are."""

    settings: Settings
    components: Mapping[str, str]
    device: str
    weights: Mapping[str, str]
    """Weight file -> fingerprint."""
    formats: tuple[str, ...]
    all_faces: bool


class ResultsFolder:
    """`save_dir` of a batch whose photos and fits are `inputs`."""

    def __init__(self, save_dir: Path, inputs: Iterable[Path]) -> None:
        self.save_dir = save_dir
        self._inputs = {key for file in inputs if (key := _file_key(file))}

    def files_if_done(self, photo: Path, name: str, expected: Expected) -> tuple[str, ...] | None:
        """What an earlier run wrote for this photo, if nothing is missing and all of it would come out the same."""
        report = self._report(name)
        if report is None or (expected.all_faces and report.get("faces") != "all"):
            return None
        wanted = {
            "version": __version__,
            "sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
            "settings": json.loads(json.dumps(asdict(expected.settings))),
            "components": dict(expected.components),
            "device": expected.device,
            "weights": dict(expected.weights),
        }
        files: list[str] = []
        for face in report.get("face_names", [name]) if expected.all_faces else [name]:
            report = self._report(face) or {}
            made = report.get("files", {})
            if any(report.get(key) != value for key, value in wanted.items()) or not set(expected.formats) <= set(made):
                return None
            files += made.values()
        return tuple(files) if all((self.save_dir / file).is_file() for file in files) else None

    def check_harmless(self, photo: Path, name: str, overwrite: bool) -> None:
        """Raise `CannotWrite` where saving `name` would replace a photo, or a fit that was made elsewhere."""
        beside = photo.resolve().parent == self.save_dir.resolve()
        ours = self._report(name) is not None
        for ending in _ENDINGS:
            path = self.save_dir / f"{name}{ending}"
            key = _file_key(path)
            foreign = beside and key is not None and not ours and not overwrite
            if key in self._inputs or foreign:
                raise CannotWrite(
                    f"{photo}: saving it would replace {path}, which this program did not make; "
                    "choose another save_dir."
                )

    def remove_earlier(self, name: str, face_names: Sequence[str]) -> None:
        """Delete the files that the report of an earlier run lists for `name`, so that none stays beside a newer
        result; also those of the photo's further faces, unless they are in `face_names`. Raises `CannotWrite`."""
        names = [face for face in (self._report(name) or {}).get("face_names", []) if _extends(face, name, r"_face\d+")]
        for face in (*(face for face in names if face not in face_names), name):
            report = self._report(face)
            if report is None:
                continue
            listed = [file for file in report.get("files", {}).values() if _extends(file, face, r"(_[a-z]+)?\.[a-z]+")]
            for path in (self.save_dir / file for file in (*listed, f"{face}.json")):
                if _file_key(path) not in self._inputs:
                    remove(path)

    def _report(self, name: str) -> dict[str, Any] | None:
        """A `NAME.json` of ours, or None."""
        try:
            report = json.loads((self.save_dir / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) and "sha256" in report else None


def _extends(text: str, name: str, pattern: str) -> bool:
    """Whether a text is a name followed by what the pattern describes."""
    return re.fullmatch(re.escape(name) + pattern, text) is not None


def _file_key(path: Path) -> tuple[int, int] | None:
    """What tells whether two paths are one file, or None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
