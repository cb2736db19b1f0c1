"""What flows through the pipeline: small frozen values, torch float32 unless said otherwise.

Pixel coordinates are (x right, y down) with pixel centres at +0.5; images are [3, H, W], sRGB, 0..1.
The head frame is glTF's: metres, x to the subject's left, y up, z out of the face. `docs/conventions.md` has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ostec.settings import FORMATS


@dataclass(frozen=True)
class Photo:
    """An upright photo."""

    rgb: Tensor
    """[3, H, W], sRGB 0..1."""
    name: str
    """Used in errors and reports; for a file, its path."""
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
    """Which part of the head a triangle belongs to; right and left are the subject's."""

    SKIN = 0
    RIGHT_EYE = 1
    LEFT_EYE = 2
    RIGHT_SOCKET = 3
    LEFT_SOCKET = 4
    MOUTH = 5
    """The inside of the mouth, behind the lips."""
    GUMS = 6
    """Gums and tongue."""
    TEETH = 7


@dataclass(frozen=True)
class Topology:
    """What all meshes of one face model have in common. Two faces of one model hold the same object."""

    faces: Tensor
    """[F, 3] int64 vertex indices, counter-clockwise seen from outside."""
    uv: Tensor
    """[T, 2] in 0..1, (0, 0) = top left of the texture."""
    uv_faces: Tensor
    """[F, 3] int64 indices into `uv`, corner by corner as in `faces`."""
    landmark_vertices: Tensor
    """[68] int64, iBUG order; empty where they are not known."""
    paintable: Tensor
    """[V] bool: the texture around this vertex is to be completed."""
    mirror: Tensor | None
    """[V] int64 involution onto the vertex of the other side, or None. With it, u -> 1 - u mirrors the texture."""
    name: str = ""
    facemesh_uv: Tensor | None = None
    """[V, 2]: position on the FaceMesh head's UV chart, NaN outside it; None where that is not known."""
    parts: Tensor | None = None
    """[F] int64, values of `FacePart`; None where all is skin."""
    ambient_occlusion: Tensor | None = None
    """[V] 0..1: share of the ambient light that reaches the vertex, 1 outside cavities; None where not known."""


@dataclass(frozen=True)
class Shape:
    """The surface of a head."""

    vertices: Tensor
    """[V, 3]. Of a reconstruction: head frame, metres."""
    topology: Topology


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
class Reconstruction(Shape):
    """A fitted 3D face: `vertices` and `topology` of a `Shape`, and how the photo shows it."""

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
    """A head from a file: in any unit and orientation, without known landmarks."""

    shape: Shape
    rgb: Tensor | None
    """[3, H, W] sRGB 0..1: its texture."""
    name: str
    """Used in errors; for a file, its path."""


@dataclass(frozen=True)
class SkinMask:
    """Where the photo shows this person's skin and facial features with nothing in front of them."""

    alpha: Tensor
    """[S, S], 0 = hair, hand, glasses, background or unsure; 1 = face."""
    mask_from_photo: Tensor
    """[2, 3] affine, photo px -> mask px."""
    person: Tensor | None = None
    """[S, S], 1 = this person including hair; None where not known."""


@dataclass(frozen=True)
class Fragments:
    """What a rasteriser found in each pixel."""

    triangle: Tensor
    """[H, W] int64, -1 where nothing was hit."""
    barycentrics: Tensor
    """[H, W, 3], perspective-correct, 0 where nothing was hit."""
    depth: Tensor
    """[H, W], smaller is nearer (`geometry.camera.clip_matrix`), +inf where nothing was hit."""


@dataclass(frozen=True)
class Texels:
    """Where each texel lies on one face."""

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
    """A direction to look at the face from (paper, section 3.3)."""

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
    """[R, R], 1 where the image is known, 0 where it is to be completed."""
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
    """[L, W] W+ code of a generator, where one was optimised."""
    history: tuple[float, ...] = ()
    """Loss by step."""
    film: Tensor | None = None
    """[T, 3, S, S] uint8: pictures of the search in order, where they were requested."""


