"""Parts that stand in for the networks: quick, and with faults on demand, by words in a photo's name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from synthetic import all_skin, head

from ostec.batch.plan import BatchOptions
from ostec.batch.run import run_batch
from ostec.batch.summary import Event, Summary
from ostec.errors import NoFace
from ostec.files.photos import write_atomically
from ostec.geometry.raster import rasterise
from ostec.interfaces import Completer, Detector, Parts, Progress
from ostec.settings import Settings
from ostec.types import (
    Atlas,
    Completed,
    Completion,
    Detection,
    Face,
    Photo,
    Reconstruction,
    Result,
    Shot,
    SkinMask,
    UVTexture,
    View,
)

SETTINGS = Settings(texture_size=64, frontal_size=64)
SIZE_PX = 64


def detect(photo: Photo) -> list[Detection]:
    """One face; "noface" none, "three" three of which the second is none, "crash" a fault in the code."""
    name = Path(photo.name).name
    if "crash" in name:
        raise ZeroDivisionError("a fault in a part")
    count = 0 if "noface" in name else 3 if "three" in name else 1
    return [Detection(torch.tensor([0.0, 0, 64, 64]), torch.zeros(6, 2), 1.0 - i / 10) for i in range(count)]


def reconstruct(photo: Photo, detection: Detection) -> Reconstruction:
    if abs(detection.score - 0.9) < 0.01:
        raise NoFace(f"{photo.name}: that was a balloon.")
    return head(size=SIZE_PX)


def segment(photo: Photo, reconstruction: Reconstruction) -> SkinMask:
    return all_skin()


def complete(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
    """Leaves unseen texels as they are, and brings a view along so that none is rendered."""
    seen = atlas.photo
    camera = face.reconstruction.camera
    view = View("front", 0.0, 0.0, 0.0, 1.0)
    shot = Shot(view, torch.zeros(3, 8, 8), torch.zeros(8, 8), torch.zeros(68, 2), camera)
    return Completed(UVTexture(seen.rgb, seen.confidence), (Completion(shot, shot.image),))


def write(result: Result, save_dir: Path, name: str, formats: tuple[str, ...]) -> Mapping[str, Path]:
    """Small files with the right names, the report last."""
    files = {suffix: f"{name}.{suffix}" for suffix in formats} | {"sheet": f"{name}_sheet.jpg"}
    if result.frontal is not None:
        files["frontal"] = f"{name}_frontal.png"
    for kind, file in files.items():
        write_atomically(save_dir / file, kind.encode())
    files["json"] = f"{name}.json"
    write_atomically(save_dir / files["json"], json.dumps({**result.report, "files": files}).encode())
    return {kind: save_dir / file for kind, file in files.items()}


@dataclass
class FakeWriter:
    """Saves with a function like `write`, and encodes nothing."""

    write: Callable[[Result, Path, str, tuple[str, ...]], Mapping[str, Path]] = write

    def save(self, result: Result, save_dir: Path, name: str, formats: tuple[str, ...]) -> Mapping[str, Path]:
        return self.write(result, save_dir, name, formats)

    def encode(self, result: Result, name: str, formats: tuple[str, ...]) -> Mapping[str, bytes]:
        return {}


@dataclass
class FakeSelection:
    """Counts how often the parts are built."""

    writer: Callable[[Result, Path, str, tuple[str, ...]], Mapping[str, Path]] = write
    detector: Detector = detect
    names: Mapping[str, str] = field(default_factory=lambda: {"completer": "fake"})
    licences: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    weights: Mapping[str, str] = field(default_factory=dict)
    loads: int = 0
    completer: Completer = complete

    def load(self) -> Parts:
        self.loads += 1
        return Parts(
            self.detector,
            reconstruct,
            segment,
            rasterise,
            self.completer,
            FakeWriter(self.writer),
            self.names,
            self.licences,
            self.device,
            self.weights,
        )


def make_photos(folder: Path, *names: str) -> list[Path]:
    """Small pictures, each with bytes of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for shade, name in enumerate(names):
        Image.new("RGB", (SIZE_PX, SIZE_PX), (200, 150, 100 + shade)).save(folder / name)
    return [folder / name for name in names]


def statuses(save_dir: Path) -> list[str]:
    """Of each photo, in `summary.json`."""
    return [photo["status"] for photo in json.loads((save_dir / "summary.json").read_text())["photos"]]


def run(
    photos: Sequence[Path],
    save_dir: Path,
    choice: FakeSelection | None = None,
    settings: Settings = SETTINGS,
    options: BatchOptions | None = None,
    on_event: Callable[[Event], Any] = lambda event: None,
) -> Summary:
    return run_batch(photos, save_dir, choice or FakeSelection(), settings, options or BatchOptions(), on_event)


def run_slowly(source: str, target: str) -> None:
    """Write each file slowly; says so on stdout when a photo's first file is there."""

    def slow_write(result: Result, save_dir: Path, name: str, formats: tuple[str, ...]) -> Mapping[str, Path]:
        write_atomically(save_dir / f"{name}.png", b"half of the work")
        print(name, flush=True)
        time.sleep(0.5)
        return write(result, save_dir, name, formats)

    run(sorted(Path(source).iterdir()), Path(target), FakeSelection(slow_write))
