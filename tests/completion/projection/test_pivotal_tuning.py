"""A tuned copy comes closer than any latent, and the generator itself does not change."""

from __future__ import annotations

import torch
from small_stylegan2 import generator_tensors

from ostec.completion.projection.loss_terms import log_cosh
from ostec.completion.projection.pivotal_tuning import tuned_pictures
from ostec.networks.stylegan2 import Generator

GENERATOR = Generator(generator_tensors(resolution=16, channels=8))
LATENT = GENERATOR.w_avg.repeat(2, GENERATOR.num_ws, 1)
TARGET = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


def loss_function(pictures: torch.Tensor, w_plus: torch.Tensor) -> torch.Tensor:
    return log_cosh(pictures, TARGET, torch.ones(2, 1, 16, 16))


def test_the_pictures_come_closer_and_the_generator_stays() -> None:
    before = {name: tensor.clone() for name, tensor in GENERATOR.state_dict().items()}
    plain = GENERATOR.synthesis(LATENT)
    start = loss_function(plain / 2 + 0.5, LATENT)
    pictures, losses = tuned_pictures(GENERATOR, loss_function, LATENT, 60)
    assert bool((losses < 0.8 * start).all())
    assert torch.allclose(loss_function(pictures / 2 + 0.5, LATENT), losses, rtol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in GENERATOR.state_dict().items())
    assert torch.equal(GENERATOR.synthesis(LATENT), plain)


def test_no_steps_give_the_generator_s_own_picture() -> None:
    pictures, _ = tuned_pictures(GENERATOR, loss_function, LATENT, 0)
    assert torch.allclose(pictures, GENERATOR.synthesis(LATENT), atol=1e-4)


def test_a_loss_that_is_not_finite_ends_it_with_the_best_so_far() -> None:
    evaluations = 0

    def breaking(pictures: torch.Tensor, w_plus: torch.Tensor) -> torch.Tensor:
        nonlocal evaluations
        evaluations += 1
        return loss_function(pictures, w_plus) * (1 if evaluations < 20 else torch.nan)

    pictures, losses = tuned_pictures(GENERATOR, breaking, LATENT, 60)
    assert evaluations == 20 and bool(torch.isfinite(pictures).all())
    assert bool((losses < loss_function(GENERATOR.synthesis(LATENT) / 2 + 0.5, LATENT)).all())
