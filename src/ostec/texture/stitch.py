"""Join the entries of an atlas into one texture without seams, in the gradient domain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ostec.geometry.bands import Bands
from ostec.geometry.compiled import compiled
from ostec.texture.poisson import TOLERANCE, solve
from ostec.types import Atlas, UVTexture

_PULL_PX_AT_1024 = 110.0
_PULL_BASE_PX_AT_1024 = 80.0
"""Distance from its border at which a view, or the base, has its own colour back."""
_DRAFT_TOLERANCE = 4e-3


def match_colour(view: UVTexture, photo: UVTexture, spread: bool = True) -> UVTexture:
    """Give `view` the photo's mean and (`spread`) standard deviation per channel, measured where both saw the face.

    The texels compared are those of the released code: photo confidence 0.3..0.6, view confidence above 0.7; with
    fewer than 100 of them, all that both saw; with none, the view is returned unchanged.
    """
    both = (photo.confidence > 0.3) & (photo.confidence < 0.6) & (view.confidence > 0.7)
    if int(both.sum()) < 100:
        both = (photo.confidence > 0) & (view.confidence > 0)
    if int(both.sum()) < 2:
        return view
    theirs, ours = view.rgb[:, both], photo.rgb[:, both]
    gain = ours.std(dim=1) / theirs.std(dim=1).clamp(min=1e-3) if spread else torch.ones(3)
    moved = (view.rgb - theirs.mean(dim=1)[:, None, None]) * gain[:, None, None] + ours.mean(dim=1)[:, None, None]
    return replace(view, rgb=torch.where(view.confidence > -1, moved.clamp(0, 1), view.rgb))


def stitch(
    atlas: Atlas,
    inside: Tensor,
    keep: Tensor,
    base: Tensor,
    reach_px_at_1024: float = _PULL_PX_AT_1024,
    draft: bool = False,
) -> UVTexture:
    """One texture: each texel follows the gradients of the entry that owns it, and those of `base` where none does.

    `inside` [Hu, Wu] bool is the chart; texels in `keep` [Hu, Wu] bool come out as the first entry has them, bit for
    bit; `base` [3, Hu, Wu] colours texels that no entry saw. Where two owners meet, the step between their texels is
    the mean of the steps that they show there, so a difference in colour becomes a slow fade: after `reach_px_at_1024`
    texels, on a texture of that size, little of it is left. A `draft` takes two thirds of the time and may differ by
    one level of 255.
    """
    owner = torch.where(inside, torch.where(keep, 0, atlas.owner()), -1)
    pictures = [*(t.rgb for t in atlas.textures), base]
    seen = [*(t.confidence > -1 for t in atlas.textures), inside]
    owner = torch.where(owner < 0, len(atlas.textures), owner)
    with Bands() as bands:
        target, steps = _owners_gradients(pictures, seen, owner, bands)
    edges = (inside[:, :-1] & inside[:, 1:]).float(), (inside[:-1] & inside[1:]).float()
    scale = max(inside.shape) / 1024
    pull = torch.where(owner == len(atlas.textures), _PULL_BASE_PX_AT_1024, reach_px_at_1024)
    tolerance = _DRAFT_TOLERANCE if draft else TOLERANCE
    rgb = solve(target, inside & ~keep, steps, edges, (pull * scale) ** -2, tolerance)
    rgb = torch.where(inside & ~keep, rgb.clamp(0, 1), target)
    confidences = torch.stack([*(t.confidence for t in atlas.textures), torch.full_like(base[0], -1.0)])
    confidence = confidences.gather(0, owner[None])[0]
    return UVTexture(rgb * inside, torch.where(inside, confidence, -1.0))


def _owners_gradients(
    pictures: list[Tensor], seen: list[Tensor], owner: Tensor, bands: Bands
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """At each texel its owner's colour [3, H, W], and the differences to the neighbours on the right [3, H, W-1] and
    below [3, H-1, W] as the owners of the two ends show them."""
    _, height, width = pictures[0].shape
    colour = torch.zeros(3, height, width)
    steps = torch.zeros(3, height, width - 1), torch.zeros(3, height - 1, width)
    votes = torch.zeros(height, width - 1), torch.zeros(height - 1, width)
    out = tuple(plane.numpy() for plane in (colour, *steps, *votes))
    owner = owner.to(torch.uint8)  # read once for every picture
    for index, (picture, visible) in enumerate(zip(pictures, seen, strict=True)):
        arrays = owner.numpy(), picture.contiguous().numpy(), visible.numpy(), out
        bands(height, width, lambda low, high, i=index, a=arrays: _gather_rows(low, high, i, *a))
    return colour, (steps[0].div_(votes[0].clamp_(min=1)), steps[1].div_(votes[1].clamp_(min=1)))


@compiled()
def _gather_rows(low, high, index, owner, picture, seen, out):
    """Add what picture `index` shows: colours at its own texels, steps and their number where it owns either end."""
    colour, step_x, step_y, votes_x, votes_y = out
    height, width = owner.shape
    counts = np.zeros(width, np.float32)
    for i in range(low, high):
        first, end = _span(owner[i], index)
        if i + 1 < height:
            below, below_end = _span(owner[i + 1], index)
            first, end = min(first, below), max(end, below_end)
        left, right = slice(max(first - 1, 0), min(end, width - 1)), slice(max(first, 1), min(end, width - 1) + 1)
        for c in range(3):
            for j in range(first, end):
                colour[c, i, j] += picture[c, i, j] if owner[i, j] == index else 0
        _vote(index, owner[i, left], owner[i, right], seen[i, left], seen[i, right], counts, votes_x[i, left])
        for c in range(3):
            _add_steps(counts, picture[c, i, left], picture[c, i, right], step_x[c, i, left])
        if i + 1 < height:
            same = slice(first, end)
            _vote(index, owner[i, same], owner[i + 1, same], seen[i, same], seen[i + 1, same], counts, votes_y[i, same])
            for c in range(3):
                _add_steps(counts, picture[c, i, same], picture[c, i + 1, same], step_y[c, i, same])


@compiled()
def _vote(index, owners, others, seen, others_seen, counts, votes):
    """1 in `counts` where picture `index` owns one of both ends and sees both, else 0; added to `votes`."""
    for j in range(len(owners)):
        counts[j] = seen[j] & others_seen[j] & ((owners[j] == index) | (others[j] == index))
        votes[j] += counts[j]


@compiled()
def _add_steps(counts, here, there, steps):
    for j in range(len(here)):
        steps[j] += counts[j] * (there[j] - here[j])


@compiled()
def _span(owners, index):
    """(first, end) of the part of a row that contains all `index`; empty where there is none."""
    first, end = 0, len(owners)
    while first < end and owners[first] != index:
        first += 1
    while end > first and owners[end - 1] != index:
        end -= 1
    return (first, end) if first < end else (len(owners), 0)
