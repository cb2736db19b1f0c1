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

from ostec.weights.pickles import array, entries, tf_state

_MAPPING_RATE = 0.01
"""Learning-rate multiplier of the mapping network: a factor at run time."""
_NAMES = {"up": "Conv0_up", "conv": "Conv1", "rgb": "ToRGB"}


def generator(network: Any) -> dict[str, Tensor]:
    """Tensors for `stylegan2.Generator`. Raises `ValueError`, `KeyError` where it is another network."""
    state = tf_state(network)
    parts = entries(state["components"])
    synthesis, mapping = _variables(parts["synthesis"]), _variables(parts["mapping"])
    found = {"w_avg": _plain(_variables(network)["dlatent_avg"]), "clamp": torch.tensor(math.inf)}
    for layer in [name.removesuffix("/weight") for name in mapping if name.endswith("/weight")]:
        name = f"mapping.{int(layer.removeprefix('Dense'))}"
        found[f"{name}.weight"] = _weight(mapping[f"{layer}/weight"]) * _MAPPING_RATE
        found[f"{name}.bias"] = _plain(mapping[f"{layer}/bias"]) * _MAPPING_RATE
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
    layers = {"last.conv": "4x4/Conv", "last.dense": "4x4/Dense0", "last.out": "Output"}
    layers["rgb"] = first.removesuffix("/weight")
    found = {"clamp": torch.tensor(math.inf)}
    while size > 4:
        layers |= {f"{size}.conv": f"{size}x{size}/Conv0", f"{size}.down": f"{size}x{size}/Conv1_down"}
        found[f"{size}.skip.weight"] = _weight(variables[f"{size}x{size}/Skip/weight"])
        size //= 2
    for name, stored in layers.items():
        found[f"{name}.weight"] = _weight(variables[f"{stored}/weight"])
        found[f"{name}.bias"] = _plain(variables[f"{stored}/bias"])
    return found


def _variables(network: Any) -> dict[str, Any]:
    return {str(name): value for name, value in tf_state(network)["variables"]}


def _styled(variables: Mapping[str, Any], stored: str, name: str, size: int) -> dict[str, Tensor]:
    kernel = array(variables[f"{stored}/weight"])
    found = {
        f"{name}.weight": _weight(kernel[::-1, ::-1] if name.endswith(".up") else kernel),
        f"{name}.bias": _plain(variables[f"{stored}/bias"]),
        f"{name}.style_weight": _weight(variables[f"{stored}/mod_weight"]),
        f"{name}.style_bias": _plain(variables[f"{stored}/mod_bias"]) + 1,
    }
    if not name.endswith(".rgb"):
        index = 2 * int(math.log2(size)) - (5 if name.endswith(".up") else 4)
        strength = _plain(variables[f"{stored}/noise_strength"])
        found[f"{name}.noise"] = _plain(variables[f"noise{index}"])[0, 0] * strength
    return found


def _weight(value: Any) -> Tensor:
    """[O, I] or [O, I, k, k]."""
    weight = _plain(value)
    scale = math.sqrt(weight[..., 0].numel())
    return (weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T) / scale


def _plain(value: Any) -> Tensor:
    values: NDArray[Any] = value if isinstance(value, np.ndarray) else array(value)
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))
