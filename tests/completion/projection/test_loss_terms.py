"""Loss terms give known answers, and slopes that finite differences confirm."""

from __future__ import annotations

import math

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from ostec.completion.projection import loss_terms

SEEN = torch.ones(2, 1, 32, 32)


def pictures(seed: int, size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))


def of_features(generated: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    return loss_terms.feature_loss(*((x * mask)[:, :, ::2, ::2] * 3 for x in (generated, target)))


TERMS = {"log_cosh": loss_terms.log_cosh, "ms_ssim": loss_terms.ms_ssim_loss, "features": of_features}


@pytest.mark.parametrize("name", TERMS)
def test_equal_pictures_cost_nothing_and_hidden_pixels_do_not_count(name: str) -> None:
    term, target, mask = TERMS[name], pictures(0), SEEN.clone()
    mask[..., 16:] = 0
    other = torch.where(mask > 0, target, pictures(1))
    for first in (target, other):
        assert torch.allclose(term(first, target, mask), torch.zeros(2), atol=1e-5)
    assert bool((term(pictures(1), target, mask) > 1e-3).all())


@pytest.mark.parametrize("name", TERMS)
def test_faces_of_a_batch_do_not_mix(name: str) -> None:
    both = TERMS[name](pictures(1), pictures(0), SEEN)
    alone = [TERMS[name](pictures(1)[i : i + 1], pictures(0)[i : i + 1], SEEN[:1]) for i in range(2)]
    assert torch.allclose(both, torch.cat(alone), atol=1e-5)


@pytest.mark.parametrize("name", TERMS)
def test_slopes_are_those_of_finite_differences(name: str) -> None:
    x, step = pictures(1).double().requires_grad_(), torch.randn(2, 3, 32, 32, dtype=torch.float64) * 1e-5
    target = pictures(0).double()
    (slope,) = torch.autograd.grad(TERMS[name](x, target, SEEN.double()).sum(), x)
    x = x.detach()
    rise = TERMS[name](x + step, target, SEEN.double()) - TERMS[name](x - step, target, SEEN.double())
    assert float(rise.sum()) == pytest.approx(2 * float((slope * step).sum()), rel=1e-3)


def test_log_cosh_of_known_differences() -> None:
    target = torch.zeros(2, 3, 8, 8)
    generated = torch.stack([torch.full((3, 8, 8), 0.1 / 255), torch.full((3, 8, 8), 100 / 255)])
    truth = torch.tensor([math.log(math.cosh(0.1)), 100 - math.log(2)])
    assert torch.allclose(loss_terms.log_cosh(generated, target, torch.ones(2, 1, 8, 8)), truth, rtol=1e-3)


def test_one_scale_is_the_ssim_of_scikit_image() -> None:
    """Pictures of 21 px have room for one scale only."""
    first, second = pictures(0, 21), pictures(1, 21) * 0.5 + pictures(0, 21) * 0.5
    ours = loss_terms.ms_ssim_loss(second, first, torch.ones(2, 1, 21, 21))
    for i in range(2):
        a, b = first[i].permute(1, 2, 0).numpy(), second[i].permute(1, 2, 0).numpy()
        theirs = structural_similarity(
            a,
            b,
            channel_axis=2,
            full=True,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
        )
        assert 1 - float(ours[i]) == pytest.approx(theirs[1][5:-5, 5:-5].mean(), abs=1e-4)  # pyright: ignore


def test_coarse_differences_count_at_more_scales_than_fine_ones() -> None:
    axis = torch.arange(256) / 256 * 2 * math.pi
    plane = torch.full((1, 3, 256, 256), 0.5)
    fine, coarse = (plane + 0.1 * torch.sin(axis * waves).expand(1, 3, 256, 256) for waves in (100, 8))
    seen = torch.ones(1, 1, 256, 256)
    assert float(loss_terms.ms_ssim_loss(coarse, plane, seen)) > 1.5 * float(loss_terms.ms_ssim_loss(fine, plane, seen))


def test_latent_penalty_is_the_distance_from_the_mean() -> None:
    w_avg = torch.randn(8)
    w_plus = w_avg + torch.tensor([0.0, 0.5])[:, None, None].expand(2, 4, 8)
    assert torch.allclose(loss_terms.latent_penalty(w_plus, w_avg), torch.tensor([0.0, 4.0]))


def test_realism_falls_where_the_discriminator_is_convinced() -> None:
    def bright_is_real(picture: Tensor) -> Tensor:
        return picture.mean().view(1, 1) * 4

    shades = torch.tensor([0.1, 0.9])[:, None, None, None].expand(2, 3, 8, 8)
    dark, bright = loss_terms.realism_loss(bright_is_real, shades).tolist()
    assert bright < math.log(2) < dark


def test_landmark_loss_is_in_shares_of_the_picture() -> None:
    wanted = torch.rand(2, 68, 2) * 64
    off = wanted + torch.tensor([6.4, 0.0])
    assert torch.allclose(loss_terms.landmark_loss(off, wanted, 64), torch.full((2,), 0.01))
    off[:, :34] = wanted[:, :34]
    assert torch.allclose(loss_terms.landmark_loss(off, wanted, 64), torch.full((2,), 0.005))


def test_heat_maps_that_do_not_meet_cost_the_squares_of_both() -> None:
    seen, drawn = torch.zeros(2, 68, 8, 8), torch.zeros(2, 68, 8, 8)
    seen[1, 0, 2, 2], drawn[1, 0, 5, 5], drawn[1, 1, 3, 3], seen[1, 1, 3, 3] = 1.0, 2.0, 1.0, 1.0
    assert torch.allclose(loss_terms.heat_map_loss(seen, drawn), torch.tensor([0.0, 5 / 64]))


def test_identity_loss_is_one_minus_the_cosine() -> None:
    wanted = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    assert torch.allclose(
        loss_terms.identity_loss(torch.tensor([[2.0, 0], [0, 3], [-1, 0]]), wanted), torch.tensor([0.0, 1, 2])
    )
