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
        weight, bias = _dense(state, f"style.{count + 1}")
        found |= {f"mapping.{count}.weight": weight * _MAPPING_RATE, f"mapping.{count}.bias": bias * _MAPPING_RATE}
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
    count = 0
    while f"convs.{count + 1}.conv1.0.weight" in state:
        count += 1
    found = {"clamp": torch.tensor(math.inf), "rgb.weight": _kernel(state, "convs.0.0.weight")}
    found["rgb.bias"] = state["convs.0.1.bias"].float()
    for index in range(1, count + 1):
        size, block = 4 << (count + 1 - index), f"convs.{index}"
        found |= {
            f"{size}.conv.weight": _kernel(state, f"{block}.conv1.0.weight"),
            f"{size}.conv.bias": state[f"{block}.conv1.1.bias"].float(),
            f"{size}.down.weight": _kernel(state, f"{block}.conv2.1.weight"),
            f"{size}.down.bias": state[f"{block}.conv2.2.bias"].float(),
            f"{size}.skip.weight": _kernel(state, f"{block}.skip.1.weight"),
        }
    found |= {"last.conv.weight": _kernel(state, "final_conv.0.weight"), "last.conv.bias": state["final_conv.1.bias"]}
    found["last.dense.weight"], found["last.dense.bias"] = _dense(state, "final_linear.0")
    found["last.out.weight"], found["last.out.bias"] = _dense(state, "final_linear.1")
    return found


def _styled(state: Mapping[str, Tensor], stored: str, name: str, noise: int | None) -> dict[str, Tensor]:
    rgb = noise is None
    style, style_bias = _dense(state, f"{stored}.conv.modulation")
    found = {
        f"{name}.weight": _kernel(state, f"{stored}.conv.weight"),
        f"{name}.bias": state[f"{stored}.bias" if rgb else f"{stored}.activate.bias"].float().reshape(-1),
        f"{name}.style_weight": style,
        f"{name}.style_bias": style_bias,
    }
    if not rgb:
        found[f"{name}.noise"] = state[f"noises.noise_{noise}"][0, 0].float() * state[f"{stored}.noise.weight"].float()
    return found


def _dense(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    weight = state[f"{name}.weight"].float()
    return weight / math.sqrt(weight.shape[1]), state[f"{name}.bias"].float()


def _kernel(state: Mapping[str, Tensor], name: str) -> Tensor:
    """[O, I, k, k]; modulated ones have one axis more in front."""
    weight = state[name].float()
    weight = weight[0] if weight.ndim == 5 else weight
    return weight / math.sqrt(weight[0].numel())
