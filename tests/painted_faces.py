"""Faces painted from discs, for trainings in miniature."""

from __future__ import annotations

import torch
from torch import Tensor


def painted_faces(count: int, size_px: int = 32, seed: int = 0) -> Tensor:
    """[N, 3, S, S] uint8: hair, skin, eyes and lips of random colours and places on plain backgrounds, with grain."""
    draw = torch.Generator().manual_seed(seed)
    axis = (torch.arange(size_px) + 0.5) / size_px
    y, x = torch.meshgrid(axis, axis, indexing="ij")

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=draw)

    def colour(low: float, high: float) -> Tensor:
        return between(low, high, 3)[:, :, None, None]

    def disc(centre_x: Tensor, centre_y: Tensor, wide: Tensor, high: Tensor) -> Tensor:
        off_x, off_y = (x - centre_x[:, None, None]) / wide[:, None, None], y - centre_y[:, None, None]
        return (8 * (1 - off_x.square() - (off_y / high[:, None, None]).square())).sigmoid()[:, None]

    skin = torch.lerp(torch.tensor([0.35, 0.2, 0.15]), torch.tensor([0.95, 0.8, 0.7]), between(0, 1, 1))[
        :, :, None, None
    ]
    centre_x, centre_y, wide, high = between(0.45, 0.55), between(0.48, 0.56), between(0.24, 0.3), between(0.32, 0.4)
    layers = [
        (colour(0, 0.6), disc(centre_x, centre_y - 0.1, wide + 0.06, high)),
        (skin, disc(centre_x, centre_y, wide, high)),
        (
            torch.full((count, 3, 1, 1), 0.08),
            disc(centre_x - 0.11, centre_y - 0.06, between(0.04, 0.05), between(0.03, 0.04)),
        ),
        (
            torch.full((count, 3, 1, 1), 0.08),
            disc(centre_x + 0.11, centre_y - 0.06, between(0.04, 0.05), between(0.03, 0.04)),
        ),
        (
            skin * torch.tensor([0.9, 0.4, 0.4])[:, None, None],
            disc(centre_x, centre_y + 0.17, between(0.07, 0.11), between(0.025, 0.04)),
        ),
    ]
    picture = colour(0, 1).expand(count, 3, size_px, size_px)
    for paint, cover in layers:
        picture = torch.lerp(picture, paint.expand_as(picture), cover)
    grain = 0.1 * torch.randn(picture.shape, generator=draw)
    return ((picture + grain).clamp(0, 1) * 255).round().byte()
