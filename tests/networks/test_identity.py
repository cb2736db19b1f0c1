"""Faces are cut for the identity network on the pictures' device as they are cut anywhere else."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ostec.errors import BadGeometry
from ostec.geometry.align import ARCFACE_POINTS_PX, apply_affine, arcface_crop, invert_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.networks.identity import embeddings, small_crops


def points(*sides_px: float, px: int = 256) -> Tensor:
    """[N, 5, 2]: faces of different sizes and turns near the middle of a picture, none quite as the template is."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for index, side_px in enumerate(sides_px):
        crop = square_crop(torch.tensor([px / 2, px / 2 + 3.0]), side_px, 37.0 * index - 40, 112)
        exact = apply_affine(invert_affine(crop), ARCFACE_POINTS_PX)
        found.append(exact + torch.randn(5, 2, generator=draw) * side_px / 60)
    return torch.stack(found).double()


@pytest.mark.parametrize("sides_px", [(40.0, 60.0, 100.0), (115.0, 150.0, 200.0), (80.0, 215.0, 120.0)])
def test_crops_are_those_of_the_slow_way(sides_px: tuple[float, ...]) -> None:
    pictures, five = torch.rand(len(sides_px), 3, 256, 256).double(), points(*sides_px)
    slow = torch.stack([warp(p, arcface_crop(f), (112, 112)) for p, f in zip(pictures, five, strict=True)])
    assert (small_crops(pictures, five) - slow).abs().max() < 1e-9
    assert (small_crops(pictures.float(), five) - slow).abs().max() < 3e-5, "of noise, whose slope is 1 a pixel"


def test_what_lies_outside_the_picture_has_its_border_colours() -> None:
    for size, side_px in (((130, 100), 150.0), ((90, 100), 100.0)):
        pictures, five = torch.rand(1, 3, *size).double(), points(side_px, px=60)
        slow = warp(pictures[0], arcface_crop(five[0]), (112, 112))
        assert (small_crops(pictures, five)[0] - slow).abs().max() < 1e-9


def test_gradients_are_those_of_the_slow_way() -> None:
    five, weights, gradients = points(150.0, 90.0), torch.randn(2, 3, 112, 112), []
    for cut in (
        small_crops,
        lambda pictures, five: torch.stack(
            [warp(p, arcface_crop(f), (112, 112)) for p, f in zip(pictures, five, strict=True)]
        ),
    ):
        pictures = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)).requires_grad_()
        gradients.append(torch.autograd.grad((cut(pictures, five) * weights).sum(), pictures)[0])
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


def test_landmarks_that_coincide_are_refused_or_give_no_number() -> None:
    net = nn.Flatten()
    with pytest.raises(BadGeometry):
        embeddings(net, torch.rand(1, 3, 300, 300), torch.ones(1, 68, 2))
    for value in (1.0, math.nan):
        assert math.isnan(float(embeddings(net, torch.rand(1, 3, 64, 64), torch.full((1, 68, 2), value)).sum()))
