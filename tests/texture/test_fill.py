"""Filling: what is known stays, what is constant stays constant, and nothing reaches further than it should."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ostec.texture.fill import bleed, push_pull

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


def holes(size: tuple[int, int], seed: int, share: float = 0.3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.rand(size, generator=generator)
    return torch.where(weight < share, weight, 0.0)


@given(sizes, st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_known_texels_are_kept_and_nothing_leaves_their_range(size: tuple[int, int], seed: int) -> None:
    weight = holes(size, seed)
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(seed))
    filled = push_pull(image, weight)
    known = weight > 0
    assert torch.equal(filled[:, known], image[:, known])
    if known.any():
        low, high = image[:, known].amin(dim=1), image[:, known].amax(dim=1)
        assert (filled >= low[:, None, None] - 1e-5).all() and (filled <= high[:, None, None] + 1e-5).all()


@given(sizes, st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_constant_stays_constant(size: tuple[int, int], seed: int) -> None:
    weight = holes(size, seed)
    weight[0, 0] = 1
    image = torch.where(weight > 0, 0.37, torch.nan).expand(2, *size)
    assert torch.allclose(push_pull(image, weight), torch.tensor(0.37), atol=1e-5)


def test_with_nothing_known_there_is_nothing() -> None:
    assert (push_pull(torch.rand(3, 9, 12), torch.zeros(9, 12)) == 0).all()


def test_a_hole_in_a_slope_is_bridged_smoothly() -> None:
    slope = torch.linspace(0, 1, 128).expand(1, 128, 128)
    weight = torch.ones(128, 128)
    weight[40:80, 50:90] = 0
    filled = push_pull(slope, weight)
    assert (filled - slope).abs().max() < 0.15
    assert filled.diff(dim=2).abs().max() < 0.1


@pytest.mark.parametrize("size", [(64, 64), (50, 96)])
def test_mirroring_mirrors_the_filling(size: tuple[int, int]) -> None:
    image, weight = torch.rand(3, *size), holes(size, 3, 0.02)
    assert torch.allclose(push_pull(image.flip(2), weight.flip(1)).flip(2), push_pull(image, weight), atol=1e-5)


def test_bleeding_takes_the_nearest_colour_and_stops() -> None:
    rgb = torch.rand(3, 40, 50)
    inside = torch.zeros(40, 50, dtype=torch.bool)
    inside[10:30, 10:30] = True
    filled = bleed(rgb, inside, 4)
    assert torch.equal(filled[:, inside], rgb[:, inside])
    assert torch.equal(filled[:, 15, 30:34], rgb[:, 15, 29, None].expand(-1, 4))
    assert torch.equal(filled[:, 8, 31], rgb[:, 10, 29])
    assert torch.equal(filled[:, 15, 34:], rgb[:, 15, 34:])
    assert torch.equal(filled[:, 6, 33], rgb[:, 6, 33])


@pytest.mark.parametrize("value", [True, False])
def test_bleeding_without_a_border_changes_nothing(value: bool) -> None:
    rgb = torch.rand(3, 9, 8)
    assert torch.equal(bleed(rgb, torch.full((9, 8), value), 5), rgb)
