"""Reads model files of Keras 2 (HDF5): the layers as they are written down, and their weights. Nothing in it is run.

Source: keras-team/keras 2.15, keras/src/saving/legacy/hdf5_format.py. The attribute `model_config` is JSON; the group
`model_weights` has a group for each layer, whose attribute `weight_names` says in which order its weights are. Lists
too long for one attribute are split over `weight_names0`, `weight_names1`, ...
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights


class KerasFile(NamedTuple):
    """What a model file holds."""

    config: Mapping[str, Any]
    """`class_name` and `config` of the model."""
    weights: Mapping[str, list[tuple[str, Tensor]]]
    """Layer -> its weights in the file's order, each with its name there."""


def read_keras(path: Path, remedy: str) -> KerasFile:
    """The model in a file. Weights are float32 and finite. `remedy` ends the messages of errors.

    Takes no more memory than the file has bytes: links to other files, packed numbers and shapes that the file has no
    numbers for are refused. Raises `MissingWeights`, `BadWeights`.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {remedy}")
    from h5py import File

    try:
        with File(path, "r") as file:
            reader = _Reader(path.stat().st_size)
            config = json.loads(reader.text(file, "model_config"))
            group = reader.child(file, "model_weights")
            names = reader.names(group, "layer_names")
            return KerasFile(config, {name: reader.weights(reader.child(group, name)) for name in names})
    except Exception as error:  # the library raises whatever its parser does
        reason = str(error) or type(error).__name__
        raise BadWeights(f"{path} is truncated, or is not a model file of Keras: {reason}. {remedy}") from error


class _Reader:
    """Reads parts of a file whose shapes and links are not trusted."""

    def __init__(self, file_bytes: int) -> None:
        self._file_bytes = self._left_bytes = file_bytes

    def child(self, group: Any, path: str) -> Any:
        """The group or array at a path, if every step of it lies in this file."""
        from h5py import Group
        from h5py.h5l import TYPE_HARD

        for name in path.split("/"):
            links = group.id.links if isinstance(group, Group) else None
            step = name.encode()
            if not name or links is None or not links.exists(step):
                raise ValueError(f"it has no {path!r}")
            if links.get_info(step).type != TYPE_HARD:
                raise ValueError(f"{path!r} is a link to somewhere else")
            group = group[name]
        return group

    def text(self, group: Any, name: str) -> str:
        """An attribute that is one string."""
        return _decoded(self._attribute(group, name))

    def names(self, group: Any, name: str) -> list[str]:
        """An attribute that is a list of strings."""
        if name in group.attrs:
            return [_decoded(each) for each in self._attribute(group, name)]
        parts: list[str] = []
        index = 0
        while f"{name}{index}" in group.attrs:
            parts += [_decoded(each) for each in self._attribute(group, f"{name}{index}")]
            index += 1
        if not index:
            raise ValueError(f"the attribute {name!r} is missing")
        return parts

    def weights(self, group: Any) -> list[tuple[str, Tensor]]:
        """(name, numbers) of a layer's weights."""
        return [(name, self._array(self.child(group, name), name)) for name in self.names(group, "weight_names")]

    def _attribute(self, group: Any, name: str) -> Any:
        if name not in group.attrs:
            raise ValueError(f"the attribute {name!r} is missing")
        stored = group.attrs.get_id(name)
        if math.prod(stored.shape or ()) * stored.dtype.itemsize > self._file_bytes:
            raise ValueError(f"the attribute {name!r} is larger than the file")
        return group.attrs[name]

    def _array(self, stored: Any, name: str) -> Tensor:
        from h5py import Dataset

        if not isinstance(stored, Dataset) or stored.dtype.kind != "f":
            raise ValueError(f"{name!r} is not an array of numbers")
        if stored.is_virtual or stored.external or stored.chunks:
            raise ValueError(f"{name!r} does not lie in the file in one piece")
        self._left_bytes -= stored.nbytes
        if stored.nbytes > stored.id.get_storage_size() or self._left_bytes < 0:
            raise ValueError(f"{name!r} is of shape {list(stored.shape)}, for which the file has no numbers")
        numbers = torch.from_numpy(np.asarray(stored[()], dtype=np.float32).copy())
        if not bool(numbers.isfinite().all()):
            raise ValueError(f"{name!r} holds numbers that are not finite")
        return numbers


def _decoded(text: Any) -> str:
    if isinstance(text, bytes):
        return text.decode()
    if isinstance(text, str):
        return text
    raise ValueError("a string was expected")
