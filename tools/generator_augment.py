"""Augmentation of the pictures that the discriminator sees, so that few photos suffice.

Source: "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020, section 3 and appendix B: pixel
blitting, geometry and colour, each with probability p. Real and generated pictures are changed in the same way; while p
is below about 0.8, the generator learns pictures without such changes. Resampling is bicubic, without the paper's
filters.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_SHIFT, _SCALE_STD, _FRACTION_STD = 0.125, 0.2, 0.125
"""Of whole-pixel shifts, share of the side; of log2 of scale; of other shifts, share of the side."""
_BRIGHTNESS_STD, _CONTRAST_STD, _SATURATION_STD = 0.2, 0.5, 1.0


def augmented(pictures: Tensor, p: float, draw: torch.Generator) -> Tensor:
    """[N, 3, S, S], -1..1, each change made to each picture with the chance `p`; differentiable."""
    if p <= 0:
        return pictures
    theta = geometry(len(pictures), pictures.shape[-1], p, draw)
    grid = F.affine_grid(theta[:, :2], list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures.float(), grid, "bicubic", "reflection", align_corners=False)
    matrix = colour(len(pictures), p, draw)
    tinted = torch.einsum("nij,njhw->nihw", matrix[:, :3, :3], moved)
    return tinted + matrix[:, :3, 3, None, None]


def geometry(n: int, size_px: int, p: float, draw: torch.Generator) -> Tensor:
    """[N, 3, 3]: from where in the picture (-1..1) a changed pixel comes."""
    device, chance = draw.device, _chance(n, draw)
    one, zero = torch.ones(n, device=device), torch.zeros(n, device=device)

    def uniform() -> Tensor:
        return torch.rand(n, generator=draw, device=device)

    def normal() -> Tensor:
        return torch.randn(n, generator=draw, device=device)

    def scale(x: Tensor, y: Tensor) -> Tensor:
        return _matrix([x, zero, zero, zero, y, zero, zero, zero, one])

    def shift(x: Tensor, y: Tensor) -> Tensor:
        return _matrix([one, zero, x, zero, one, y, zero, zero, one])

    def turn(angle: Tensor) -> Tensor:
        c, s = angle.cos(), angle.sin()
        return _matrix([c, -s, zero, s, c, zero, zero, zero, one])

    turns_p = 1 - math.sqrt(1 - p)
    whole = torch.stack([(uniform() * 2 - 1) * _SHIFT, (uniform() * 2 - 1) * _SHIFT])
    whole = 2 * (whole * size_px).round() / size_px
    steps = [
        scale(chance(p, 1 - 2 * (uniform() < 0.5).float(), one), one),
        turn(chance(p, (uniform() * 4).floor() * (math.pi / 2), zero)),
        shift(chance(p, whole[0], zero), chance(p, whole[1], zero)),
    ]
    size = chance(p, (normal() * _SCALE_STD).exp2(), one)
    steps += [scale(size, size), turn(chance(turns_p, (uniform() * 2 - 1) * math.pi, zero))]
    stretch = chance(p, (normal() * _SCALE_STD).exp2(), one)
    steps += [scale(stretch, 1 / stretch), turn(chance(turns_p, (uniform() * 2 - 1) * math.pi, zero))]
    far = 2 * _FRACTION_STD * torch.stack([normal(), normal()])
    moved = uniform() < p
    steps.append(shift(torch.where(moved, far[0], zero), torch.where(moved, far[1], zero)))
    theta = steps[0]
    for step in steps[1:]:
        theta = theta @ step
    return theta


def colour(n: int, p: float, draw: torch.Generator) -> Tensor:
    """[N, 4, 4]: what becomes of a colour (r, g, b, 1), -1..1."""
    device, chance = draw.device, _chance(n, draw)
    one, zero = torch.ones(n, device=device), torch.zeros(n, device=device)

    def normal() -> Tensor:
        return torch.randn(n, generator=draw, device=device)

    eye = torch.eye(4, device=device)
    grey = torch.tensor([1.0, 1.0, 1.0, 0.0], device=device) / math.sqrt(3)
    along, across = torch.outer(grey, grey), torch.diag((grey > 0).float()) - torch.outer(grey, grey)
    last = eye - torch.diag((grey > 0).float())
    spin = torch.zeros(4, 4, device=device)
    spin[:3, :3] = torch.linalg.cross(torch.eye(3, device=device), grey[:3].expand(3, 3)).T

    shift = chance(p, normal() * _BRIGHTNESS_STD, zero)[:, None, None] * torch.outer((grey > 0).float(), last[3])
    contrast = chance(p, (normal() * _CONTRAST_STD).exp2(), one)[:, None, None] * (along + across) + last
    flip = chance(p, (torch.rand(n, generator=draw, device=device) < 0.5).float(), zero)[:, None, None]
    angle = chance(p, (torch.rand(n, generator=draw, device=device) * 2 - 1) * math.pi, zero)[:, None, None]
    hue = along + last + across * angle.cos() + spin * angle.sin()
    saturation = chance(p, (normal() * _SATURATION_STD).exp2(), one)[:, None, None] * across + along + last
    return saturation @ hue @ (eye - 2 * flip * along) @ contrast @ (eye + shift)


def _chance(n: int, draw: torch.Generator) -> Callable[[float, Tensor, Tensor], Tensor]:
    """A function that picks its second argument with a chance, else its third."""

    def pick(p: float, changed: Tensor, kept: Tensor) -> Tensor:
        return torch.where(torch.rand(n, generator=draw, device=draw.device) < p, changed, kept)

    return pick


def _matrix(entries: list[Tensor]) -> Tensor:
    """[N, 3, 3] from nine [N], row by row."""
    return torch.stack(entries, dim=1).unflatten(1, (3, 3))
