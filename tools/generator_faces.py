"""Crops of portraits as FFHQ cuts them, and what tells whether a generator should learn from one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

import ostec
from ostec.geometry.align import ffhq_crop, warp
from ostec.geometry.warp import apply_affine
from ostec.interfaces import Parts
from ostec.io import load_photo
from ostec.models.segment import Zones
from ostec.types import Photo, SkinMask

_WORKERS = 2
_CHUNK = 20
_LUMA = torch.tensor([0.299, 0.587, 0.114])
_LEAST_LIGHT = 0.02


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
    """Variance of the Laplacian of the luma (0..255) in the middle of the crop."""
    skin: float
    """Share of the face that the segmenter takes for uncovered."""
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
    return [(path, _cut(path, parts, size_px)) for path in photos]


def _cut(path: Path, parts: Parts, size_px: int) -> FaceCrop | str:
    try:
        photo = load_photo(path)
        detection = next(iter(parts.detector(photo)), None)
        if detection is None:
            return "no face found"
        face = parts.reconstructor(photo, detection)
    except ostec.OstecError as error:
        return str(error)
    points_px = face.landmarks.points_px
    crop_from_photo = ffhq_crop(points_px, size_px)
    picture, inside = warp_mirrored(photo.rgb, crop_from_photo, size_px)
    mask = parts.segmenter(photo, face)
    zones = Zones(apply_affine(mask.mask_from_photo, points_px))
    cheeks = _cheeks(photo, mask, zones)
    return FaceCrop(
        path,
        picture,
        face.yaw_deg,
        face.pitch_deg,
        1 - float(inside.float().mean()),
        sharpness(picture),
        float(mask.alpha[zones.face].mean()),
        dark_eyes(picture, apply_affine(crop_from_photo, points_px), cheeks),
        (float(cheeks[0]), float(cheeks[1]), float(cheeks[2])),
    )


def warp_mirrored(photo: Tensor, crop_from_photo: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """([3, S, S], [S, S] bool): the crop of a photo [3, H, W] that goes on as its mirror image outside, and what of the
    crop lies inside the photo."""
    _, inside = warp(photo, crop_from_photo, (size_px, size_px))
    margin = min(photo.shape[1:]) - 1
    mirrored = F.pad(photo[None], [margin] * 4, mode="reflect")[0]
    shifted = crop_from_photo.clone()
    shifted[:, 2] -= crop_from_photo[:, :2] @ torch.full((2,), float(margin))
    return warp(mirrored, shifted, (size_px, size_px))[0], inside


def sharpness(picture: Tensor) -> float:
    """Variance of the Laplacian of the luma, 0..255, in the middle half of [3, S, S]."""
    size = picture.shape[-1]
    luma = 255 * torch.einsum("chw,c->hw", picture, _LUMA)[None, None]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    middle = F.conv2d(luma, kernel, padding=1)[..., size // 4 : -(size // 4), size // 4 : -(size // 4)]
    return float(middle.var())


def dark_eyes(picture: Tensor, points_px: Tensor, cheeks: Tensor) -> float:
    """Share of the pixels around an eye, of the lighter one, darker than half the cheeks' luma.

    `picture` [3, S, S], landmarks [68, 2] px, colour of the cheeks [3].
    """
    limit = 0.5 * float(cheeks @ _LUMA)
    luma = torch.einsum("chw,c->hw", picture, _LUMA)
    axis = torch.arange(picture.shape[-1]) + 0.5
    shares = []
    for eye in (points_px[36:42], points_px[42:48]):
        centre, width = eye.mean(dim=0), float((eye[0] - eye[3]).norm())
        off = (axis[None] - centre[0]) / (0.7 * width), (axis[:, None] - centre[1]) / (0.5 * width)
        near = off[0].square() + off[1].square() < 1
        shares.append(float((luma[near] < limit).float().mean()) if bool(near.any()) else math.nan)
    return min(shares)


def _cheeks(photo: Photo, mask: SkinMask, zones: Zones) -> Tensor:
    rgb, _ = warp(photo.rgb, mask.mask_from_photo, (mask.alpha.shape[0], mask.alpha.shape[1]))
    skin = zones.sure_skin & (mask.alpha > 0.5)
    skin = skin if bool(skin.any()) else zones.sure_skin
    return rgb[:, skin].median(dim=1).values if bool(skin.any()) else torch.full((3,), _LEAST_LIGHT)
