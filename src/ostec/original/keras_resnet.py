"""The ResNet-50 and the head of a Keras 2 encoder: which layers its file writes down, and where their weights go.

Two public kinds of encoder are known: those of rolux/stylegan2encoder (issue 2), to which the released OSTeC's belongs,
end in means over the picture and one dense layer; those of pbaylies/stylegan-encoder (`train_resnet.py`) in a 1 x 1
convolution and locally connected layers. The trunk of both is the ResNet-50 of `keras.applications`, whose layers have
two sets of names: `res2a_branch2a` in Keras up to 2.3, `conv2_block1_1_conv` since and in TensorFlow.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ostec.original.resnet50 import BLOCKS, ResNet50

_MODELS = ("Model", "Functional", "Sequential")
_TRUNK_KINDS = {"Conv2D": 53, "BatchNormalization": 53, "Add": 16, "Activation": 49, "MaxPooling2D": 1}
_LARGEST_PX = 1024
_NORM_PARTS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class Layer(NamedTuple):
    """A layer as a file writes it down."""

    name: str
    kind: str
    config: Mapping[str, Any]
    sources: tuple[str, ...]
    """The layers whose values it takes; empty for the layer before it in the list."""
    weights: Mapping[str, Tensor]
    """By role: "kernel", "bias", ..."""


def read_layers(model: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]]) -> list[Layer]:
    """The layers of a model, those of models in it included. Raises `ValueError` where they are not plainly wired."""
    layers = list(_flattened(model, weights, None))
    twice = [name for name, count in Counter(layer.name for layer in layers).items() if count > 1]
    if twice:
        raise ValueError(f"two layers are called {twice[0]!r}")
    return layers


def _flattened(
    model: Mapping[str, Any], weights: Mapping[str, Mapping[str, Tensor]], group: str | None
) -> Iterator[Layer]:
    """`group` is the outermost layer that the model is in: the weights are stored by these."""
    config = model["config"] if isinstance(model["config"], dict) else {"layers": model["config"]}
    ends: dict[str, str] = {}
    last = ""
    for stated in config["layers"]:
        kind, inner = stated["class_name"], stated["config"]
        name = str(stated.get("name") or inner["name"])
        nodes = stated.get("inbound_nodes") or [[]]
        if len(nodes) > 1:
            raise ValueError(f"layer {name!r} is used {len(nodes)} times")
        if kind in _MODELS:
            for layer in _flattened(stated, weights, group or name):
                yield layer
                last = layer.name
        else:
            sources = tuple(str(ends.get(source, source)) for source, *_ in nodes[0])
            last = name
            yield Layer(name, kind, inner, sources, _weights_of(name, weights, group))
        ends[name] = last
    if [ends.get(end, end) for end, *_ in config.get("output_layers", [[last]])] != [last]:
        raise ValueError("its output is not that of its last layer")


def _weights_of(layer: str, weights: Mapping[str, Mapping[str, Tensor]], group: str | None) -> dict[str, Tensor]:
    """A layer's weights by role. Those of models in the model bear its name, with or without the mark of a session."""
    if group is None:
        return {_role(name): tensor for name, tensor in weights.get(layer, {}).items()}
    pattern = re.compile(rf"(.*/)?{re.escape(layer)}(_\d+)?/[^/]*")
    return {_role(name): tensor for name, tensor in weights.get(group, {}).items() if pattern.fullmatch(name)}


