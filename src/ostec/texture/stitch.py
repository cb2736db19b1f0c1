"""Join the views of an atlas into one texture without seams (METHOD section 1, step 7, in the gradient domain)."""

from __future__ import annotations

from dataclasses import replace

import torch
from numba import njit
from torch import Tensor

from ostec.geometry.bands import Bands
from ostec.texture.poisson import solve
from ostec.types import Atlas, UVTexture

_PULL_PX_AT_1024 = 110.0
_PULL_BASE_PX_AT_1024 = 80.0
"""How far from its border a view, or the base, takes to regain its own colour."""


def match_colour(view: UVTexture, photo: UVTexture) -> UVTexture:
    """Give `view` the photo's mean and standard deviation per channel, measured where both saw the face.

    The texels compared are the original's: photo confidence 0.3..0.6, view confidence above 0.7; with fewer than 100
    of them, wherever both saw it; with none, the view as it is.
    """
    both = (photo.confidence > 0.3) & (photo.confidence < 0.6) & (view.confidence > 0.7)
    if int(both.sum()) < 100:
        both = (photo.confidence > 0) & (view.confidence > 0)
    if int(both.sum()) < 2:
        return view
    theirs, ours = view.rgb[:, both], photo.rgb[:, both]
    gain = ours.std(dim=1) / theirs.std(dim=1).clamp(min=1e-3)
    moved = (view.rgb - theirs.mean(dim=1)[:, None, None]) * gain[:, None, None] + ours.mean(dim=1)[:, None, None]
    return replace(view, rgb=torch.where(view.confidence > -1, moved.clamp(0, 1), view.rgb))


def stitch(
    atlas: Atlas, inside: Tensor, keep: Tensor, base: Tensor, reach_px_at_1024: float = _PULL_PX_AT_1024
) -> UVTexture:
    """One texture: each texel follows the gradients of the view that owns it, and `base` where none does.

    `inside` [Hu, Wu] bool is the chart; texels in `keep` [Hu, Wu] bool come out as the first view has them, bit for
    bit; `base` [3, Hu, Wu] is a plain guess for texels nobody saw. Where two owners meet, the step between them is the
    one either of them shows in its own picture, so a difference in colour turns into a slow fade: after
    `reach_px_at_1024` texels, on a texture of that size, little of it is left.
    """
    owner = torch.where(inside, torch.where(keep, 0, atlas.owner()), -1)
    pictures = [*(t.rgb for t in atlas.textures), base]
    seen = [*(t.confidence > -1 for t in atlas.textures), inside]
    owner = torch.where(owner < 0, len(atlas.textures), owner)
    with Bands() as bands:
        target, steps = _gathered(pictures, seen, owner, bands)
    edge_x, edge_y = ((_first(inside, d) & _second(inside, d)).float() for d in (1, 0))
    scale = max(inside.shape) / 1024
    pull = torch.where(owner == len(atlas.textures), _PULL_BASE_PX_AT_1024, reach_px_at_1024)
    rgb = solve(target, inside & ~keep, *steps, edge_x, edge_y, (pull * scale) ** -2)
    rgb = torch.where(inside & ~keep, rgb.clamp(0, 1), target)
    confidences = torch.stack([*(t.confidence for t in atlas.textures), torch.full_like(base[0], -1.0)])
    confidence = confidences.gather(0, owner[None])[0]
    return UVTexture(rgb * inside, torch.where(inside, confidence, -1.0))


def _gathered(
    pictures: list[Tensor], seen: list[Tensor], owner: Tensor, bands: Bands
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """At each texel its owner's colour [3, H, W], and the differences to the neighbours on the right [3, H, W-1] and
    below [3, H-1, W] as the owners of the two ends show them."""
    _, height, width = pictures[0].shape
    colour = torch.zeros(3, height, width)
    steps = torch.zeros(3, height, width - 1), torch.zeros(3, height - 1, width)
    votes = torch.zeros(height, width - 1), torch.zeros(height - 1, width)
    out = colour.numpy(), *(t.numpy() for t in (*steps, *votes))
    for index, (picture, visible) in enumerate(zip(pictures, seen, strict=True)):
        arrays = owner.numpy(), picture.contiguous().numpy(), visible.numpy(), *out
        bands(height, width, lambda low, high, i=index, a=arrays: _gather_rows(low, high, i, *a))
    return colour, (steps[0].div_(votes[0].clamp_(min=1)), steps[1].div_(votes[1].clamp_(min=1)))


@njit(cache=True, nogil=True)
def _gather_rows(low, high, index, owner, picture, seen, colour, step_x, step_y, votes_x, votes_y):
    height, width = owner.shape
    for i in range(low, high):
        for j in range(width):
            here = owner[i, j] == index
            if here:
                for c in range(3):
                    colour[c, i, j] = picture[c, i, j]
            if not seen[i, j]:
                continue
            if j + 1 < width and seen[i, j + 1] and (here or owner[i, j + 1] == index):
                votes_x[i, j] += 1
                for c in range(3):
                    step_x[c, i, j] += picture[c, i, j + 1] - picture[c, i, j]
            if i + 1 < height and seen[i + 1, j] and (here or owner[i + 1, j] == index):
                votes_y[i, j] += 1
                for c in range(3):
                    step_y[c, i, j] += picture[c, i + 1, j] - picture[c, i, j]


def _first(image: Tensor, dim: int) -> Tensor:
    return image.narrow(dim, 0, image.shape[dim] - 1)


def _second(image: Tensor, dim: int) -> Tensor:
    return image.narrow(dim, 1, image.shape[dim] - 1)
