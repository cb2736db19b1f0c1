"""The plug-in points: one protocol with one method each, and the box of parts the pipeline is handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ostec.settings import Settings
from ostec.types import (
    Atlas,
    Completed,
    Detection,
    Face,
    Fragments,
    Photo,
    Reconstruction,
    SkinMask,
)

Progress = Callable[[str, float], Any]
"""Called with the stage's name and the share of the photo's work done, 0..1; returning False cancels."""


class Detector(Protocol):
    """Finds faces."""

    def __call__(self, photo: Photo) -> list[Detection]:
        """Faces, largest first; empty where there is none."""
        ...


class Reconstructor(Protocol):
    """Fits a 3D face."""

    def __call__(self, photo: Photo, detection: Detection) -> Reconstruction:
        """Raises `NoFace` where there turns out to be none."""
        ...


class Segmenter(Protocol):
    """Tells the face from what hides it."""

    def __call__(self, photo: Photo, reconstruction: Reconstruction) -> SkinMask: ...


class Rasteriser(Protocol):
    """Draws triangles into a z-buffer."""

    def __call__(self, points_clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Fragments:
        """`points_clip` [V, 4] is (x·w, y·w, depth·w, w) in pixels (`geometry.camera.to_clip`); `faces` [F, 3]."""
        ...


class Completer(Protocol):
    """Fills what the photo does not show."""

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        """`atlas` holds what the photo showed, by the name "photo"."""
        ...


class Writer(Protocol):
    """Writes a result's files."""

    def __call__(self, result: Any, save_dir: Path, name: str, formats: tuple[str, ...]) -> Mapping[str, Path]: ...


@dataclass(frozen=True)
class Parts:
    """Built once, used for any number of photos."""

    detector: Detector
    reconstructor: Reconstructor
    segmenter: Segmenter
    rasterise: Rasteriser
    completer: Completer
    writer: Writer
    names: Mapping[str, str] = field(default_factory=dict)
    """Part -> the name it was chosen by."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Weight file -> licence."""
