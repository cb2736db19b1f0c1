"""The MAP estimate is the posterior mean where pictures are linear; elsewhere it is close to the true latent."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from small_stylegan2 import generator_tensors, without_mapping
from torch import Tensor

from ostec.bench.scores import psnr_db
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.starts import _NOISE_STD, MapStart
from ostec.networks.stylegan2 import Generator

LAYERS, WIDTH, SIDE = 4, 6, 8
TENSORS = without_mapping(generator_tensors(32, channels=12, width=16, z=16))


class Linear:
    """Pictures are linear in the mean of the layers' latents."""

    resolution, num_ws, z_dim, has_normal_latents = SIDE, LAYERS, WIDTH, True

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.w_avg = torch.randn(WIDTH, generator=draw)
        self.jacobian = 0.3 * torch.randn(3 * SIDE**2, WIDTH, generator=draw)

    def mapping(self, z: Tensor) -> Tensor:
        return self.w_avg + z

    def synthesis(
        self, w_plus: Tensor, resolution: int | None = None, noise: Literal["const", "none"] = "const"
    ) -> Tensor:
        return ((w_plus.mean(dim=1) - self.w_avg) @ self.jacobian.T).view(-1, 3, SIDE, SIDE)

    def reduced(self) -> Linear:
        return self

    def tunable(self) -> tuple[Linear, list[Tensor]]:
        return self, []


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_of_linear_pictures_it_is_the_mean_of_the_posterior(spread: float) -> None:
    generator, draw = Linear(), torch.Generator().manual_seed(1)
    image, trust = (torch.rand(2, channels, SIDE, SIDE, generator=draw) for channels in (3, 1))
    start = generator.w_avg + spread * torch.randn(2, LAYERS, WIDTH, generator=draw)
    found = MapStart(Pyramid(generator))(image, trust, start)
    for row in range(2):
        precise = (trust[row].expand(3, -1, -1).flatten() ** 0.5 / _NOISE_STD)[:, None]
        rows = torch.cat([precise * generator.jacobian / 2, torch.eye(WIDTH)])
        wanted = torch.cat([precise[:, 0] * (image[row].flatten() - 0.5), torch.zeros(WIDTH)])
        posterior = generator.w_avg + torch.linalg.lstsq(rows, wanted).solution
        assert torch.allclose(found[row].mean(dim=0), posterior, atol=1e-4)
    assert torch.allclose(found - found[:, :1], start - start[:, :1], atol=1e-5)


def test_where_nothing_is_known_it_is_the_mean_latent() -> None:
    generator = Generator(TENSORS)
    start = torch.randn(1, 1, 16).expand(1, generator.num_ws, -1)
    found = MapStart(Pyramid(generator))(torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), start)
    assert torch.allclose(found, generator.w_avg.expand_as(found), atol=1e-5)


def test_the_hidden_half_of_what_a_generator_made_is_found() -> None:
    generator = Generator(TENSORS)
    draw = torch.Generator().manual_seed(3)
    truth = generator.w_avg + 0.7 * torch.randn(3, 1, 16, generator=draw).expand(-1, generator.num_ws, -1)
    image, trust = generator.synthesis(truth) / 2 + 0.5, torch.zeros(3, 1, 32, 32)
    trust[..., :16] = 1
    mean = generator.w_avg.repeat(3, generator.num_ws, 1)
    found = MapStart(Pyramid(generator))(torch.where(trust > 0, image, 0.5), trust, mean)
    before, after = (generator.synthesis(w) / 2 + 0.5 for w in (mean, found))
    hidden = trust[0, 0] == 0
    for row in range(3):
        old_db, new_db = (psnr_db(pictures[row], image[row], hidden) for pictures in (before, after))
        assert new_db > old_db + 6
