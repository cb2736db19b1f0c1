"""Crops are what averaging the picture's pixels would give, mirror with the picture, and need little memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ostec.geometry.warp import apply_affine, invert_affine, similarity, warp

MIRROR = torch.tensor([[-1.0, 0, 0], [0, 1, 0]], dtype=torch.float64)


def mirrored(affine: Tensor, picture_width: int, crop_width: int) -> Tensor:
    """[2, 3]: the affine from the mirrored picture to the mirrored crop."""
    flipped = affine.clone().double()
    flipped[0, 1:] *= -1
    flipped[1, 0] *= -1
    flipped[:, 2] += torch.stack([torch.tensor(0.0).double(), affine[1, 0].double() * picture_width])
    flipped[0, 2] += crop_width - affine[0, 0].double() * picture_width
    return flipped


def plain_warp(picture: Tensor, affine: Tensor, size: tuple[int, int]) -> Tensor:
    """The slow twin: every crop pixel is the mean of 16x16 bilinear samples within it, the border going on outside."""
    back, crop = invert_affine(affine), torch.zeros(len(picture), *size)
    offsets = (torch.arange(16) + 0.5) / 16
    for i in range(size[0]):
        for j in range(size[1]):
            at = torch.cartesian_prod(j + offsets, i + offsets).double()
            x, y = (apply_affine(back, at) - 0.5).T
            total = torch.zeros(len(picture), len(at))
            for dx in (0, 1):
                for dy in (0, 1):
                    column, row = x.floor().long() + dx, y.floor().long() + dy
                    weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
                    inside = picture[:, row.clamp(0, picture.shape[1] - 1), column.clamp(0, picture.shape[2] - 1)]
                    total += weight.float() * inside
            crop[:, i, j] = total.mean(dim=1)
    return crop


def smooth_picture(height: int, width: int, period_px: float) -> Tensor:
    """[1, H, W]: waves in two directions."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    turn = 2 * math.pi / period_px
    return (0.5 + 0.25 * (turn * x).sin() + 0.25 * (turn * (0.6 * y - 0.8 * x)).cos())[None]


@pytest.mark.parametrize(
    ("side_px", "roll_deg", "period_px"),
    [(9.0, 10.0, 9.0), (40.0, -30.0, 16.0), (130.0, 20.0, 70.0), (200.0, 170.0, 90.0)],
)
def test_a_crop_is_the_mean_of_the_picture_under_each_pixel(side_px: float, roll_deg: float, period_px: float) -> None:
    picture = smooth_picture(150, 190, period_px)
    affine = similarity(torch.tensor([91.3, 66.2]), side_px, roll_deg, 16)
    centres = torch.cartesian_prod(torch.arange(16) + 0.5, torch.arange(16) + 0.5).view(16, 16, 2).transpose(0, 1)
    at, pixel_px = apply_affine(invert_affine(affine), centres), side_px / 16
    inside = ((at > 2 * pixel_px) & (at < torch.tensor([190, 150]) - 2 * pixel_px)).all(dim=-1)
    misfit = (warp(picture, affine, (16, 16)) - plain_warp(picture, affine, (16, 16))).abs()[0]
    assert inside.any() and misfit[inside].max() < 0.04


@pytest.mark.parametrize("width", [200, 201])
@pytest.mark.parametrize(("side_px", "roll_deg"), [(20.0, 0.0), (90.3, 12.0), (170.7, -33.0), (420.1, 5.0)])
def test_mirroring_picture_and_affine_mirrors_the_crop(width: int, side_px: float, roll_deg: float) -> None:
    picture = torch.rand(3, 150, width)
    affine = similarity(torch.tensor([83.17, 71.9]), side_px, roll_deg, 32)
    crop = warp(picture.flip(-1), mirrored(affine, width, 32), (32, 32))
    assert (crop.flip(-1) - warp(picture, affine, (32, 32))).abs().max() < 1e-3


def test_what_is_turned_clockwise_in_the_picture_is_upright_in_the_crop() -> None:
    centre, angle = torch.tensor([40.0, 30.0]), math.radians(25)
    right_of_centre = centre + 10 * torch.tensor([math.cos(angle), math.sin(angle)])
    affine = similarity(centre, side_px=50.0, roll_deg=25.0, crop_px=100)
    found = apply_affine(affine, torch.stack([centre, right_of_centre]))
    assert torch.allclose(found, torch.tensor([[50.0, 50.0], [70.0, 50.0]]), atol=1e-4)


def test_outside_lies_the_border_or_nothing() -> None:
    picture, beside = torch.full((3, 40, 60), 0.5), similarity(torch.tensor([200.0, 20.0]), 30.0, 0.0, 8)
    assert torch.allclose(warp(picture, beside, (8, 8)), torch.full((3, 8, 8), 0.5))
    assert not warp(picture, beside, (8, 8), outside="zeros").any()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_a_tiny_picture_can_be_shrunk(size: tuple[int, int]) -> None:
    centre = torch.tensor([size[1] / 2, size[0] / 2])
    crop = warp(torch.full((3, *size), 0.25), similarity(centre, 80.0, 15.0, 16), (16, 16))
    assert torch.allclose(crop, torch.full((3, 16, 16), 0.25))


def test_a_crop_does_not_look_beyond_its_surroundings() -> None:
    picture = torch.rand(3, 400, 400)
    affine = similarity(torch.tensor([200.0, 210.0]), 96.0, 30.0, 24)
    elsewhere = torch.full_like(picture, torch.nan)
    elsewhere[:, 120:300, 110:290] = picture[:, 120:300, 110:290]
    assert torch.equal(warp(elsewhere, affine, (24, 24)), warp(picture, affine, (24, 24)))
