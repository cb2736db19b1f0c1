"""Portraits as a generator learns to give them back: varied, and compared. Pictures are [N, 3, S, S], -1..1."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_TURN_STD_RAD, _SCALE_STD, _SHIFT_STD = math.radians(4), 0.04, 0.03
_GAMMA_STD, _TINT_STD = 0.12, 0.06
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


def difference(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute difference of pictures and of their slopes, at this and smaller sizes; the middle counts most."""
    total = made.new_zeros(())
    for _ in range(_SCALES):
        weight, error = importance(made.shape[-1]), made - wanted
        total = total + (error.abs() * weight).mean()
        if made.shape[-1] > _LEAST_SLOPE_PX:
            total = total + (error.diff(dim=2).abs() * weight[1:]).mean()
            total = total + (error.diff(dim=3).abs() * weight[:, 1:]).mean()
        made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
    return total


def importance(size_px: int) -> Tensor:
    """[S, S]: how much each pixel of a portrait counts."""
    at = torch.linspace(-1, 1, size_px)
    return 0.2 + 1.6 * torch.exp(-((at[None] / 0.55) ** 4) - ((at[:, None] - 0.1) / 0.75) ** 4)
