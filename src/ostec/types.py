"""What flows through the pipeline: small frozen values, torch float32 unless said otherwise.

Pixel coordinates are (x right, y down) with pixel centres at +0.5; images are [3, H, W], sRGB, 0..1.
The head frame is glTF's: metres, x to the subject's left, y up, z out of the face. `docs/conventions.md` has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Photo:
    """An upright photo."""

    rgb: Tensor
    """[3, H, W], sRGB 0..1."""
    name: str
    """What errors and reports call it; for a file, its path."""
    sha256: str = ""
    """Of the file's bytes, or of the pixels where there is no file."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[2]


@dataclass(frozen=True)
class Detection:
    """A face found in a photo."""

    box_px: Tensor
    """[4]: x0, y0, x1, y1; may reach outside the photo."""
    points_px: Tensor
    """[P, 2]: right eye, left eye (the subject's), nose tip; then BlazeFace's mouth centre, right and left ear, or
    MTCNN's right and left corner of the mouth."""
    score: float
    """0..1."""


@dataclass(frozen=True)
class Landmarks:
    """Sparse landmarks of one face."""

    points_px: Tensor
    """[68, 2], iBUG order."""
    score: float
    """0..1."""


class FacePart(IntEnum):
    """What a triangle of a head belongs to; right and left are the subject's."""

    SKIN = 0
    RIGHT_EYE = 1
    LEFT_EYE = 2
    RIGHT_SOCKET = 3
    LEFT_SOCKET = 4
    MOUTH = 5
    """The hollow behind the lips."""
    GUMS = 6
    """And the tongue."""
    TEETH = 7


@dataclass(frozen=True)
class Topology:
    """What all meshes of one face model share. Two faces of one model hold the same object."""

    faces: Tensor
    """[F, 3] int64 vertex indices, counter-clockwise seen from outside."""
    uv: Tensor
    """[T, 2] in 0..1, (0, 0) = top left of the texture."""
    uv_faces: Tensor
    """[F, 3] int64 indices into `uv`, corner by corner as in `faces`."""
    landmark_vertices: Tensor
    """[68] int64, iBUG order."""
    paintable: Tensor
    """[V] bool: the texture around this vertex is to be completed."""
    mirror: Tensor | None
    """[V] int64 involution onto the vertex of the other side, or None. With it, u -> 1 - u mirrors the texture."""
    name: str = ""
    facemesh_uv: Tensor | None = None
    """[V, 2]: where the vertex lies on the FaceMesh head's chart, NaN beyond it; None where that is not known."""
    parts: Tensor | None = None
    """[F] int64, values of `FacePart`; None where all is skin."""
    openness: Tensor | None = None
    """[V] 0..1: how much of the light around reaches the vertex, 1 outside cavities; None where that is not known."""


@dataclass(frozen=True)
class Camera:
    """A pinhole or scaled-orthographic camera with OpenCV axes: x right, y down, z forward."""

    K: Tensor
    """[3, 3] intrinsics, px. Orthographic: px per metre on the diagonal."""
    R: Tensor
    """[3, 3] rotation, head -> camera."""
    t: Tensor
    """[3] translation, head -> camera, metres."""
    size: tuple[int, int]
    """(height, width) of the picture, px."""
    model: Literal["perspective", "orthographic"] = "perspective"


@dataclass(frozen=True)
class Reconstruction:
    """A fitted 3D face."""

    vertices: Tensor
    """[V, 3], head frame, metres."""
    topology: Topology
    camera: Camera
    """Head -> pixels of the upright photo."""
    landmarks: Landmarks
    yaw_deg: float
    """Positive = the nose points to the right edge of the photo."""
    pitch_deg: float
    """Positive = the nose points down."""
    roll_deg: float
    """Positive = the head is turned clockwise in the photo."""


@dataclass(frozen=True)
class Mesh:
    """A head as a file has it: in any unit, turned anyhow."""

    head: Reconstruction
    """Vertices and topology; nothing is known of landmarks and camera."""
    rgb: Tensor | None
    """[3, H, W] sRGB 0..1: its texture."""
    name: str
    """What errors call it; for a file, its path."""


@dataclass(frozen=True)
class SkinMask:
    """Which part of the photo shows this person's skin and facial features, and nothing in front of them."""

    alpha: Tensor
    """[S, S], 0 = hair, hand, glasses, background or unsure; 1 = face."""
    mask_from_photo: Tensor
    """[2, 3] affine, photo px -> mask px."""
    person: Tensor | None = None
    """[S, S], 1 = this person including hair, or None where not known."""


@dataclass(frozen=True)
class Fragments:
    """What a rasteriser saw in each pixel."""

    triangle: Tensor
    """[H, W] int64, -1 where nothing was hit."""
    barycentrics: Tensor
    """[H, W, 3], perspective-correct, 0 where nothing was hit."""
    depth: Tensor
    """[H, W], smaller is nearer (`geometry.camera.clip_matrix`), +inf where nothing was hit."""


@dataclass(frozen=True)
class Texels:
    """Where each texel lies on one face, baked once."""

    inside: Tensor
    """[Hu, Wu] bool: the texel lies on a paintable triangle."""
    triangle: Tensor
    """[Hu, Wu] int64, -1 off the chart."""
    barycentrics: Tensor
    """[Hu, Wu, 3]."""
    points: Tensor
    """[Hu, Wu, 3], head frame, metres."""
    normals: Tensor
    """[Hu, Wu, 3], unit, outward, head frame."""


