"""Speed: seconds per photo by stage, beside the seconds of a matrix product, which measure the machine."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from ostec._version import __version__
from ostec.bench.record import failure
from ostec.errors import BadPhoto
from ostec.files.photos import load_photo, write_atomically
from ostec.interfaces import Parts
from ostec.pipeline import complete_face, find_faces
from ostec.settings import Settings

_MATRIX, _PRODUCTS = 2048, 9


@dataclass
class Speed:
    """What a run has measured."""

    seconds: list[dict[str, float]] = field(default_factory=list)
    """Of each photo, by stage: `read`, `detect`, the stages of `NAME.json`, `save`, and their sum `total`."""
    failed: dict[str, str] = field(default_factory=dict)
    """Photo -> why it could not be completed."""
    reference_seconds: float = 0.0
    """A product of two float32 matrices of 2048 x 2048 on the CPU: median of some before the photos, some after."""
    peak_mb: float | None = None
    """Largest memory of the process so far; None where the system does not tell."""

    @property
    def medians(self) -> dict[str, float]:
        """Stage -> median seconds over the photos."""
        stages = dict.fromkeys(stage for photo in self.seconds for stage in photo)
        return {stage: statistics.median(photo.get(stage, 0.0) for photo in self.seconds) for stage in stages}

    @property
    def ratios(self) -> dict[str, float]:
        """Stage -> its median seconds over `reference_seconds`."""
        return {stage: seconds / self.reference_seconds for stage, seconds in self.medians.items()}

    def save(self, path: Path) -> None:
        """Write all of it as JSON. Raises `CannotWrite`."""
        content = {"version": __version__, "medians": self.medians, "ratios": self.ratios, **asdict(self)}
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def measure_speed(
    photos: Sequence[Path], parts: Parts, settings: Settings, complain: Callable[[str], Any] = lambda line: None
) -> Speed:
    """Complete the largest face of each photo and write its files into a folder that is deleted afterwards.

    The first photo that can be completed is done once more at the start and not counted, because the first use of a
    part compiles code. `complain` gets a line per photo that fails. Raises `BadPhoto` where none can be completed.
    """
    speed = Speed()
    with tempfile.TemporaryDirectory() as folder:
        if not any(_timed(photo, parts, settings, Path(folder), Speed()) for photo in photos):
            raise BadPhoto(f"none of {len(photos)} photos could be completed; `ostec run` on them says why.")
        products = _matrix_products()
        for photo in photos:
            if not _timed(photo, parts, settings, Path(folder), speed):
                complain(speed.failed[photo.name])
    speed.reference_seconds = statistics.median(products + _matrix_products())
    speed.peak_mb = _peak_mb()
    return speed


def speed_table(speed: Speed) -> Table:
    """Median seconds by stage, and how many matrix products they are worth."""
    table = Table("stage", "seconds", "x reference")
    for stage, seconds in speed.medians.items():
        table.add_row(stage, f"{seconds:.3f}", f"{speed.ratios[stage]:.1f}")
    table.add_row("reference", f"{speed.reference_seconds:.3f}", "1.0")
    return table


def _timed(path: Path, parts: Parts, settings: Settings, folder: Path, speed: Speed) -> bool:
    """Complete one photo and note its seconds in `speed`, or why it failed; whether it was completed."""
    marks = [time.perf_counter()]
    try:
        photo = load_photo(path)
        marks.append(time.perf_counter())
        detection = find_faces(photo, parts)[0]
        marks.append(time.perf_counter())
        result = complete_face(photo, detection, parts, settings)
        marks.append(time.perf_counter())
        result.save(folder, name="photo")
    except Exception as error:
        speed.failed[path.name] = failure(error, path)
        return False
    marks.append(time.perf_counter())
    read, detect, _, save = (after - before for before, after in zip(marks, marks[1:], strict=False))
    stages = result.report["seconds"]
    speed.seconds.append({"read": read, "detect": detect, **stages, "save": save, "total": marks[-1] - marks[0]})
    return True


def _matrix_products() -> list[float]:
    """Seconds of each of some products, after one that is not counted."""
    matrix = torch.rand(_MATRIX, _MATRIX, generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(_PRODUCTS + 1):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def _peak_mb() -> float | None:
    if sys.platform == "win32":
        return None
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
