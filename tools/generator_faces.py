"""FFHQ crops of portraits, and the figures that decide whether a generator should learn from one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import ostec
from ostec.files.photos import load_photo
from ostec.geometry.align import apply_affine, ffhq_crop
from ostec.geometry.sampling import pixels_inside, warp
from ostec.interfaces import Parts

_WORKERS = 2
_CHUNK = 20
LUMA = torch.tensor([0.299, 0.587, 0.114])
_SHARP_PX = 128


@dataclass(frozen=True)
class FaceCrop:
    """One portrait, cut."""

    path: Path
    picture: Tensor
    """[3, S, S], sRGB 0..1; what lies outside the photo is the photo mirrored."""
    yaw_deg: float
    pitch_deg: float
    outside: float
    """Share of the crop that lies outside the photo."""
    sharpness: float
    """Variance of the Laplacian of the luma (0..255) in the middle of the crop at 128 px."""
    dark_eyes: float
    """Share of the sockets darker than half the cheeks' light, of the lighter eye: near 1 behind dark glasses."""
    cheeks: tuple[float, float, float]
    """Median colour of the cheeks, sRGB 0..1."""


def cut_faces(photos: Sequence[Path], size_px: int) -> Iterator[tuple[Path, FaceCrop | str]]:
    """Each photo with its largest face, or with why there is none; in the photos' order."""
    chunks = [photos[i : i + _CHUNK] for i in range(0, len(photos), _CHUNK)]
    with ProcessPoolExecutor(_WORKERS) as pool:
        for found in pool.map(_cut_all, chunks, [size_px] * len(chunks)):
            yield from found


@torch.no_grad()
def _cut_all(photos: Sequence[Path], size_px: int) -> list[tuple[Path, FaceCrop | str]]:
    torch.set_num_threads(1)
    parts = ostec.load_parts(completer="mirror")
    return [(path, cut_face(path, parts, size_px)) for path in photos]


def cut_face(path: Path, parts: Parts, size_px: int) -> FaceCrop | str:
    try:
        photo = load_photo(path)
        detection = next(iter(parts.detector(photo)), None)
        if detection is None:
            return "no face found"
        face = parts.reconstructor(photo, detection)
    except ostec.OstecError as error:
        return str(error)
    crop_from_photo = ffhq_crop(face.landmarks.points_px, size_px)
    picture, inside = warp_mirrored(photo.rgb, crop_from_photo, size_px)
    points_px = apply_affine(crop_from_photo, face.landmarks.points_px)
    cheeks = cheek_colour(picture, points_px)
    return FaceCrop(
        path,
        picture,
        face.yaw_deg,
        face.pitch_deg,
        1 - float(inside.float().mean()),
        sharpness(picture),
        dark_eyes(picture, points_px, cheeks),
        (float(cheeks[0]), float(cheeks[1]), float(cheeks[2])),
    )


def warp_mirrored(photo: Tensor, crop_from_photo: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """([3, S, S], [S, S] bool): the crop of a photo [3, H, W], and what of it lies inside the photo. Outside, the photo
    goes on as its mirror image, which blurs away from the border."""
    inside = pixels_inside(crop_from_photo, (photo.shape[1], photo.shape[2]), (size_px, size_px))
    margin = min(photo.shape[1:]) - 1
    mirrored = F.pad(photo[None], [margin] * 4, mode="reflect")[0]
    shifted = crop_from_photo.clone()
    shifted[:, 2] -= crop_from_photo[:, :2] @ torch.full((2,), float(margin), dtype=crop_from_photo.dtype)
    crop = warp(mirrored, shifted, (size_px, size_px))
    far = _blurred((~inside).float()[None], size_px // 16)
    return torch.lerp(crop, _blurred(crop, size_px // 8), (2 * far - 1).clamp(0, 1)), inside


def _blurred(picture: Tensor, reach_px: int) -> Tensor:
    """[C, H, W] under a box filter, twice."""
    for _ in range(2):
        padded = F.pad(picture[None], [reach_px] * 4, mode="replicate")
        picture = F.avg_pool2d(padded, 2 * reach_px + 1, 1)[0]
    return picture


def sharpness(picture: Tensor) -> float:
    """Variance of the Laplacian of the luma, 0..255, in the middle half of [3, S, S], at no more than 128 px."""
    size = min(picture.shape[-1], _SHARP_PX)
    small = F.interpolate(picture[None], size, mode="area")[0]
    luma = 255 * torch.einsum("chw,c->hw", small, LUMA)[None, None]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    middle = F.conv2d(luma, kernel, padding=1)[..., size // 4 : -(size // 4), size // 4 : -(size // 4)]
    return float(middle.var())


def dark_eyes(picture: Tensor, points_px: Tensor, cheeks: Tensor) -> float:
    """Share of the pixels around an eye, of the lighter one, darker than half the cheeks' luma.

    `picture` [3, S, S], landmarks [68, 2] px, colour of the cheeks [3].
    """
    limit = 0.5 * float(cheeks @ LUMA)
    luma = torch.einsum("chw,c->hw", picture, LUMA)
    shares = []
    for eye in (points_px[36:42], points_px[42:48]):
        width_px = float((eye[0] - eye[3]).norm())
        near = _ellipse(picture, eye.mean(dim=0), 0.7 * width_px, 0.5 * width_px)
        shares.append(float((luma[near] < limit).float().mean()))
    return min(shares)


def cheek_colour(picture: Tensor, points_px: Tensor) -> Tensor:
    """[3]: median colour of [3, S, S] about half way from the eyes to the corners of the mouth [68, 2]."""
    reach_px = 0.25 * float((points_px[36] - points_px[39]).norm() + (points_px[42] - points_px[45]).norm()) / 2
    discs = [
        _ellipse(picture, (points_px[eye].mean(dim=0) + points_px[mouth]) / 2, reach_px, reach_px)
        for eye, mouth in ((slice(36, 42), 48), (slice(42, 48), 54))
    ]
    return picture[:, discs[0] | discs[1]].median(dim=1).values


def _ellipse(picture: Tensor, centre_px: Tensor, wide_px: float, high_px: float) -> Tensor:
    """[S, S] bool; at least the pixel at the centre."""
    axis = torch.arange(picture.shape[-1]) + 0.5
    off_x, off_y = (axis - centre_px[0]) / max(wide_px, 1.0), (axis - centre_px[1]) / max(high_px, 1.0)
    return off_x.square() + off_y.square()[:, None] <= 1
