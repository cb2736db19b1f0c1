"""A small encoder with random weights."""

from __future__ import annotations

import torch
from torch import Tensor


def encoder_tensors(num_ws: int = 6, width: int = 8, halvings: int = 2, channels: int = 5) -> dict[str, Tensor]:
    """Random weights."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw) * 0.3

    tensors = {"w_avg": normal(width), "w_std": normal(width).abs(), "first.weight": normal(channels, 3, 3, 3)}
    tensors["first.bias"] = normal(channels)
    for k in range(halvings):
        for kind, kernel in (("conv", 3), ("down", 3), ("skip", 1)):
            tensors[f"{k}.{kind}.weight"] = normal(channels, channels, kernel, kernel)
            tensors |= {} if kind == "skip" else {f"{k}.{kind}.bias": normal(channels)}
    tensors |= {"dense.weight": normal(7, 16 * channels), "dense.bias": normal(7)}
    tensors["out.weight"] = normal(num_ws, width, 7)
    return tensors | {"linear.weight": 0.1 * normal(width, 48), "linear.bias": normal(width)}
