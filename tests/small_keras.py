"""Model files as Keras 2 writes them, put together with h5py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

Arrays = Sequence[tuple[str, NDArray[Any]]]


def layer(kind: str, name: str, source: str | Sequence[str] | None = None, **config: Any) -> dict[str, Any]:
    """A layer as `model_config` writes it down, taking the values of the layers `source`."""
    sources = [source] if isinstance(source, str) else source or []
    return {
        "name": name,
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "inbound_nodes": [[[each, 0, 0, {}] for each in sources]] if sources else [],
    }


def picture(height: int, width: int, name: str = "picture") -> dict[str, Any]:
    """The layer that a model begins with."""
    return layer("InputLayer", name, batch_input_shape=[None, height, width, 3], sparse=False)


def conv(name: str, source: str, filters: int, size: int, stride: int = 1, **config: Any) -> dict[str, Any]:
    """A convolution without bias and activation, "same" padding, unless told otherwise."""
    stated = {
        "filters": filters,
        "kernel_size": [size, size],
        "strides": [stride, stride],
        "padding": "same",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "activation": "linear",
        "use_bias": False,
    }
    return layer("Conv2D", name, source, **{**stated, **config})


def model(layers: Sequence[Mapping[str, Any]], name: str = "model", source: str | None = None) -> dict[str, Any]:
    """A model from its first layer to its last; also one within another, taking the value of `source`."""
    ends = {"input_layers": [[layers[0]["name"], 0, 0]], "output_layers": [[layers[-1]["name"], 0, 0]]}
    whole = layer("Model", name, source)
    return {**whole, "config": {"name": name, "layers": list(layers), **ends}}


def write_keras(path: Path, stated: Mapping[str, Any], weights: Mapping[str, Arrays]) -> Path:
    """`weights` by outermost layer; those of layers without any may be left out."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = b"2.3.1", b"tensorflow"
        file.attrs["model_config"] = json.dumps(stated).encode()
        group = file.create_group("model_weights")
        names = list(dict.fromkeys(each["name"] for each in stated["config"]["layers"]))
        group.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            write_layer(group.create_group(name), weights.get(name, ()))
    return path


def write_layer(group: h5py.Group, arrays: Arrays) -> None:
    """Arrays and the list of their names."""
    group.attrs["weight_names"] = np.array([name.encode() for name, _ in arrays], dtype="S64")
    for name, array in arrays:
        group.create_dataset(name, data=array)
