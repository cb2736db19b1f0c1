"""Means of what falls into the same bin."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor


def means_by_bin(values: Tensor, weight: Tensor, index: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """([C, bins], [bins]): weighted means of `values` [C, N] by `index` [N] in 0..bins-1, and the sums of `weight` [N].

    Where the weight is 0, neither value nor index is read. The mean of an empty bin is 0.
    """
    sums, total = np.zeros((len(values), bins)), np.zeros(bins)
    _add_up(values.contiguous().numpy(), weight.numpy(), index.numpy(), sums, total)
    means = torch.from_numpy(sums / np.maximum(total, 1e-6))
    return means.float(), torch.from_numpy(total).float()


@njit(cache=True, nogil=True)
def _add_up(values, weight, index, sums, total):
    for n in range(len(weight)):
        share = weight[n]
        if share > 0:
            total[index[n]] += share
            for channel in range(len(values)):
                sums[channel, index[n]] += share * values[channel, n]
