"""Small StyleGAN2 networks with random weights, in this package's names."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def generator_tensors(resolution: int = 16, channels: int = 6, width: int = 8, z: int = 5) -> dict[str, Tensor]:
    """Weights whose features neither die nor grow."""
    draw = torch.Generator().manual_seed(resolution + channels)

    def normal(*shape: int, gain: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=draw) * gain

    tensors = {"w_avg": normal(width, gain=0.1), "const": normal(channels, 4, 4), "clamp": torch.tensor(math.inf)}
    for i in range(3):
        fan_in = width if i else z
        tensors |= {f"mapping.{i}.weight": normal(width, fan_in, gain=fan_in**-0.5), f"mapping.{i}.bias": normal(width)}
    size = 4
    while size <= resolution:
        for kind in ("up", "conv", "rgb")[size == 4 :]:
            out, kernel = (3, 1) if kind == "rgb" else (channels, 3)
            name = f"{size}.{kind}"
            tensors |= {
                f"{name}.weight": normal(out, channels, kernel, kernel, gain=(channels * kernel**2) ** -0.5),
                f"{name}.bias": normal(out, gain=0.1),
                f"{name}.style_weight": normal(channels, width, gain=0.5 * width**-0.5),
                f"{name}.style_bias": torch.ones(channels),
            }
            if kind != "rgb":
                tensors[f"{name}.noise"] = normal(size, size, gain=0.1)
        size *= 2
    return tensors


def without_mapping(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same generator with normally distributed latents."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("mapping")}


def discriminator_tensors(resolution: int = 16, channels: int = 6) -> dict[str, Tensor]:
    """Weights whose features neither die nor grow."""
    draw = torch.Generator().manual_seed(resolution)

    def layer(name: str, *shape: int, bias: bool = True) -> dict[str, Tensor]:
        weight = torch.randn(*shape, generator=draw) / math.sqrt(math.prod(shape[1:]))
        own = {f"{name}.weight": weight}
        return own | {f"{name}.bias": torch.randn(shape[0], generator=draw) * 0.1} if bias else own

    tensors = {"clamp": torch.tensor(math.inf)} | layer("rgb", channels, 3, 1, 1)
    size = resolution
    while size > 4:
        tensors |= layer(f"{size}.conv", channels, channels, 3, 3) | layer(f"{size}.down", channels, channels, 3, 3)
        tensors |= layer(f"{size}.skip", channels, channels, 1, 1, bias=False)
        size //= 2
    tensors |= layer("last.conv", channels, channels + 1, 3, 3) | layer("last.dense", 7, channels * 16)
    return tensors | layer("last.out", 1, 7)
