"""ArcFace as the released OSTeC uses it: `arcface50.npy`, a table layer -> arrays of LResNet50E-IR.

Source of the layers' names and order, the epsilon and the input: `external/arcface50.py` in barisgecer/OSTeC, which
MMdnn made of a network of deepinsight/insightface. It is the network of `iresnet` in other words: kernels are
[height, width, in, out], the linear layer reads its map with the channels last, the input is (x - 127.5) / 128, and the
epsilon of the batch normalisations is 2e-5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ostec.networks.iresnet import IResNet
from ostec.networks.named_tensors import EPS
from ostec.weights.open import expecting, read_stored
from ostec.weights.pickles import entries, floats

_EPS = 2e-5
_GREY, _WHITE = 127.5, 255.0
_REMEDY = "It comes with the models of OSTeC: see `ostec models list`."


def load_iresnet_npy(path: Path) -> IResNet:
    """The network in a `.npy` file. Raises `MissingWeights`, `BadWeights`."""
    stored = read_stored(path, _REMEDY)
    with expecting("a table as arcface50.npy is", path, _REMEDY):
        return IResNet(_tensors(entries(stored)), str(path))


def _tensors(layers: Mapping[Any, Any]) -> dict[str, Tensor]:
    """By the names of `iresnet`."""
    grey, scale = (_values(layers, f"{name}scalar0_second", "value").item() for name in ("minus", "mul"))
    if grey != _GREY:
        raise ValueError(f"it subtracts {grey}, not {_GREY}")
    found = {"conv1.weight": _kernel(layers, "conv0") * (scale * (_WHITE - grey))}  # the input of `iresnet` is -1..1
    found["prelu.weight"] = _values(layers, "relu0", "gamma").flatten()
    found |= _norm(layers, "bn0", "bn1") | _norm(layers, "bn1", "bn2") | _norm(layers, "fc1", "features")
    for stage in range(1, 5):
        unit = 1
        while f"stage{stage}_unit{unit}_conv1" in layers:
            found |= _unit(layers, f"stage{stage}_unit{unit}_", f"layer{stage}.{unit - 1}.")
            unit += 1
    weight, channels = _values(layers, "pre_fc1", "weights"), len(found["bn2.weight"])
    side = math.isqrt(len(weight) // channels)
    found["fc.weight"] = weight.reshape(side, side, channels, -1).permute(3, 2, 0, 1).flatten(1)
    return found | {"fc.bias": _values(layers, "pre_fc1", "bias")}


def _unit(layers: Mapping[Any, Any], theirs: str, ours: str) -> dict[str, Tensor]:
    found = {f"{ours}{name}.weight": _kernel(layers, f"{theirs}{name}") for name in ("conv1", "conv2")}
    found[f"{ours}prelu.weight"] = _values(layers, f"{theirs}relu1", "gamma").flatten()
    for name in ("bn1", "bn2", "bn3"):
        found |= _norm(layers, f"{theirs}{name}", f"{ours}{name}")
    if f"{theirs}conv1sc" in layers:
        found[f"{ours}downsample.0.weight"] = _kernel(layers, f"{theirs}conv1sc")
        found |= _norm(layers, f"{theirs}sc", f"{ours}downsample.1")
    return found


def _norm(layers: Mapping[Any, Any], theirs: str, ours: str) -> dict[str, Tensor]:
    """Weights of 1 and biases of 0 are left out in the file."""
    mean, layer = _values(layers, theirs, "mean"), entries(layers[theirs])
    return {
        f"{ours}.running_mean": mean,
        f"{ours}.running_var": _values(layers, theirs, "var") + (_EPS - EPS),
        f"{ours}.weight": _values(layers, theirs, "scale") if "scale" in layer else torch.ones_like(mean),
        f"{ours}.bias": _values(layers, theirs, "bias") if "bias" in layer else torch.zeros_like(mean),
    }


def _kernel(layers: Mapping[Any, Any], layer: str) -> Tensor:
    return _values(layers, layer, "weights").permute(3, 2, 0, 1)


def _values(layers: Mapping[Any, Any], layer: str, name: str) -> Tensor:
    return floats(entries(layers[layer])[name])