def _role(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def input_px(layers: Sequence[Layer]) -> tuple[int, int]:
    """Height and width of what a model takes. Raises `ValueError` where it is no picture."""
    shapes = [layer.config["batch_input_shape"] for layer in layers if "batch_input_shape" in layer.config]
    if not shapes or len(shapes[0]) != 4 or shapes[0][3] != 3:
        raise ValueError(f"its input is of shape {shapes[:1]}")
    height, width = shapes[0][1:3]
    if not all(isinstance(side, int) and 32 <= side <= _LARGEST_PX for side in (height, width)):
        raise ValueError(f"its input is of shape {shapes[0]}")
    return height, width


def split_trunk(layers: Sequence[Layer]) -> tuple[ResNet50, list[Layer]]:
    """The ResNet-50 that a model begins with, and the layers behind it, the first of which takes its features.

    Raises `ValueError`, `KeyError` where it is another network.
    """
    named = {layer.name: layer for layer in layers}
    parts = list(_parts(old_names="conv1" in named))
    names = [layer.name for layer in layers]
    for _, conv, norm, _ in parts:
        if conv not in named or norm not in named:
            raise ValueError(f"it is no ResNet-50 of Keras: it has no layer {conv!r}")
    end = names.index(parts[-1][2]) + 3
    trunk, head = layers[:end], list(layers[end:])
    kinds = Counter(layer.kind for layer in trunk if layer.kind not in ("InputLayer", "ZeroPadding2D"))
    if kinds != _TRUNK_KINDS or any(
        layer.config["activation"] != "relu" for layer in trunk if layer.kind == "Activation"
    ):
        raise ValueError(f"it is no ResNet-50 of Keras: its layers are {dict(kinds)}")
    borders = [layer.config["padding"] for layer in trunk if layer.kind == "ZeroPadding2D"]
    if borders not in ([[[3, 3], [3, 3]]], [[[3, 3], [3, 3]], [[1, 1], [1, 1]]]):
        raise ValueError(f"it is no ResNet-50 of Keras: its borders are {borders}")
    tensors: dict[str, Tensor] = {}
    for ours, conv, norm, stride in parts:
        tensors |= _tensors(ours, stride, named[conv], named[norm])
    eps = {named[norm].config["epsilon"] for _, _, norm, _ in parts}
    if len(eps) > 1:
        raise ValueError("its batch normalisations differ in epsilon")
    return ResNet50(tensors, eps.pop(), early_stride=True, pool_padding=len(borders) - 1), head


def _parts(old_names: bool) -> Iterator[tuple[str, str, str, int]]:
    """(our name, the file's, that of the batch normalisation behind it, stride) of each convolution of the trunk.

    The last one is the last that is computed.
    """
    yield ("conv1", "conv1", "bn_conv1", 2) if old_names else ("conv1", "conv1_conv", "conv1_bn", 2)
    for block in BLOCKS:
        stage, index = int(block[5]), int(block[7])
        first = 2 if stage > 1 and index == 0 else 1
        for ours, stride in (("downsample.0", first), ("conv1", first), ("conv2", 1), ("conv3", 1)):
            layer = int(ours.removeprefix("conv")) if ours != "downsample.0" else 0
            old = f"{stage + 1}{'abcdef'[index]}_branch{('1', '2a', '2b', '2c')[layer]}"
            new = f"conv{stage + 1}_block{index + 1}_{layer}"
            if layer or index == 0:
                stored = (f"res{old}", f"bn{old}") if old_names else (f"{new}_conv", f"{new}_bn")
                yield f"{block}.{ours}", *stored, stride


def _tensors(ours: str, stride: int, conv: Layer, norm: Layer) -> dict[str, Tensor]:
    """By torchvision's names. Raises `ValueError` where a layer is not as in ResNet-50."""
    side = 7 if ours == "conv1" else 3 if ours.endswith(".conv2") else 1
    require(conv, "kernel_size", [side, side])
    require(conv, "strides", [stride, stride])
    require(conv, "padding", *{1: ["valid", "same"], 3: ["same"], 7: ["valid"]}[side])
    require(conv, "activation", "linear")
    require(conv, "dilation_rate", [1, 1])
    require(norm, "axis", [3], 3, -1)
    kernel = conv.weights["kernel"].permute(3, 2, 0, 1)
    if kernel.shape[2:] != (side, side) or len(kernel) != conv.config["filters"]:
        raise ValueError(f"the kernel of layer {conv.name!r} is of shape {list(conv.weights['kernel'].shape)}")
    found = {f"{ours}.weight": kernel} | ({f"{ours}.bias": conv.weights["bias"]} if "bias" in conv.weights else {})
    behind = ours.replace("conv", "bn").replace("downsample.0", "downsample.1")
    return found | {f"{behind}.{part}": norm.weights[role] for role, part in _NORM_PARTS.items()}


def require(layer: Layer, key: str, *allowed: Any) -> None:
    """Raises `ValueError` where a layer's configuration has another value."""
    if layer.config.get(key, allowed[0]) not in allowed or layer.config.get("data_format") == "channels_first":
        raise ValueError(f"layer {layer.name!r} has {key} {layer.config.get(key)}, {layer.config.get('data_format')}")
