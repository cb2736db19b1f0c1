"""The grain of a person's skin, pores and stubble, synthesised for skin that was not seen.

A random-phase texture (Galerne, Gousseau and Morel, "Random phase textures", 2011): noise with the spectrum of a patch
of seen skin, the same in all directions, as a wrinkle's or a stretched chart's there is not that of the skin elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.sampling import means_by_bin
from ostec.types import UVTexture

_PATCH_AT_1024 = 64
_COARSEST_AT_1024 = 12
"""Texels per cell of the coarse picture that is subtracted: grain is finer."""
_LEAST_CONFIDENCE = 0.55
_TILE_AT_1024 = 512
_STRONGEST = 0.02
"""Largest standard deviation, log units; deep wrinkles are not grain."""


def skin_grain(seen: UVTexture, log_rgb: Tensor, seed: int) -> Tensor:
    """[3, Hu, Wu]: log-colour detail to add to plain skin; mirror-symmetric, and zero where too little skin is seen.

    `log_rgb` [3, Hu, Wu] is the log colour of `seen`.
    """
    scale = min(log_rgb.shape[1:]) / 1024
    size = max(16, round(_PATCH_AT_1024 * scale / 8) * 8)
    height, width = log_rgb.shape[1:]
    shrink = max(2, round(_COARSEST_AT_1024 * scale))
    coarse = F.interpolate(log_rgb[None], (height // shrink, width // shrink), mode="area")
    detail = log_rgb - F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
    corner = _calm_patch(detail, seen.confidence > _LEAST_CONFIDENCE, size)
    if corner is None:
        return torch.zeros_like(log_rgb)
    row, column = corner
    window = torch.hann_window(size, periodic=False)
    patch = detail[:, row : row + size, column : column + size] * window[:, None] * window
    return _random_phase(patch, (height, width), max(size, round(_TILE_AT_1024 * scale)), seed)


def _calm_patch(detail: Tensor, known: Tensor, size: int) -> tuple[int, int] | None:
    """Upper left corner of a fully known patch with less detail than three quarters of them: skin without features."""
    step = size // 4
    share, energy = (
        F.avg_pool2d(F.avg_pool2d(x[None, None], step), 6, 1)[0, 0]  # the patch and a quarter of its size around it
        for x in (known.float(), detail.square().mean(dim=0))
    )
    candidates = (share > 0.999).nonzero()
    if not len(candidates):
        return None
    order = energy[candidates[:, 0], candidates[:, 1]].argsort()
    row, column = candidates[order[len(order) // 4]].tolist()
    return (row + 1) * step, (column + 1) * step


def _random_phase(patch: Tensor, size: tuple[int, int], tile: int, seed: int) -> Tensor:
    """[3, H, W] periodic noise with the spectrum of `patch` [3, P, P] over all directions, the same phases in every
    channel."""
    noise = torch.randn(tile, tile, generator=torch.Generator().manual_seed(seed))
    spread = patch.square().mean(dim=(1, 2), keepdim=True).sqrt() / 0.375  # the variance that remains under the window
    spread = spread * (_STRONGEST / spread.max().clamp(min=_STRONGEST))
    patch = patch - patch.mean(dim=(1, 2), keepdim=True)
    power = _isotropic(torch.fft.rfft2(patch, s=(tile, tile)).abs().square())
    texture = torch.fft.irfft2(power.sqrt() * torch.fft.rfft2(noise), s=(tile, tile))
    texture = texture / texture.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp(min=1e-9) * spread
    height, width = size
    half = texture.repeat(1, height // tile + 1, width // tile + 1)[:, :height, : (width + 1) // 2]
    return torch.cat([half, half[:, :, : width // 2].flip(2)], dim=2)


def _isotropic(power: Tensor) -> Tensor:
    """[3, T, T/2 + 1]: the power at each frequency, averaged over all directions."""
    tile = power.shape[1]
    rows, columns = torch.fft.fftfreq(tile) * tile, torch.fft.rfftfreq(tile) * tile
    ring = torch.hypot(rows[:, None], columns).round().long().flatten()
    mean, _ = means_by_bin(power.flatten(1), torch.ones(len(ring)), ring, int(ring.max()) + 1)
    return mean[:, ring].view_as(power)
