"""Crops are what averaging the picture's pixels would give, mirror with the picture, and need little memory."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.align import apply_affine, invert_affine, square_crop
from ostec.geometry.sampling import means_by_bin, pixels_inside, sample, warp

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
    affine = square_crop(torch.tensor([91.3, 66.2]), side_px, roll_deg, 16)
    centres = torch.cartesian_prod(torch.arange(16) + 0.5, torch.arange(16) + 0.5).view(16, 16, 2).transpose(0, 1)
    at, pixel_px = apply_affine(invert_affine(affine), centres), side_px / 16
    inside = ((at > 2 * pixel_px) & (at < torch.tensor([190, 150]) - 2 * pixel_px)).all(dim=-1)
    misfit = (warp(picture, affine, (16, 16)) - plain_warp(picture, affine, (16, 16))).abs()[0]
    assert inside.any() and misfit[inside].max() < 0.04


@pytest.mark.parametrize("width", [200, 201])
@pytest.mark.parametrize(("side_px", "roll_deg"), [(20.0, 0.0), (90.3, 12.0), (170.7, -33.0), (420.1, 5.0)])
def test_mirroring_picture_and_affine_mirrors_the_crop(width: int, side_px: float, roll_deg: float) -> None:
    picture = torch.rand(3, 150, width)
    affine = square_crop(torch.tensor([83.17, 71.9]), side_px, roll_deg, 32)
    crop = warp(picture.flip(-1), mirrored(affine, width, 32), (32, 32))
    assert (crop.flip(-1) - warp(picture, affine, (32, 32))).abs().max() < 1e-3


def test_what_is_turned_clockwise_in_the_picture_is_upright_in_the_crop() -> None:
    centre, angle = torch.tensor([40.0, 30.0]), math.radians(25)
    right_of_centre = centre + 10 * torch.tensor([math.cos(angle), math.sin(angle)])
    affine = square_crop(centre, side_px=50.0, roll_deg=25.0, crop_px=100)
    found = apply_affine(affine, torch.stack([centre, right_of_centre]))
    assert torch.allclose(found, torch.tensor([[50.0, 50.0], [70.0, 50.0]]), atol=1e-4)


def test_outside_lies_the_border_or_nothing() -> None:
    picture, beside = torch.full((3, 40, 60), 0.5), square_crop(torch.tensor([200.0, 20.0]), 30.0, 0.0, 8)
    assert torch.allclose(warp(picture, beside, (8, 8)), torch.full((3, 8, 8), 0.5))
    assert not warp(picture, beside, (8, 8), outside="zeros").any()


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (3, 2)])
def test_a_tiny_picture_can_be_shrunk(size: tuple[int, int]) -> None:
    centre = torch.tensor([size[1] / 2, size[0] / 2])
    crop = warp(torch.full((3, *size), 0.25), square_crop(centre, 80.0, 15.0, 16), (16, 16))
    assert torch.allclose(crop, torch.full((3, 16, 16), 0.25))


def test_a_crop_does_not_look_beyond_its_surroundings() -> None:
    picture = torch.rand(3, 400, 400)
    affine = square_crop(torch.tensor([200.0, 210.0]), 96.0, 30.0, 24)
    elsewhere = torch.full_like(picture, torch.nan)
    elsewhere[:, 120:300, 110:290] = picture[:, 120:300, 110:290]
    assert torch.equal(warp(elsewhere, affine, (24, 24)), warp(picture, affine, (24, 24)))


def ramp(height: int, width: int) -> Tensor:
    """[2, H, W]: every pixel holds its centre's x and y."""
    y, x = torch.meshgrid(*(torch.arange(n) + 0.5 for n in (height, width)), indexing="ij")
    return torch.stack([x, y])


@pytest.mark.parametrize("scale", [0.11, 0.5, 0.9, 1.0, 3.0])
@pytest.mark.parametrize("angle_deg", [0.0, 25.0, 180.0])
def test_warping_moves_pixel_centres_as_the_affine_says(scale: float, angle_deg: float) -> None:
    picture, size = ramp(300, 400), (36, 40)
    crop = square_crop(torch.tensor([200.0, 150.0]), 40 / scale, angle_deg, 40)
    cut, valid = warp(picture, crop, size), pixels_inside(crop, (300, 400), size)
    expected = apply_affine(invert_affine(crop), ramp(*size).permute(1, 2, 0)).permute(2, 0, 1)
    inner = (expected > 15).all(dim=0) & (expected[0] < 385) & (expected[1] < 285)
    assert valid[inner].all() and inner.any()
    assert (cut - expected)[:, inner].abs().max() < 0.02


def test_the_identity_changes_nothing() -> None:
    picture = torch.rand(3, 30, 40)
    cut, valid = warp(picture, torch.eye(2, 3), (30, 40)), pixels_inside(torch.eye(2, 3), (30, 40), (30, 40))
    assert torch.allclose(cut, picture, atol=1e-5) and valid.all()


def test_outside_the_picture_is_not_valid_and_takes_the_borders_colour() -> None:
    picture = torch.full((3, 20, 20), 0.25)
    shift = torch.tensor([[1.0, 0, 10], [0, 1, 5]])
    cut, valid = warp(picture, shift, (30, 40)), pixels_inside(shift, (20, 20), (30, 40))
    expected = torch.zeros(30, 40, dtype=torch.bool)
    expected[5:25, 10:30] = True
    assert torch.equal(valid, expected)
    assert torch.allclose(cut, torch.full_like(cut, 0.25))


def test_shrinking_does_not_alias() -> None:
    stripes = torch.zeros(1, 512, 512)
    stripes[..., ::2] = 1
    cut = warp(stripes, square_crop(torch.tensor([256.0, 256.0]), 460.0, -10.0, 60), (60, 60))
    assert (cut[:, 12:50, 12:50] - 0.5).abs().max() < 0.05


def test_means_are_those_of_a_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    values, weight = torch.randn(3, 500, generator=draw), torch.rand(500, generator=draw)
    index = torch.randint(7, (500,), generator=draw)
    weight[:50], values[:, :25], index[:50] = 0.0, torch.nan, 10**6
    means, total = means_by_bin(values, weight, index, 9)
    for bin_ in range(9):
        here = (index == bin_) & (weight > 0)
        assert torch.allclose(total[bin_], weight[here].sum(), atol=1e-4)
        expected = (values[:, here] * weight[here]).sum(dim=1) / weight[here].sum() if here.any() else torch.zeros(3)
        assert torch.allclose(means[:, bin_], expected, atol=1e-5)
    assert not means[:, 7:].any() and not total[7:].any()


def test_planes_need_not_lie_in_one_piece() -> None:
    values = torch.arange(12.0).view(4, 3).T
    means, total = means_by_bin(values, torch.ones(4), torch.tensor([0, 1, 0, 1]), 2)
    assert means.tolist() == [[3, 6], [4, 7], [5, 8]] and total.tolist() == [2, 2]


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
