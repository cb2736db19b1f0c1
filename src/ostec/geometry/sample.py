"""Reading a picture between its pixels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

_PIECES = 8


def sample(picture: Tensor, at: Tensor, mode: Literal["bilinear", "bicubic"] = "bilinear") -> Tensor:
    """[C, H, W] at [..., 2] (x, y; -1..1 from border to border) -> [C, ...]; beyond it lie its border pixels.

    As `grid_sample`, on all cores: torch shares out nothing smaller than a picture, so the points become a few.
    """
    points = at.reshape(-1, 2)
    each = -(-len(points) // _PIECES)
    pieces = F.pad(points, (0, 0, 0, _PIECES * each - len(points))).view(_PIECES, 1, each, 2)
    pictures = picture.expand(_PIECES, -1, -1, -1)
    sampled = F.grid_sample(pictures, pieces, mode, "border", align_corners=False)
    return sampled[:, :, 0].transpose(0, 1).flatten(1)[:, : len(points)].view(len(picture), *at.shape[:-1])
