"""The folder of a batch's results: what is done there, and what must not be replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ostec.errors import CannotWrite
from ostec.settings import Settings

_ENDINGS = (".png", ".obj", ".mtl", ".glb", ".npz", ".json", "_frontal.png", "_sheet.jpg", "_search.gif")
"""What the names of a face's files end with."""


@dataclass(frozen=True)
class Asked:
    """What the files of a photo must have been made with to be left as they are."""

    settings: Settings
    components: Mapping[str, str]
    licences: Mapping[str, str]
    """The weight files, by name."""
    formats: tuple[str, ...]
    all_faces: bool


class ResultsFolder:
    """`save_dir` of a batch whose photos and fits are `inputs`."""

    def __init__(self, save_dir: Path, inputs: Iterable[Path]) -> None:
        self.save_dir = save_dir
        self._inputs = {key for file in inputs if (key := _file_key(file))}

    def files_if_done(self, photo: Path, name: str, asked: Asked) -> tuple[str, ...] | None:
        """What an earlier run wrote for this photo, if nothing is missing and all of it would come out the same."""
        report = self._report(name)
        if report is None or (asked.all_faces and report.get("faces") != "all"):
            return None
        wanted = {
            "sha256": hashlib.sha256(photo.read_bytes()).hexdigest(),
            "settings": json.loads(json.dumps(asdict(asked.settings))),
            "components": dict(asked.components),
            "licences": dict(asked.licences),
        }
        files: list[str] = []
        for face in report.get("face_names", [name]) if asked.all_faces else [name]:
            report = self._report(face) or {}
            made = report.get("files", {})
            if any(report.get(key) != value for key, value in wanted.items()) or not set(asked.formats) <= set(made):
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

    def _report(self, name: str) -> dict[str, Any] | None:
        """A `NAME.json` of ours, or None."""
        try:
            report = json.loads((self.save_dir / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) and "sha256" in report else None


def _file_key(path: Path) -> tuple[int, int] | None:
    """What tells whether two paths are one file, or None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
