"""Scores agree with scikit-image where it has them, and with what they are said to mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity
from torch import Tensor

from ostec.bench.scores import blurred, delta_e2000, detail_ratio, psnr_db, seam_ratio, ssim, within_2_std

SIZE = (48, 40)
EVERYWHERE = torch.ones(SIZE, dtype=torch.bool)


def random_pair(seed: int) -> tuple[Tensor, Tensor]:
    """A random picture and one beside it."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(3, *SIZE, generator=generator)
    return first, (first + 0.2 * torch.randn(first.shape, generator=generator)).clamp(0, 1)


def left_half() -> Tensor:
    half = EVERYWHERE.clone()
    half[:, SIZE[1] // 2 :] = False
    return half


def as_array(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).double().numpy()


def test_psnr_of_a_known_error() -> None:
    truth = torch.full((3, *SIZE), 0.5)
    assert psnr_db(truth + 0.1, truth, EVERYWHERE) == pytest.approx(20.0, abs=1e-4)
    assert psnr_db(truth, truth, EVERYWHERE) == 100.0


def test_psnr_and_delta_e_look_at_the_region_only() -> None:
    truth, other = random_pair(0)
    half = left_half()
    mixed = torch.where(half, truth, other)
    assert psnr_db(mixed, truth, half) == 100.0
    assert delta_e2000(mixed, truth, half) == 0.0
    assert psnr_db(mixed, truth, ~half) == pytest.approx(psnr_db(other, truth, ~half))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ssim_is_scikit_images(seed: int) -> None:
    first, second = random_pair(seed)
    interior = EVERYWHERE.clone()
    interior[:5], interior[-5:], interior[:, :5], interior[:, -5:] = False, False, False, False
    expected = structural_similarity(
        as_array(first),
        as_array(second),
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(first, second, interior) == pytest.approx(expected, abs=1e-4)


def test_ssim_of_a_picture_with_itself_is_1() -> None:
    first, second = random_pair(4)
    assert ssim(first, first, EVERYWHERE) == pytest.approx(1.0, abs=1e-6)
    assert ssim(first, second, EVERYWHERE) == pytest.approx(ssim(second, first, EVERYWHERE), abs=1e-6)


@pytest.mark.parametrize("seed", [5, 6])
def test_delta_e_is_scikit_images(seed: int) -> None:
    first, second = random_pair(seed)
    expected = deltaE_ciede2000(rgb2lab(as_array(first)), rgb2lab(as_array(second))).mean()
    assert delta_e2000(first, second, EVERYWHERE) == pytest.approx(expected, abs=1e-4 * expected)


def test_delta_e_of_greys_and_of_black_is_finite() -> None:
    black, white = torch.zeros(3, *SIZE), torch.ones(3, *SIZE)
    assert delta_e2000(black, white, EVERYWHERE) == pytest.approx(100.0, abs=0.1)
    assert delta_e2000(black, black, EVERYWHERE) == 0.0


def test_blurring_keeps_constants_and_the_mean() -> None:
    constant = torch.full((2, *SIZE), 0.3)
    assert torch.allclose(blurred(constant, 2.0), constant, atol=1e-6)
    spot = torch.zeros(1, *SIZE)
    spot[0, 20, 20] = 1.0
    wide = blurred(spot, 2.0)
    assert wide.sum() == pytest.approx(1.0, abs=1e-5)
    assert torch.allclose(wide[0, 20, 14:27], wide[0, 14:27, 20], atol=1e-7)


def test_detail_ratio_is_1_for_the_same_noise_and_the_square_of_its_gain() -> None:
    noise = torch.randn(3, *SIZE)
    half = left_half()
    assert detail_ratio(noise, half, half) == pytest.approx(1.0)
    away = torch.arange(SIZE[1]).expand(SIZE) < SIZE[1] // 4
    quiet = torch.where(half, 0.5 * noise, noise)
    assert detail_ratio(quiet, away, ~half) == pytest.approx(0.25, rel=0.2)
    soft = detail_ratio(torch.where(half, blurred(noise, 2.0), noise), away, ~half)
    assert soft is not None and soft < 0.1


def test_without_detail_to_compare_with_there_is_no_ratio() -> None:
    noise = torch.randn(3, *SIZE)
    assert detail_ratio(noise, EVERYWHERE, ~EVERYWHERE) is None


def test_a_step_along_the_border_is_a_seam_and_a_ramp_is_none() -> None:
    ramp = (torch.arange(SIZE[1]) / 100).expand(3, *SIZE).contiguous()
    half = left_half()
    assert seam_ratio(ramp, EVERYWHERE, half) == pytest.approx(1.0, abs=1e-4)
    step = ramp + 0.05 * ~half
    assert seam_ratio(step, EVERYWHERE, half) == pytest.approx(6.0, abs=1e-3)


def test_the_seam_is_looked_for_on_the_chart_only() -> None:
    ramp = (torch.arange(SIZE[1]) / 100).expand(3, *SIZE).contiguous()
    half = left_half()
    assert seam_ratio(ramp, half, half) is None
    top = EVERYWHERE.clone()
    top[SIZE[0] // 2 :] = False
    broken = ramp + 0.05 * (~half & ~top)
    assert seam_ratio(broken, top, half) == pytest.approx(1.0, abs=1e-4)


def test_within_2_std_counts_the_texels_whose_error_was_foretold() -> None:
    truth = torch.full((3, 4, 4), 0.5)
    std = torch.full((4, 4), 0.1)
    std[0] = 0.01
    everywhere = torch.ones(4, 4, dtype=torch.bool)
    assert within_2_std(truth + 0.15, std, truth, everywhere) == pytest.approx(0.75)
    assert within_2_std(truth + 0.15, None, truth, everywhere) is None
    assert within_2_std(truth + 0.15, std, truth, ~everywhere) is None