@dataclass(frozen=True)
class View:
    """A direction to look at the face from (METHOD: the paper's section 3.3)."""

    name: str
    pitch_deg: float
    yaw_deg: float
    roll_deg: float
    priority: float
    """The score of a texel seen in this view is its cosine times this."""


@dataclass(frozen=True)
class Shot:
    """A render waiting to be completed."""

    view: View
    image: Tensor
    """[3, R, R]."""
    trust: Tensor
    """[R, R], 1 where the image is known, 0 where it is to be invented."""
    landmarks_px: Tensor
    """[68, 2]."""
    camera: Camera


@dataclass(frozen=True)
class Completion:
    """The completed render."""

    shot: Shot
    image: Tensor
    """[3, R, R]."""
    latent: Tensor | None = None
    """[L, W] W+ code of a generator, where one was searched."""
    history: tuple[float, ...] = ()
    """Loss by step."""
    film: Tensor | None = None
    """[T, 3, S, S] uint8: pictures of the search in turn, where they were asked for."""


@dataclass(frozen=True)
class UVTexture:
    """A texture and how well each texel was seen."""

    rgb: Tensor
    """[3, Hu, Wu], sRGB 0..1."""
    confidence: Tensor
    """[Hu, Wu]: cosine of the best view, -1 where no view saw the texel."""
    std: Tensor | None = None
    """[Hu, Wu], sRGB 0..1: standard deviation of the colour that is to be expected, 0 where it was seen; None where
    whoever completed the texture cannot tell."""


@dataclass(frozen=True)
class Atlas:
    """The views unwrapped so far and who owns each texel."""

    names: tuple[str, ...] = ()
    textures: tuple[UVTexture, ...] = ()
    priorities: tuple[float, ...] = ()

    def add(self, name: str, texture: UVTexture, priority: float) -> Atlas:
        """A new atlas with one more view."""
        return replace(
            self,
            names=(*self.names, name),
            textures=(*self.textures, texture),
            priorities=(*self.priorities, priority),
        )

    def scores(self) -> Tensor:
        """[N, Hu, Wu]: confidence times priority, in -1..1; -1 where the view did not see the texel."""
        views = zip(self.textures, self.priorities, strict=True)
        return torch.stack([torch.where(t.confidence > -1, (t.confidence * p).clamp(-1, 1), -1.0) for t, p in views])

    def owner(self) -> Tensor:
        """[Hu, Wu] int64: the view with the highest score, the earlier one on a tie; -1 where none saw the texel."""
        best, index = self.scores().max(dim=0)
        return torch.where(best > -1, index, -1)


@dataclass(frozen=True)
class Face:
    """All that is known of one face before its texture is completed."""

    photo: Photo
    reconstruction: Reconstruction
    skin: SkinMask
    texels: Texels
    mode: Literal["soft", "hard"]
    """soft keeps the photo's texels where they are trusted; hard keeps only the photo's colours."""
    features: UVTexture | None = None
    """Eyes, teeth and the inside of the mouth, of heads that have them apart from the skin."""


@dataclass(frozen=True)
class Completed:
    """A completer's answer."""

    texture: UVTexture
    completions: tuple[Completion, ...] = ()
    frontal: Tensor | None = None
    """[3, R, R], where the completer makes its own."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """For the report: `loss_terms`, `loss_history`, `warnings`."""


@dataclass(frozen=True)
class TransferResult:
    """A texture carried over to another mesh."""

    source: Mesh
    target: Mesh
    """With its new texture `rgb`, else as it was."""
    upright_source: Tensor
    """[V, 3]: the source's vertices in the head frame, metres, as nearly as can be told."""
    upright_target: Tensor
    """[V, 3]: likewise the target's."""
    coverage: Tensor
    """[Hu, Wu] bool: the texel has a counterpart on the source; the others are filled in."""
    fitted: Tensor
    """[V, 3]: the target's vertices, bent onto `upright_source`."""
    writer: Callable[..., Mapping[str, Path]] = field(repr=False)
    """Writes the files."""

    @property
    def rgb(self) -> Tensor:
        """[3, Hu, Wu], sRGB 0..1: the source's texture in the target's UV layout."""
        assert self.target.rgb is not None
        return self.target.rgb

    def save(self, save_dir: str | Path, name: str | None = None) -> Mapping[str, Path]:
        """Write texture, coverage, the target's own mesh and a sheet; gives what was written, by kind.

        `name` defaults to SOURCE_on_TARGET. Raises `CannotWrite`. Each file appears whole or not at all.
        """
        between = "_on_".join(Path(mesh.name).stem for mesh in (self.source, self.target))
        return self.writer(self, Path(save_dir), name or between)


@dataclass(frozen=True)
class Result:
    """One completed face."""

    photo: Photo
    reconstruction: Reconstruction
    seen: UVTexture
    """What the photo showed."""
    texture: UVTexture
    frontal: Tensor | None
    """[3, R, R] or None."""
    completions: tuple[Completion, ...]
    report: Mapping[str, Any]
    """What `NAME.json` holds."""
    writer: Callable[..., Mapping[str, Path]] = field(repr=False)
    """Writes the files; a part, so that values need not know of disks."""

    def save(
        self, save_dir: str | Path, name: str | None = None, formats: Sequence[str] = ("png", "obj", "glb")
    ) -> Mapping[str, Path]:
        """Write texture, meshes, frontal, report and sheet under `save_dir`; gives what was written, by kind.

        `name` defaults to the photo's stem. Raises `CannotWrite`. Each file appears whole or not at all.
        """
        return self.writer(self, Path(save_dir), name or Path(self.photo.name).stem, tuple(formats))
