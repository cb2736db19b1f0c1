"""StyleGAN2 networks as rosinality/stylegan2-pytorch saves them: state dicts, weights at unit scale."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

_MAPPING_RATE = 0.01


def generator(state: Mapping[str, Tensor], mean_latent: Tensor) -> dict[str, Tensor]:
    """Tensors for `stylegan2.Generator`. Raises `KeyError` where it is another network."""
    found = {"w_avg": mean_latent.float().reshape(-1), "const": state["input.input"][0].float()}
    found["clamp"] = torch.tensor(math.inf)
    count = 0
    while f"style.{count + 1}.weight" in state:
        found[f"mapping.{count}.weight"] = _weight(state, f"style.{count + 1}") * _MAPPING_RATE
        found[f"mapping.{count}.bias"] = state[f"style.{count + 1}.bias"].float() * _MAPPING_RATE
        count += 1
    found |= _styled(state, "conv1", "4.conv", 0) | _styled(state, "to_rgb1", "4.rgb", None)
    size, index = 8, 0
    while f"to_rgbs.{index}.bias" in state:
        found |= _styled(state, f"convs.{2 * index}", f"{size}.up", 2 * index + 1)
        found |= _styled(state, f"convs.{2 * index + 1}", f"{size}.conv", 2 * index + 2)
        found |= _styled(state, f"to_rgbs.{index}", f"{size}.rgb", None)
        size, index = 2 * size, index + 1
    return found


def discriminator(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors for `stylegan2_discriminator.Discriminator`. Raises `KeyError`."""
    layers = {
        "rgb": ("convs.0.0", "convs.0.1"),
        "last.conv": ("final_conv.0", "final_conv.1"),
        "last.dense": ("final_linear.0", "final_linear.0"),
        "last.out": ("final_linear.1", "final_linear.1"),
    }
    found = {"clamp": torch.tensor(math.inf)}
    count = sum(name.endswith(".conv1.0.weight") for name in state)
    for size, block in ((4 << (count - index), f"convs.{index + 1}") for index in range(count)):
        layers[f"{size}.conv"] = f"{block}.conv1.0", f"{block}.conv1.1"
        layers[f"{size}.down"] = f"{block}.conv2.1", f"{block}.conv2.2"
        found[f"{size}.skip.weight"] = _weight(state, f"{block}.skip.1")
    for name, (kernel, bias) in layers.items():
        found |= {f"{name}.weight": _weight(state, kernel), f"{name}.bias": state[f"{bias}.bias"].float()}
    return found


def _styled(state: Mapping[str, Tensor], stored: str, name: str, noise: int | None) -> dict[str, Tensor]:
    rgb = noise is None
    style = f"{stored}.conv.modulation"
    found = {
        f"{name}.weight": _weight(state, f"{stored}.conv"),
        f"{name}.bias": state[f"{stored}.bias" if rgb else f"{stored}.activate.bias"].float().reshape(-1),
        f"{name}.style_weight": _weight(state, style),
        f"{name}.style_bias": state[f"{style}.bias"].float(),
    }
    if not rgb:
        found[f"{name}.noise"] = state[f"noises.noise_{noise}"][0, 0].float() * state[f"{stored}.noise.weight"].float()
    return found


def _weight(state: Mapping[str, Tensor], name: str) -> Tensor:
    """[O, I] or [O, I, k, k]; modulated kernels have one axis more in front."""
    weight = state[f"{name}.weight"].float()
    weight = weight[0] if weight.ndim == 5 else weight
    return weight / math.sqrt(weight[0].numel())
