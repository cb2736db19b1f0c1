"""Sampling in pieces is sampling."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ostec.geometry.sample import sample


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(0,), (1,), (13,), (5, 7)])
def test_pieces_give_what_the_whole_gives(mode, shape: tuple[int, ...]) -> None:
    picture, at = torch.rand(3, 9, 14), 2.4 * torch.rand(*shape, 2) - 1.2
    whole = F.grid_sample(picture[None], at.view(1, 1, -1, 2), mode, "border", align_corners=False)
    assert torch.allclose(sample(picture, at, mode), whole.view(3, *shape), atol=1e-6)


def test_pixel_centres_give_the_pixels() -> None:
    picture = torch.rand(2, 4, 6)
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    assert torch.allclose(sample(picture, 2 * torch.stack([x, y], dim=-1) - 1), picture, atol=1e-5)
