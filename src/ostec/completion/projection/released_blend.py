"""Blending of views as in OSTeC's released code, for comparison: averages over 40 texels, nearest colours."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ostec.texture.unwrap import without_islands
from ostec.texture.views import HARD_ABOVE_YAW_DEG
from ostec.types import Atlas, Face, UVTexture

_LEAST, _LEAST_IN_PROFILE = 0.4, 0.6
"""Confidence from which the photo's texels are used."""
_SMALLEST_PATCH = 100_000 / (1024 * 1536)
"""Share of the texture."""
_SEAM_AT_1024, _MIRROR_SEAM_AT_1024 = 40.0, 30.0
"""Standard deviations, texels."""


def join_as_released(face: Face, atlas: Atlas) -> UVTexture:
    """One texture: the used texels of the photo, which the atlas holds first, and the views, blended."""
    source = source_texture(atlas.photo, face)
    entries = (replace(entry, texture=source) if entry.kind == "photo" else entry for entry in atlas.entries)
    return blend(Atlas(tuple(entries)), face.texels.inside)


def source_texture(photo: UVTexture, face: Face) -> UVTexture:
    """The photo's texture without texels at grazing angles and without small patches; in soft mode a profile is
    mirrored onto the hidden side, where the face model has a mirror map."""
    profile = abs(face.reconstruction.yaw_deg) > HARD_ABOVE_YAW_DEG
    counts = photo.confidence > (_LEAST_IN_PROFILE if profile else _LEAST)
    source = replace(photo, confidence=torch.where(counts, photo.confidence, -1.0))
    large = without_islands(source, _SMALLEST_PATCH)
    source = large if bool((large.confidence > -1).any()) else source
    if profile and face.mode == "soft" and face.reconstruction.topology.mirror is not None:
        return _mirrored(source)
    return source


def blend(atlas: Atlas, inside: Tensor) -> UVTexture:
    """The views averaged, each weighted by the distance to its own texels; other texels take the nearest colour."""
    owner = torch.where(inside, atlas.owner(), -1)
    spread = _gaussian(_SEAM_AT_1024, inside.shape)
    total, weights = torch.zeros(3, *inside.shape), torch.zeros(inside.shape)
    for index, view in enumerate(atlas.textures):
        owned = owner == index
        if bool(owned.any()):
            weight = spread(owned.float())
            total += weight * _nearest(view.rgb, view.confidence > -1)
            weights += weight
    rgb = _nearest(total / weights.clamp(min=1e-6), owner >= 0)
    confidence = torch.stack([t.confidence for t in atlas.textures]).gather(0, owner.clamp(min=0)[None])[0]
    return UVTexture(rgb * inside, torch.where(owner >= 0, confidence, -1.0))


def _mirrored(source: UVTexture) -> UVTexture:
    """Both halves from the better seen half, blended across the middle."""
    width = source.confidence.shape[1]
    left_is_better = source.confidence[:, : width // 2].clamp(min=0).sum() > source.confidence.clamp(min=0).sum() / 2
    columns = (torch.arange(width) + 0.5) - width / 2
    share = torch.special.ndtr(columns / (_MIRROR_SEAM_AT_1024 * width / 1024))
    share = 1 - share if left_is_better else share
    other = UVTexture(source.rgb.flip(2), source.confidence.flip(1))
    own = share * (source.confidence > -1)
    theirs = (1 - share) * (other.confidence > -1)
    rgb = (own * source.rgb + theirs * other.rgb) / (own + theirs).clamp(min=1e-6)
    confidence = torch.where(own >= theirs, source.confidence, other.confidence)
    return UVTexture(rgb, confidence)


def _nearest(rgb: Tensor, known: Tensor) -> Tensor:
    """[3, H, W]: outside `known` [H, W] bool, the colour of the nearest known texel."""
    if not bool(known.any()):
        return rgb
    nearest = distance_transform_edt(~known.numpy(), return_distances=False, return_indices=True)
    rows, columns = torch.as_tensor(nearest).long()
    return rgb[:, rows, columns]


def _gaussian(sigma_at_1024: float, size: torch.Size):
    """A blur of [H, W] pictures, in texels of a texture of 1024."""
    sigma = sigma_at_1024 * max(size) / 1024

    def matrix(count: int) -> Tensor:
        at = torch.arange(count, dtype=torch.float32)
        return (-((at[:, None] - at) ** 2) / (2 * sigma**2)).exp()

    rows, columns = matrix(size[0]), matrix(size[1])
    return lambda picture: rows @ picture @ columns
