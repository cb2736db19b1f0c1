"""A Fréchet distance between the distributions of generated and of real pictures.

Like the Fréchet inception distance (Heusel et al., NeurIPS 2017), but with features of random, untrained filters at
four scales and sixteen places. A quarter of the features are mean colours; the others are logarithms of the energy, so
that fine detail, whose energy is small, has the same weight as coarse. Such figures compare only with each other.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SCALES, _FILTERS, _KERNEL, _CELLS = 4, 24, 5, 4
_LEAST_PX = 8
_LEAST_ENERGY = 5e-3
"""What is fainter than about nine of 255 steps does not matter."""
_FEATURES = 256
_SEED = 20
_BATCH = 100


@torch.no_grad()
def features(pictures: Tensor) -> Tensor:
    """[N, 256] float64 of pictures [N, 3, S, S], -1..1; on the pictures' device, the result on the CPU."""
    return torch.cat([_features(batch) for batch in pictures.split(_BATCH)])


def _features(pictures: Tensor) -> Tensor:
    draw = torch.Generator().manual_seed(_SEED)
    x, found = pictures.float(), []
    tints = torch.arange(_FILTERS) % 4 == 0
    for _ in range(_SCALES):
        kernel = torch.randn(_FILTERS, 3, _KERNEL, _KERNEL, generator=draw)
        kernel = torch.where(tints[:, None, None, None], kernel, kernel - kernel.mean(dim=(2, 3), keepdim=True))
        kernel = kernel / kernel.flatten(1).norm(dim=1)[:, None, None, None]
        if x.shape[-1] >= _LEAST_PX:
            seen = F.conv2d(F.pad(x, [_KERNEL // 2] * 4, mode="replicate"), kernel.to(x))
            found.append(F.adaptive_avg_pool2d(seen[:, tints], _CELLS).flatten(1))
            found.append((F.adaptive_avg_pool2d(seen[:, ~tints].square(), _CELLS) + _LEAST_ENERGY).log().flatten(1))
        x = F.avg_pool2d(x, 2)
    flat = torch.cat(found, dim=1)
    mixing = torch.randn(flat.shape[1], _FEATURES, generator=draw) / flat.shape[1] ** 0.5
    return (flat @ mixing.to(flat)).double().cpu()


def frechet(first: Tensor, second: Tensor) -> float:
    """Fréchet distance between the normal distributions of two sets of features [N, F], [M, F]; 0 where they agree."""
    mean_1, mean_2 = first.mean(dim=0), second.mean(dim=0)
    cov_1, cov_2 = first.T.cov(), second.T.cov()
    values, vectors = torch.linalg.eigh(cov_1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    both = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * both
    return float(distance.clamp(min=0))


def score(real: Tensor, generated: Tensor) -> float:
    """100 times the distance over the spread of the `real` features [N, F]: 0 is alike, 100 as far as one face is from
    the mean."""
    return 100 * frechet(real, generated) / float(real.T.cov().trace())
