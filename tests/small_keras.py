"""Encoders that Keras 2.15 saved: a narrow ResNet-50 with each of the public heads, and changed copies of them."""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "data" / "golden"


def unpacked(name: str, path: Path) -> Path:
    """The file "keras_dense" (means over the picture, a dense layer) or "keras_local" (locally connected layers)."""
    path.write_bytes(lzma.decompress((GOLDEN / f"{name}.h5.xz").read_bytes()))
    return path


def expected(name: str) -> tuple[Tensor, Tensor]:
    """Pictures [3, 3, 64, 64] in 0..1, and what Keras makes of them after `preprocess_input`."""
    with np.load(GOLDEN / f"{name}_expected.npz") as arrays:
        return torch.from_numpy(arrays["rgb"]).permute(0, 3, 1, 2) / 255, torch.from_numpy(arrays["y"])


def change(path: Path, how: Callable[[h5py.File], object]) -> Path:
    """Changes a file in place."""
    with h5py.File(path, "r+") as file:
        how(file)
    return path


def change_layer(path: Path, name: str, /, **config: Any) -> Path:
    """Changes a layer's configuration, or with `class_name` its kind and with `inbound_nodes` what it takes."""

    def visit(layers: list[dict[str, Any]]) -> None:
        for layer in layers:
            if layer["config"]["name"] == name:
                layer["config"] |= {key: value for key, value in config.items() if key not in layer}
                layer |= {key: value for key, value in config.items() if key in layer}
            visit(layer["config"].get("layers", []))

    return change_config(path, lambda model: visit(model["config"]["layers"]))


def change_config(path: Path, how: Callable[[dict[str, Any]], object]) -> Path:
    """Changes the architecture."""
    with h5py.File(path) as file:
        model = json.loads(str(file.attrs["model_config"]))
    how(model)
    return rewrite(path, json.dumps(model).encode())


def rewrite(path: Path, config: bytes) -> Path:
    """The same weights with another text for an architecture, in a new file: an old one keeps what is deleted."""
    other = path.with_suffix(".new")
    with h5py.File(path) as file, h5py.File(other, "w") as copy:
        file.copy("model_weights", copy)
        copy.attrs["model_config"] = config
    return other.replace(path)


def with_old_names(path: Path, mark: str = "") -> Path:
    """The same model with the names that Keras gave to ResNet-50's layers up to 2.3; `mark` is that of a session."""

    def old(name: str) -> str:
        match = re.fullmatch(r"conv(\d)_block(\d)_(\d)_(conv|bn)", name)
        if match is None:
            return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}.get(name, name)
        stage, block, layer, kind = match.groups()
        branch = "1" if layer == "0" else f"2{'abc'[int(layer) - 1]}"
        return f"{'res' if kind == 'conv' else 'bn'}{stage}{'abcdef'[int(block) - 1]}_branch{branch}"

    def rename(file: h5py.File) -> None:
        group: Any = file["model_weights/resnet50"]
        for name in list(group):
            if old(name) != name:
                group.move(name, old(name) + mark)

    with h5py.File(change(path, rename)) as file:
        text = str(file.attrs["model_config"])
    return rewrite(path, re.sub(r'"(conv\d_[a-z0-9_]+)"', lambda found: f'"{old(found[1])}"', text).encode())