@dataclass(frozen=True)
class UVTexture:
    """A texture and how well each texel was seen."""

    rgb: Tensor
    """[3, Hu, Wu], sRGB 0..1."""
    confidence: Tensor
    """[Hu, Wu]: cosine of the best view, -1 where no view saw the texel."""
    std: Tensor | None = None
    """[Hu, Wu], sRGB 0..1: expected standard deviation of the colour, 0 where it was seen; None where the completer
    does not estimate it."""


@dataclass(frozen=True)
class AtlasEntry:
    """What one picture shows of the face."""

    name: str
    texture: UVTexture
    priority: float
    kind: Literal["photo", "view"]
    """A photo of the person, or a completed view."""


@dataclass(frozen=True)
class Atlas:
    """The pictures unwrapped so far, and which of them owns each texel."""

    entries: tuple[AtlasEntry, ...] = ()

    def add(self, name: str, texture: UVTexture, priority: float, kind: Literal["photo", "view"] = "view") -> Atlas:
        """A new atlas with one more entry."""
        return Atlas((*self.entries, AtlasEntry(name, texture, priority, kind)))

    @property
    def photos(self) -> tuple[AtlasEntry, ...]:
        """The entries that are photos."""
        return tuple(entry for entry in self.entries if entry.kind == "photo")

    @property
    def photo(self) -> UVTexture:
        """The texture of the only photo. Raises `ValueError` where there is none, or several."""
        (entry,) = self.photos
        return entry.texture

    @property
    def textures(self) -> tuple[UVTexture, ...]:
        """Of all entries, in order."""
        return tuple(entry.texture for entry in self.entries)

    def scores(self) -> Tensor:
        """[N, Hu, Wu]: confidence times priority, in -1..1; -1 where the entry did not see the texel."""
        views = ((entry.texture.confidence, entry.priority) for entry in self.entries)
        return torch.stack([torch.where(c > -1, (c * priority).clamp(-1, 1), -1.0) for c, priority in views])

    def owner(self) -> Tensor:
        """[Hu, Wu] int64: index of the entry with the highest score, the earlier one on a tie; -1 where none saw the
        texel."""
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
    """Texture of eyes, teeth and the inside of the mouth; None for heads without these parts."""


@dataclass(frozen=True)
class Completed:
    """A completer's answer."""

    texture: UVTexture
    completions: tuple[Completion, ...] = ()
    frontal: Tensor | None = None
    """[3, R, R], where the completer makes its own."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """For the report: `loss_terms`, `loss_history`, `warnings`."""


class Writer(Protocol):
    """Turns a result into files: the texture, the meshes of `formats`, frontal picture, report and sheet."""

    def encode(self, result: Result, name: str, formats: tuple[str, ...]) -> Mapping[str, bytes]:
        """File name -> content."""
        ...

    def save(self, result: Result, save_dir: Path, name: str, formats: tuple[str, ...]) -> Mapping[str, Path]:
        """Kind of file -> path of what was written."""
        ...


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
    """The content of `NAME.json`."""
    writer: Writer = field(repr=False)
    """Makes the files; a part, so that this module needs no file formats."""

    def encode(self, name: str | None = None, formats: Sequence[str] = FORMATS) -> Mapping[str, bytes]:
        """The files that `save` writes, file name -> content, without a folder.

        `name` defaults to the photo's stem. Raises `BadSettings` for an unknown format.
        """
        return self.writer.encode(self, name or Path(self.photo.name).stem, tuple(formats))

    def save(
        self, save_dir: str | Path, name: str | None = None, formats: Sequence[str] = FORMATS
    ) -> Mapping[str, Path]:
        """Write texture, meshes, frontal, report and sheet under `save_dir`; gives their paths by kind.

        `name` defaults to the photo's stem. Raises `BadSettings` for an unknown format and `CannotWrite`. A file is
        never left half written.
        """
        return self.writer.save(self, Path(save_dir), name or Path(self.photo.name).stem, tuple(formats))
