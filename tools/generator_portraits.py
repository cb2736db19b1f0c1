"""Augments, damages and compares the portraits that a generator learns to reproduce. Pictures are [N, 3, S, S],
-1..1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_TURN_STD_RAD, _SCALE_STD, _SHIFT_STD = math.radians(2), 0.015, 0.015
_GAMMA_STD, _TINT_STD = 0.12, 0.06
_DAMAGED, _MIRRORED = 0.6, 0.3
"""Share of the portraits that are damaged; of those, how many show on one side the mirror image instead of something
smooth."""
_SMOOTH_CELLS = 8
_SCALES, _LEAST_SLOPE_PX = 4, 16


def varied(faces: Tensor, draw: torch.Generator) -> Tensor:
    """Mirrored or not, shifted, turned and scaled a little, lighter or darker, a little tinted."""
    n = len(faces)

    def normal(std: float, *shape: int) -> Tensor:
        return (torch.randn(n, *shape, generator=draw) * std).clamp(-2 * std, 2 * std)

    angle, scale = normal(_TURN_STD_RAD), 1 + normal(_SCALE_STD)
    mirror = torch.where(torch.rand(n, generator=draw) < 0.5, -1.0, 1.0)
    c, s = angle.cos() * scale, angle.sin() * scale
    right, down = normal(_SHIFT_STD), normal(_SHIFT_STD)
    theta = torch.stack([c * mirror, -s, right, s * mirror, c, down], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(faces.shape), align_corners=False)
    moved = F.grid_sample(faces, grid, "bilinear", "reflection", align_corners=False)
    lit = (moved / 2 + 0.5).clamp(1e-3, 1) ** (1 + normal(_GAMMA_STD, 1, 1, 1)) * (1 + normal(_TINT_STD, 3, 1, 1))
    return lit.clamp(0, 1) * 2 - 1


def damaged(pictures: Tensor, draw: torch.Generator) -> Tensor:
    """Some of them as a view begins: on one side nothing but a guess."""
    n, size_px = len(pictures), pictures.shape[-1]
    at = torch.linspace(-1, 1, size_px, device=draw.device)
    x, y = at.expand(n, size_px, size_px), at[:, None].expand(n, size_px, size_px)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=draw, device=draw.device)

    def chance(share: float) -> Tensor:
        return torch.rand(n, 1, 1, 1, generator=draw, device=draw.device) < share

    angle, offset, soft = uniform(0, 2 * math.pi), uniform(-0.4, 0.4), uniform(0.03, 0.2)
    side = ((x * angle.cos() + y * angle.sin() - offset) / soft).sigmoid()[:, None]
    cells = F.adaptive_avg_pool2d(pictures, _SMOOTH_CELLS)
    smooth = F.interpolate(cells, size_px, mode="bicubic", align_corners=False)
    found = torch.lerp(pictures, torch.where(chance(_MIRRORED), pictures.flip(3), smooth), side)
    return torch.where(chance(_DAMAGED), found, pictures)


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of pictures and of their gradients, at this and smaller sizes; the middle has most
    weight."""
    total = made.new_zeros(())
    for _ in range(_SCALES):
        weight, error = importance(made.shape[-1]), made - wanted
        total = total + (error.abs() * weight).mean()
        if made.shape[-1] > _LEAST_SLOPE_PX:
            total = total + (error.diff(dim=2).abs() * weight[1:]).mean()
            total = total + (error.diff(dim=3).abs() * weight[:, 1:]).mean()
        made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
    return total


def shrunk(pictures: Tensor, size_px: int) -> Tensor:
    """[N, 3, R, R] to [N, 3, S, S] by means."""
    return pictures if pictures.shape[-1] == size_px else F.interpolate(pictures, size_px, mode="area")


def importance(size_px: int) -> Tensor:
    """[S, S]: how much each pixel of a portrait counts."""
    at = torch.linspace(-1, 1, size_px)
    return 0.2 + 1.6 * torch.exp(-((at[None] / 0.55) ** 4) - ((at[:, None] - 0.1) / 0.75) ** 4)
