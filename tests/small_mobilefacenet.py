"""Random weights of a small MobileFaceNet, by upstream's names."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NORMS = ("conv1.1", "dw_conv.bn1", "dw_conv.bn2", "conv2.1", "gdconv.bn", "bn")
"""All but the bottlenecks'."""


def small_weights() -> dict[str, Tensor]:
    """The network at an eighth of its width."""
    convs = {
        "conv1.0": (8, 3, 3, 3),
        "dw_conv.depthwise": (8, 1, 3, 3),
        "dw_conv.pointwise": (8, 8, 1, 1),
        "conv2.0": (64, 16, 1, 1),
        "gdconv.depthwise": (64, 1, 7, 7),
        "conv3": (16, 64, 1, 1),
    }
    norms = dict(zip(NORMS, (8, 8, 8, 64, 64, 16), strict=True))
    for i in range(15):
        name, width, out = f"features.{i}.conv", 8 if i < 6 else 16, 8 if i < 5 else 16
        hidden = 64 if i == 12 else 16 if i < 5 else 32
        convs[f"{name}.0.0"], convs[f"{name}.1.0"] = (hidden, width, 1, 1), (hidden, 1, 3, 3)
        convs[f"{name}.2"] = (out, hidden, 1, 1)
        norms |= {f"{name}.0.1": hidden, f"{name}.1.1": hidden, f"{name}.3": out}
    tensors = {f"{name}.weight": torch.randn(s) * math.sqrt(2 / math.prod(s[1:])) for name, s in convs.items()}
    tensors["conv3.bias"] = torch.randn(16)
    for name, channels in norms.items():
        tensors |= {f"{name}.weight": torch.rand(channels) + 0.5, f"{name}.bias": torch.randn(channels) * 0.3}
        tensors[f"{name}.running_mean"] = torch.randn(channels) * 0.3
        tensors[f"{name}.running_var"] = torch.rand(channels) + 0.5
    return tensors
