"""Join the views of an atlas into one texture without seams (METHOD section 1, step 7, in the gradient domain)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

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
    target = _owned(pictures, owner)
    step_x, step_y = (_steps(pictures, seen, owner, dim) for dim in (2, 1))
    edge_x, edge_y = ((_first(inside, d) & _second(inside, d)).float() for d in (1, 0))
    scale = max(inside.shape) / 1024
    pull = torch.where(owner == len(atlas.textures), _PULL_BASE_PX_AT_1024, reach_px_at_1024)
    rgb = solve(target, inside & ~keep, step_x, step_y, edge_x, edge_y, (pull * scale) ** -2)
    rgb = torch.where(inside & ~keep, rgb.clamp(0, 1), target)
    confidence = _owned([t.confidence[None] for t in atlas.textures] + [-torch.ones_like(base[:1])], owner)[0]
    return UVTexture(rgb * inside, torch.where(inside, confidence, -1.0))


def _owned(pictures: list[Tensor], owner: Tensor) -> Tensor:
    """[C, H, W]: at each texel the picture of its owner."""
    out = torch.zeros_like(pictures[0])
    for index, picture in enumerate(pictures):
        out = torch.where(owner == index, picture, out)
    return out


def _steps(pictures: list[Tensor], seen: list[Tensor], owner: Tensor, dim: int) -> Tensor:
    """Differences between neighbours along `dim` of [3, H, W], as the owners of the two ends show them."""
    plane = dim - 1
    total = torch.zeros_like(pictures[0].narrow(dim, 1, pictures[0].shape[dim] - 1))
    count = torch.zeros_like(total[0])
    for index, (picture, visible) in enumerate(zip(pictures, seen, strict=True)):
        owns = (_first(owner, plane) == index) | (_second(owner, plane) == index)
        votes = (owns & _first(visible, plane) & _second(visible, plane)).float()
        total += votes * picture.diff(dim=dim)
        count += votes
    return total / count.clamp(min=1)


def _first(image: Tensor, dim: int) -> Tensor:
    return image.narrow(dim, 0, image.shape[dim] - 1)


def _second(image: Tensor, dim: int) -> Tensor:
    return image.narrow(dim, 1, image.shape[dim] - 1)
