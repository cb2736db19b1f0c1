"""The likeliest latent of a generator whose latents are normally distributed, in a few steps of Gauss-Newton.

With independent noise on the pixels, that is where the squared error of what is known, over the noise, and the squared
distance from the mean latent add up to the least. The slopes are those at the mean latent throughout: such a generator
is nearly linear in pictures this small, and the residual, which is exact, mends the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ostec.completion.projection.search import Plan, Pyramid, shrunk, shrunk_known
from ostec.interfaces import Generator

_SMALL_PX = 32
_SMALL = Plan("ggt", 0.0, ((_SMALL_PX, 1.0),))
_NOISE_STD = 0.055
"""Of a pixel, 0..1: what such a picture leaves unexplained, and some more as neighbours err alike."""
_ROUNDS, _STEP, _CHUNK = 3, 0.25, 32


@dataclass(frozen=True)
class Slopes:
    """A generator's small pictures near the mean latent."""

    pyramid: Pyramid
    jacobian: Tensor
    """[3 P², W]."""

    @classmethod
    @lru_cache(maxsize=2)  # generators are hashed by identity
    @torch.no_grad()
    def of(cls, generator: Generator, seed: int) -> Slopes:
        """By differences."""
        pyramid, rows = Pyramid.of(generator, _SMALL, seed), []
        mean = generator.w_avg.expand(1, generator.num_ws, -1)
        for steps in (_STEP * torch.eye(len(generator.w_avg)).to(generator.w_avg)).split(_CHUNK):
            ahead, behind = (_small(pyramid, mean + s[:, None]) for s in (steps, -steps))
            rows.append((ahead - behind).flatten(1) / (2 * _STEP))
        return cls(pyramid, torch.cat(rows).T.contiguous())


@torch.no_grad()
def likeliest(generator: Generator, image: Tensor, trust: Tensor, start: Tensor, seed: int) -> Tensor:
    """[N, L, W]: the latents `start`, those of a picture moved alike, for pictures [N, 3, R, R], 0..1, that are known
    as far as `trust` [N, 1, R, R] says."""
    slopes = Slopes.of(generator, seed)
    wanted, share = shrunk_known(image, trust, _side_px(generator))
    weight = (share / _NOISE_STD**2).expand_as(wanted).flatten(1)
    identity = torch.eye(start.shape[2]).to(start)
    curvature = torch.stack([slopes.jacobian.T @ (row[:, None] * slopes.jacobian) for row in weight]) + identity
    factor, w_plus = torch.linalg.cholesky(curvature), start
    for _ in range(_ROUNDS):
        error = (wanted - _small(slopes.pyramid, w_plus)).flatten(1)
        downhill = (weight * error) @ slopes.jacobian - (w_plus.mean(dim=1) - generator.w_avg)
        w_plus = w_plus + torch.cholesky_solve(downhill[..., None], factor).mT
    return w_plus


def _small(pyramid: Pyramid, w_plus: Tensor) -> Tensor:
    """[N, 3, P, P], about 0..1."""
    size_px = _side_px(pyramid.generator)
    return shrunk(pyramid.picture(w_plus, pyramid.faithful(size_px)), size_px)


def _side_px(generator: Generator) -> int:
    return min(_SMALL_PX, generator.resolution)
