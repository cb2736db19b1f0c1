"""The plug-in points: functions, protocols with one or a few methods, and the parts that the pipeline is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
    Writer,
)

Progress = Callable[[str, float], Any]
"""Called with the stage's name and the share of the photo's work done, 0..1; returning False cancels."""


Detector = Callable[[Photo], list[Detection]]
"""Finds faces, largest first; an empty list where there is none."""
Reconstructor = Callable[[Photo, Detection], Reconstruction]
"""Fits a 3D face. Raises `NoFace` where there turns out to be none."""
Segmenter = Callable[[Photo, Reconstruction], SkinMask]
"""Separates the face from hair, hands, glasses and background."""


class Rasteriser(Protocol):
    """Draws triangles into a z-buffer."""

    def __call__(self, points_clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Fragments:
        """`points_clip` [V, 4] is (x·w, y·w, depth·w, w) in pixels (`geometry.camera.to_clip`); `faces` [F, 3];
        `size` is (height, width), px."""
        ...


class Completer(Protocol):
    """Fills in what the photo does not show."""

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        """`atlas` holds what the photo showed, (`atlas.photo`)."""
        ...


@runtime_checkable
class BatchingCompleter(Protocol):
    """A completer that is faster on several faces at once than on one after the other."""

    def slots(self, count: int) -> Sequence[AbstractContextManager[Completer]]:
        """A completer for each of `count` threads; within their contexts, the threads wait for one another."""
        ...


class Generator(Protocol):
    """Makes pictures of faces from latents."""

    resolution: int
    """R, px."""
    num_ws: int
    """L: latents per picture, one for each layer."""
    w_avg: Tensor
    """[W]: the mean latent."""

    @property
    def z_dim(self) -> int:
        """Z."""
        ...

    @property
    def has_normal_latents(self) -> bool:
        """Whether latents are standard normal about the mean one, because there is no mapping network."""
        ...

    def mapping(self, z: Tensor) -> Tensor:
        """Standard normal [N, Z] to latents [N, W]."""
        ...

    def synthesis(
        self, w_plus: Tensor, resolution: int | None = None, noise: Literal["const", "none"] = "const"
    ) -> Tensor:
        """[N, L, W] to [N, 3, R, R], about -1..1; a smaller `resolution` takes less work."""
        ...

    def reduced(self) -> Generator:
        """The same generator at lower precision, where that is faster."""
        ...

    def tunable(self) -> tuple[Generator, Sequence[Tensor]]:
        """A copy, and the weights of its synthesis: leaves that take gradients."""
        ...


LandmarkNet = Callable[[Tensor], Tensor]
"""Finds landmarks, differentiably: [N, 3, S, S] in 0..1, cropped as FFHQ is, to [N, 68, 2] px, iBUG order."""
Encoder = Callable[[Tensor], Tensor]
"""Estimates latents: of pictures [N, 3, S, S] in 0..1, cropped as FFHQ is, [N, L, W]."""
IdentityNet = Callable[[Tensor, Tensor], Tensor]
"""Embeds faces so that those of one person are close, differentiably: [N, 3, H, W] in 0..1 with landmarks [N, 68, 2] px
to embeddings [N, E]; compare by cosine."""


class HeatMapNet(Protocol):
    """Finds a face's landmarks as heat maps; differentiable."""

    def predict(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] in 0..1, cropped as FFHQ is, to [N, 68, h, w], iBUG order."""
        ...

    def target(self, landmarks_px: Tensor, picture_px: int) -> Tensor:
        """[N, 68, h, w]: the heat maps that it was trained to predict for pictures [N, 3, picture_px, picture_px] with
        these landmarks [N, 68, 2]."""
        ...


class PerceptualNet(Protocol):
    """A perceptual distance, differentiable, in two steps, so that the features of a target are computed once."""

    def features(self, pictures: Tensor) -> Sequence[Tensor]:
        """[N, 3, S, S] in 0..1 to features [N, C, h, w], fine to coarse; the middle one stands for content."""
        ...

    def compare(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances [N] of pictures with these features."""
        ...


@dataclass(frozen=True)
class LossNetworks:
    """Networks of the search's loss; a term whose network is None is left out."""

    landmarks: LandmarkNet | None = None
    """Used where there is no `heat_maps`."""
    heat_maps: HeatMapNet | None = None
    identity: IdentityNet | None = None
    perception: PerceptualNet | None = None
    discriminator: Callable[[Tensor], Tensor] | None = None
    """[1, 3, R, R] in -1..1, R the generator's resolution, to logits [1, 1]."""


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
    """Weight file -> licence, of the files that these parts use."""
    device: str = "cpu"
    """What those parts compute on that can use a GPU."""
    weights: Mapping[str, str] = field(default_factory=dict)
    """Weight file -> fingerprint of its content."""
