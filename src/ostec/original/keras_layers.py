"""What the layers of Keras 2 compute, as far as encoders of pictures use them. Values are [N, H, W, C] or [N, ...].

Source: the documentation of Keras 2 (keras.io/2.15), layer by layer; "same" padding as in TensorFlow's tf.nn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.blaze import pad_same

Config = Mapping[str, Any]
Weights = Mapping[str, Tensor]

TRAINED: Mapping[str, tuple[str, ...]] = {
    "Conv2D": ("kernel", "bias"),
    "Dense": ("kernel", "bias"),
    "LocallyConnected1D": ("kernel", "bias"),
    "BatchNormalization": ("gamma", "beta"),
    "PReLU": ("alpha",),
}
"""Kind -> its weights, in Keras's order."""
MEASURED: Mapping[str, tuple[str, ...]] = {"BatchNormalization": ("moving_mean", "moving_variance")}
"""Those that follow from the data."""
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "data_format": ("channels_last",),
    "dilation_rate": (1, [1], [1, 1]),
    "groups": (1,),
    "implementation": (1,),
    "threshold": (0,),
    "keepdims": (False,),
}
"""What a layer may be told in a file, of things that are computed in one way here."""
_LARGEST = 64
"""Kernel or stride."""
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "elu": F.elu,
    "selu": F.selu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
}


class Layer(NamedTuple):
    """A layer as a file writes it down."""

    kind: str
    config: Config


def compute(layer: Layer, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    """What a layer makes of its inputs. Raises `ValueError` for what it is told and cannot do."""
    for key, allowed in _PLAIN.items():
        if layer.config.get(key, allowed[0]) not in allowed:
            raise ValueError(f"its {key} is {layer.config[key]}")
    return LAYERS[layer.kind](layer.config, weights, inputs)


def _activation(config: Config, x: Tensor) -> Tensor:
    name = config.get("activation") or "linear"
    if name not in _ACTIVATIONS:
        raise ValueError(f"its activation is {name!r}")
    return _ACTIVATIONS[name](x)


def _square(config: Config, key: str) -> int:
    """A size that is the same in all directions."""
    sizes = config[key] if isinstance(config[key], list) else [config[key]]
    if len(set(sizes)) != 1 or not isinstance(sizes[0], int) or not 0 < sizes[0] <= _LARGEST:
        raise ValueError(f"its {key} is {config[key]}")
    return sizes[0]


def _padded(config: Config, x: Tensor, size: int, stride: int, value: float = 0.0) -> Tensor:
    """[N, C, H, W] with the border that "same" asks for."""
    if config["padding"] not in ("valid", "same"):
        raise ValueError(f"its padding is {config['padding']!r}")
    return pad_same(x, size, stride, value) if config["padding"] == "same" else x


def _conv2d(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    size, stride, kernel = _square(config, "kernel_size"), _square(config, "strides"), weights["kernel"]
    if kernel.shape[:2] != (size, size) or kernel.shape[3] != config["filters"]:
        raise ValueError(f"its kernel is of shape {list(kernel.shape)}")
    x = _padded(config, x.permute(0, 3, 1, 2), size, stride)
    y = F.conv2d(x, kernel.permute(3, 2, 0, 1), weights.get("bias"), stride)
    return _activation(config, y.permute(0, 2, 3, 1))


def _dense(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    return _activation(config, F.linear(x, weights["kernel"].T, weights.get("bias")))


def _locally_connected(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    """[N, L, C] to [N, L', F]: a convolution whose weights [L', size · C, F] differ from place to place."""
    (x,) = inputs
    size, stride = _square(config, "kernel_size"), _square(config, "strides")
    if config["padding"] != "valid":
        raise ValueError(f"its padding is {config['padding']!r}")
    parts = x.unfold(1, size, stride).transpose(2, 3).flatten(2)
    y = torch.einsum("nli,lif->nlf", parts, weights["kernel"])
    if "bias" in weights and weights["bias"].shape != y.shape[1:]:
        raise ValueError(f"its bias is of shape {list(weights['bias'].shape)}")
    return _activation(config, y + weights["bias"] if "bias" in weights else y)


def _batch_norm(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    axis = config["axis"][0] if isinstance(config["axis"], list) else config["axis"]
    if axis not in (-1, x.ndim - 1) or any(weight.shape != x.shape[-1:] for weight in weights.values()):
        raise ValueError(f"its axis is {config['axis']}, its weights are of other sizes, or both")
    scale = (weights["moving_variance"] + config["epsilon"]).rsqrt() * weights.get("gamma", 1.0)
    return (x - weights["moving_mean"]) * scale + weights.get("beta", 0.0)


def _relu(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    y = F.leaky_relu(x, config.get("negative_slope") or 0.0)
    return y if config.get("max_value") is None else y.clamp_max(config["max_value"])


def _prelu(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    return torch.where(x > 0, x, weights["alpha"].expand(x.shape[1:]) * x)


def _zero_padding(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    (top, bottom), (left, right) = config["padding"]
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"its padding is {config['padding']}")
    return F.pad(x, (0, 0, left, right, top, bottom))


def _max_pool(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    (x,) = inputs
    size, stride = _square(config, "pool_size"), _square(config, "strides")
    x = _padded(config, x.permute(0, 3, 1, 2), size, stride, -torch.inf)
    return F.max_pool2d(x, size, stride).permute(0, 2, 3, 1)


def _average_pool(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    """The border does not count."""
    (x,) = inputs
    size, stride = _square(config, "pool_size"), _square(config, "strides")
    x = x.permute(0, 3, 1, 2)
    sums, counts = (
        F.avg_pool2d(_padded(config, each, size, stride), size, stride) for each in (x, torch.ones_like(x[:1, :1]))
    )
    return (sums / counts).permute(0, 2, 3, 1)


def _reshape(config: Config, weights: Weights, inputs: Sequence[Tensor]) -> Tensor:
    """One side of the target may be -1: what is left."""
    (x,) = inputs
    stated = math.prod(side for side in config["target_shape"] if side != -1)
    left = math.prod(x.shape[1:]) // max(stated, 1)
    return x.reshape(len(x), *(left if side == -1 else side for side in config["target_shape"]))


LAYERS: Mapping[str, Callable[[Config, Weights, Sequence[Tensor]], Tensor]] = {
    "Conv2D": _conv2d,
    "Dense": _dense,
    "LocallyConnected1D": _locally_connected,
    "BatchNormalization": _batch_norm,
    "Activation": lambda config, _, inputs: _activation(config, inputs[0]),
    "ReLU": _relu,
    "LeakyReLU": lambda config, _, inputs: F.leaky_relu(inputs[0], config["alpha"]),
    "PReLU": _prelu,
    "ZeroPadding2D": _zero_padding,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _average_pool,
    "GlobalAveragePooling2D": lambda _, __, inputs: inputs[0].mean(dim=(1, 2)),
    "Add": lambda _, __, inputs: sum(inputs[1:], start=inputs[0]),
    "Multiply": lambda _, __, inputs: math.prod(inputs[1:], start=inputs[0]),
    "Concatenate": lambda config, _, inputs: torch.cat(list(inputs), dim=config["axis"]),
    "Flatten": lambda _, __, inputs: inputs[0].flatten(1),
    "Reshape": _reshape,
    "Permute": lambda config, _, inputs: inputs[0].permute(0, *config["dims"]),
    "Dropout": lambda _, __, inputs: inputs[0],
}
"""Kind -> what it computes of its configuration, its weights and its inputs."""
