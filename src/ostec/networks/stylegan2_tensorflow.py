"""StyleGAN2 networks as NVlabs/stylegan2 pickles them: variables by name, at unit scale, channels last.

Format: the variables of `G_synthesis_stylegan2`, `G_mapping` and `D_stylegan2` (config E and F: skip generator,
residual discriminator). Kernels are [height, width, in, out]; those of `Conv0_up` are stored turned by 180 degrees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostec.weights.pickles import NETWORK_TF, Node, array, entries

_MAPPING_RATE = 0.01
"""Learning-rate multiplier of the mapping network: a factor at run time."""
_NAMES = {"up": "Conv0_up", "conv": "Conv1", "rgb": "ToRGB"}


def generator(network: Any) -> dict[str, Tensor]:
    """Tensors for `stylegan2.Generator`. Raises `ValueError`, `KeyError` where it is another network."""
    state = _state(network)
    parts = entries(state["components"])
    synthesis, mapping = _variables(parts["synthesis"]), _variables(parts["mapping"])
    found = {"w_avg": _plain(_variables(network)["dlatent_avg"]), "clamp": torch.tensor(math.inf)}
    layers = [name[len("Dense") : -len("/weight")] for name in mapping if name.endswith("/weight")]
    for i in map(int, layers):
        weight, bias = _dense(mapping, f"Dense{i}")
        found |= {f"mapping.{i}.weight": weight * _MAPPING_RATE, f"mapping.{i}.bias": bias * _MAPPING_RATE}
    found["const"] = _plain(synthesis["4x4/Const/const"])[0]
    size = 4
    while f"{size}x{size}/ToRGB/weight" in synthesis:
        for kind, stored in _NAMES.items():
            if size > 4 or kind != "up":
                stored = "Conv" if size == 4 and kind == "conv" else stored
                found |= _styled(synthesis, f"{size}x{size}/{stored}", f"{size}.{kind}", size)
        size *= 2
    return found


def discriminator(network: Any) -> dict[str, Tensor]:
    """Tensors for `stylegan2_discriminator.Discriminator`. Raises `ValueError`, `KeyError`."""
    variables = _variables(network)
    first = next(name for name in variables if name.endswith("/FromRGB/weight"))
    size = int(first.partition("x")[0])
    found = {"clamp": torch.tensor(math.inf), "rgb.weight": _kernel(variables[first])}
    found["rgb.bias"] = _plain(variables[f"{size}x{size}/FromRGB/bias"])
    while size > 4:
        for kind, stored in (("conv", "Conv0"), ("down", "Conv1_down")):
            found[f"{size}.{kind}.weight"] = _kernel(variables[f"{size}x{size}/{stored}/weight"])
            found[f"{size}.{kind}.bias"] = _plain(variables[f"{size}x{size}/{stored}/bias"])
        found[f"{size}.skip.weight"] = _kernel(variables[f"{size}x{size}/Skip/weight"])
        size //= 2
    found["last.conv.weight"] = _kernel(variables["4x4/Conv/weight"])
    found["last.conv.bias"] = _plain(variables["4x4/Conv/bias"])
    found["last.dense.weight"], found["last.dense.bias"] = _dense(variables, "4x4/Dense0")
    found["last.out.weight"], found["last.out.bias"] = _dense(variables, "Output")
    return found


def _state(network: Any) -> Mapping[Any, Any]:
    if not isinstance(network, Node) or network.name != NETWORK_TF:
        raise ValueError("it holds no TensorFlow network")
    return entries(network.state)


def _variables(network: Any) -> dict[str, Any]:
    return {str(name): value for name, value in _state(network)["variables"]}


def _styled(variables: Mapping[str, Any], stored: str, name: str, size: int) -> dict[str, Tensor]:
    kernel = array(variables[f"{stored}/weight"])
    style, bias = _dense(variables, stored, "mod_")
    found = {
        f"{name}.weight": _kernel(kernel[::-1, ::-1] if name.endswith(".up") else kernel),
        f"{name}.bias": _plain(variables[f"{stored}/bias"]),
        f"{name}.style_weight": style,
        f"{name}.style_bias": bias + 1,
    }
    if not name.endswith(".rgb"):
        index = 2 * int(math.log2(size)) - (5 if name.endswith(".up") else 4)
        strength = _plain(variables[f"{stored}/noise_strength"])
        found[f"{name}.noise"] = _plain(variables[f"noise{index}"])[0, 0] * strength
    return found


def _dense(variables: Mapping[str, Any], name: str, kind: str = "") -> tuple[Tensor, Tensor]:
    weight = _plain(variables[f"{name}/{kind}weight"])
    return weight.T / math.sqrt(weight.shape[0]), _plain(variables[f"{name}/{kind}bias"])


def _kernel(value: Any) -> Tensor:
    """[O, I, k, k]."""
    weight = _plain(value)
    return weight.permute(3, 2, 0, 1) / math.sqrt(weight[..., 0].numel())


def _plain(value: Any) -> Tensor:
    values: NDArray[Any] = value if isinstance(value, np.ndarray) else array(value)
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
