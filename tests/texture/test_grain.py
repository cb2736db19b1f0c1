"""Synthetic grain has the strength and the spectrum of the skin it was taken from."""

from __future__ import annotations

import pytest
import torch

from ostec.texture.grain import skin_grain
from ostec.types import UVTexture

SIZE = 512


def stripes(period_px: float, vertical: bool) -> torch.Tensor:
    axis = torch.arange(SIZE) * (2 * torch.pi / period_px)
    wave = 0.02 * torch.sin(axis)
    plane = wave[None, :].expand(SIZE, -1) if vertical else wave[:, None].expand(-1, SIZE)
    return -0.7 + plane.expand(3, -1, -1) * torch.tensor([1.0, 0.5, 0.25])[:, None, None]


def grain(log_rgb: torch.Tensor, confidence: float = 1.0, seed: int = 0) -> torch.Tensor:
    seen = UVTexture(log_rgb.exp(), torch.full((SIZE, SIZE), confidence))
    return skin_grain(seen, log_rgb, seed)


@pytest.mark.parametrize("vertical", [True, False])
def test_the_grain_repeats_period_strength_and_colour_of_the_skin_but_no_direction(vertical: bool) -> None:
    made = grain(stripes(4, vertical))
    power = torch.fft.rfft2(made[0, :, : SIZE // 2]).abs().square()
    rows, columns = torch.fft.fftfreq(SIZE), torch.fft.rfftfreq(SIZE // 2)
    cycles = torch.hypot(rows[:, None], columns)
    assert float((power * cycles).sum() / power.sum()) == pytest.approx(1 / 4, rel=0.05)
    across = rows.abs()[:, None] < columns
    assert float(power[across].sum() / power.sum()) == pytest.approx(0.5, abs=0.05)
    assert made.std(dim=(1, 2)).tolist() == pytest.approx([0.0141, 0.0071, 0.0035], rel=0.25)


def test_mirrored_skin_gives_the_mirrored_grain() -> None:
    diagonal = torch.arange(SIZE)[:, None] + torch.arange(SIZE)
    log_rgb = -0.7 + (0.05 * torch.sin(diagonal * (torch.pi / 2.5))).expand(3, -1, -1)
    made, mirrored = grain(log_rgb), grain(log_rgb.flip(2))
    assert (made - made.flip(2)).abs().max() < 1e-5
    assert (made.square().mean() - mirrored.square().mean()).abs() < 0.05 * made.square().mean()


def test_unseen_skin_gives_none_and_the_seed_decides_the_rest() -> None:
    log_rgb = stripes(4, True)
    assert not grain(log_rgb, confidence=0.2).any()
    assert torch.equal(grain(log_rgb, seed=3), grain(log_rgb, seed=3))
    assert not torch.equal(grain(log_rgb, seed=3), grain(log_rgb, seed=4))


def test_even_skin_has_no_grain() -> None:
    assert grain(torch.full((3, SIZE, SIZE), -0.7)).abs().max() < 1e-5


def test_deep_wrinkles_do_not_make_rough_grain() -> None:
    assert grain(-0.7 + 20 * (stripes(4, True) + 0.7)).std(dim=(1, 2)).max() < 0.025
