"""Colours for texels that have none."""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F


def push_pull(image: Tensor, weight: Tensor) -> Tensor:
    """[C, H, W]: `image` where `weight` [H, W] > 0, extended smoothly into the texels of weight 0.

    Larger weights count more in the extension. 0 everywhere if no texel has a weight. (Gortler et al.,
    "The Lumigraph", 1996, section 3.4.)
    """
    known = (weight > 0)[None, None]
    levels = [(torch.where(known, image[None], 0.0), weight.clamp(min=0)[None, None])]
    while max(levels[-1][1].shape) > 1:
        levels.append(_halved(*levels[-1]))
    filled = levels.pop()[0]
    while levels:
        mean, mass = levels.pop()
        smooth = F.interpolate(filled, mean.shape[2:], mode="bilinear", align_corners=False)
        filled = torch.lerp(smooth, mean, mass.clamp(max=1))
    return torch.where(known, image[None], filled)[0]


def bleed(rgb: Tensor, inside: Tensor, px: int) -> Tensor:
    """[C, H, W]: texels up to `px` off the chart, `inside` [H, W] bool, take the nearest colour on it.

    So no other colour bleeds in when a viewer filters or shrinks the texture. All other texels are unchanged.
    """
    if px < 1 or not bool(inside.any()) or bool(inside.all()):
        return rgb
    target, source = _border(inside, px)
    filled = rgb.flatten(1).clone()
    filled[:, target] = filled[:, source]
    return filled.view_as(rgb)


@lru_cache(maxsize=2)  # tensors are hashed by identity: all faces of one model share their chart
def _border(inside: Tensor, px: int) -> tuple[Tensor, Tensor]:
    """Flat indices of the texels up to `px` off the chart, and of the nearest texel on it to each."""
    nearest = distance_transform_edt(~inside.numpy(), return_distances=False, return_indices=True)
    target = (~inside).flatten().nonzero()[:, 0]
    row, column = torch.from_numpy(nearest).flatten(1)[:, target].long()
    width = inside.shape[1]
    near = (row - target // width).square() + (column - target % width).square() <= px * px
    return target[near], (row * width + column)[near]


def _halved(mean: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean [1, C, h, w] and mean weight [1, 1, h, w] at half the size; four texels of weight 1/4 fill one."""
    size = [(n + 1) // 2 for n in mass.shape[2:]]
    total = F.interpolate(mass, size, mode="area")
    colour = F.interpolate(mean * mass, size, mode="area") / torch.where(total > 0, total, 1.0)
    return colour, (4 * total).clamp(max=1)
