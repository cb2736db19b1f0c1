"""The style encoder: a guess of the latents that make a picture, where the search of W+ starts.

The file of the released OSTeC is `resnet_18_20191231.h5`, a Keras 2 model: ResNet-50 (He et al., arXiv 1512.03385) and
a head to 18 x 512 (`keras_resnet` says which heads are read). Input as of
`keras.applications.resnet50.preprocess_input`, "caffe" mode: channels blue, green, red in 0..255, less ImageNet's
means; resized by Lanczos in the released code, here by the antialiased bicubic kernel, which is torch's nearest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.named_tensors import NamedTensors
from ostec.original.keras_files import read_keras
from ostec.original.keras_resnet import Layer, input_px, read_layers, require, split_trunk
from ostec.weights.open import expecting

_MEAN_BGR = (103.939, 116.779, 123.68)
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": F.relu,
    "elu": F.elu,
    "selu": F.selu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "swish": F.silu,
}
_SHAPING: Mapping[str, Callable[[Layer, Tensor], Tensor]] = {
    "GlobalAveragePooling2D": lambda _, x: x.mean(dim=(1, 2)),
    "Flatten": lambda _, x: x.flatten(1),
    "Dropout": lambda _, x: x,
    "Permute": lambda layer, x: x.permute(0, *layer.config["dims"]),
    "Reshape": lambda layer, x: x.reshape(len(x), *_sides(layer.config["target_shape"], x)),
}
"""Kinds of layers of the head without weights, on [N, H, W, C] or [N, ...]."""
_WEIGHTED = ("Conv2D", "Dense", "LocallyConnected1D")
_REMEDY = "It comes with the models of https://github.com/barisgecer/OSTeC; see `ostec models list`."


class StyleEncoder(NamedTensors):
    """Pictures to latents. Raises `ValueError`, `KeyError`, `RuntimeError` where the file holds another network."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]]) -> None:
        """`config`, `weights`: as `read_keras` gives them."""
        super().__init__()
        layers = read_layers(config, weights)
        self._input_px = input_px(layers)
        self.trunk, self._head = split_trunk(layers)
        used = sum(len(layer.weights) for layer in layers)
        stored = sum(len(stored) for stored in weights.values())
        if used != stored:
            raise ValueError(f"it has {stored} weights, of which {used} belong to its layers")
        before = layers[-len(self._head) - 1].name
        for layer in self._head:
            _check(layer, before)
            for role, tensor in layer.weights.items():
                self.keep(f"{layer.name}/{role}", tensor)
            before = layer.name
        self.register_buffer("mean_bgr", torch.tensor(_MEAN_BGR)[:, None, None], persistent=False)
        shape = self._latents(torch.empty(0, 3, *self._input_px)).shape
        if len(shape) != 3:
            raise ValueError(f"it gives {list(shape[1:])}, not [layers, latent]")
        self.num_ws, self.w_dim = shape[1:]

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] sRGB 0..1, cropped as FFHQ is, to latents [N, num_ws, w_dim]."""
        small = F.interpolate(pictures, self._input_px, mode="bicubic", antialias=True, align_corners=False)
        return self._latents(small.clamp(0, 1).flip(1) * 255 - self.get("mean_bgr"))

    def _latents(self, inputs: Tensor) -> Tensor:
        x = self.trunk(inputs).permute(0, 2, 3, 1)
        values: dict[str, Tensor] = {}
        for layer in self._head:
            if layer.kind == "Add":
                added = [values[source] for source in layer.sources]
                if len({value.shape for value in added}) != 1:
                    raise ValueError(f"values of shapes {[list(value.shape[1:]) for value in added]} are added")
                x = torch.stack(added).sum(dim=0)
            elif layer.kind in _SHAPING:
                x = _SHAPING[layer.kind](layer, x)
            elif layer.kind in _WEIGHTED:
                x = self._weighted(layer, x)
            x = _ACTIVATIONS[layer.config.get("activation") or "linear"](x)
            values[layer.name] = x
        return x

    def _weighted(self, layer: Layer, x: Tensor) -> Tensor:
        """Sums over channels, with the same weights at every place or, locally connected, with its own."""
        kernel = self.get(f"{layer.name}/kernel")
        if layer.kind == "LocallyConnected1D":
            x = torch.einsum("nlc,lcf->nlf", x, kernel)
        else:
            x = x @ kernel.reshape(kernel.shape[-2:])
        return x + self.get(f"{layer.name}/bias") if layer.config.get("use_bias", True) else x


def _check(layer: Layer, before: str) -> None:
    """Raises `ValueError` where a layer of the head is not computed here, or does not follow the one `before` it."""
    if layer.kind not in (*_SHAPING, *_WEIGHTED, "Add", "Activation"):
        raise ValueError(f"layer {layer.name!r} is a {layer.kind}, which no head known here has; none of it was run")
    if layer.kind != "Add" and layer.sources not in ((), (before,)):
        raise ValueError(f"layer {layer.name!r} takes {layer.sources}, not the layer before it")
    if layer.config.get("activation") not in (None, *_ACTIVATIONS):
        raise ValueError(f"the activation of layer {layer.name!r} is {layer.config['activation']!r}")
    for key in ("kernel_size", "strides", "dilation_rate", "implementation", "groups"):
        require(layer, key, 1, [1], [1, 1])


def _sides(target: list[int], x: Tensor) -> list[int]:
    """The target shape of a `Reshape`; one side may be -1: what is left."""
    left = math.prod(x.shape[1:]) // max(math.prod(side for side in target if side != -1), 1)
    return [left if side == -1 else side for side in target]


def load_style_encoder(path: Path) -> StyleEncoder:
    """The encoder in a Keras 2 model file. Raises `MissingWeights`, `BadWeights`."""
    with expecting("a style encoder that can be read", path, _REMEDY):
        return StyleEncoder(*read_keras(path, _REMEDY))
