"""The plug-in points: one protocol with one method each, and the box of parts the pipeline is handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

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


@runtime_checkable
class Sharing(Protocol):
    """A completer that works on several faces at once faster than on one after the other."""

    def seats(self, count: int) -> Sequence[AbstractContextManager[Completer]]:
        """The completer for each of `count` threads, which wait for one another as long as they are in their seats."""
        ...


class Generator(Protocol):
    """Makes pictures of faces from latents; inside the projection completer."""

    resolution: int
    num_ws: int
    """Latents per picture, one for each layer."""
    w_avg: Tensor
    """[W]: the mean latent."""

    @property
    def z_dim(self) -> int:
        """Z."""
        ...

    @property
    def has_normal_latents(self) -> bool:
        """Latents are standard normal about the mean one, as nothing maps them."""
        ...

    def mapping(self, z: Tensor) -> Tensor:
        """[N, Z], standard normal, to latents [N, W]."""
        ...

    def synthesis(
        self, w_plus: Tensor, resolution: int | None = None, noise: Literal["const", "none"] = "const"
    ) -> Tensor:
        """[N, num_ws, W] to [N, 3, R, R], about -1..1; `resolution` asks for a smaller picture at less work."""
        ...

    def reduced(self) -> Generator:
        """The same generator at less precision, where that is faster."""
        ...

    def tunable(self) -> tuple[Generator, Sequence[Tensor]]:
        """A copy, and the weights of its synthesis: leaves that take gradients."""
        ...


class LandmarkNet(Protocol):
    """Finds a face's landmarks; differentiable."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] in 0..1, cropped as FFHQ is, to [N, 68, 2] px, iBUG order."""
        ...


class HeatMapNet(Protocol):
    """Says of every place in a picture how much a landmark seems to be there; differentiable."""

    def seen(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] in 0..1, cropped as FFHQ is, to [N, 68, h, w], iBUG order."""
        ...

    def drawn(self, landmarks_px: Tensor, picture_px: int) -> Tensor:
        """The maps [N, 68, h, w] that it was taught to see in pictures [N, 3, picture_px, picture_px] with these
        landmarks [N, 68, 2]."""
        ...


class Encoder(Protocol):
    """Guesses the latents of a picture."""

    def __call__(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] in 0..1, cropped as FFHQ is, to [N, num_ws, W]."""
        ...


class IdentityNet(Protocol):
    """Tells people apart; differentiable."""

    def __call__(self, pictures: Tensor, landmarks_px: Tensor) -> Tensor:
        """[N, 3, H, W] in 0..1 with landmarks [N, 68, 2] px to embeddings [N, E]; compare by cosine."""
        ...


class PerceptualNet(Protocol):
    """Sees as people do; differentiable. Pictures are compared by features, so that those of a target are made once."""

    def features(self, pictures: Tensor) -> Sequence[Tensor]:
        """[N, 3, S, S] in 0..1 to features [N, C, h, w], fine to coarse; the middle one stands for content."""
        ...

    def compare(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances [N] of pictures with these features."""
        ...


@dataclass(frozen=True)
class Judges:
    """Networks that the search's loss makes use of; a term whose network is None is left out."""

    landmarks: LandmarkNet | None = None
    """Where there is no `heat_maps`."""
    heat_maps: HeatMapNet | None = None
    identity: IdentityNet | None = None
    perception: PerceptualNet | None = None
    discriminator: Callable[[Tensor], Tensor] | None = None
    """[1, 3, R, R] in -1..1, R the generator's resolution, to logits [1, 1]."""


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
