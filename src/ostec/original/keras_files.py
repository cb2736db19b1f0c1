"""Reads model files of Keras 2 (HDF5): the layers as they are written down, and their weights. Nothing in it is run.

Source: keras-team/keras 2.15, keras/src/saving/legacy/hdf5_format.py. The attribute `model_config` is JSON; the group
`model_weights` has a group for each layer, whose attribute `weight_names` says in which order its weights are. Lists
too long for one attribute are split over `weight_names0`, `weight_names1`, ...
"""

from __future__ import annotations

import itertools
import json
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights

_HEAP, _MOST_HEAPS = b"GCOL\x01", 512
"""What a heap of strings begins with, and more of them than any model file has."""


class KerasFile(NamedTuple):
    """What a model file holds."""

    config: Mapping[str, Any]
    """`class_name` and `config` of the model."""
    weights: Mapping[str, list[tuple[str, Tensor]]]
    """Layer -> its weights in the file's order, each with its name there."""


def read_keras(path: Path, remedy: str) -> KerasFile:
    """The model in a file. Weights are float32 and finite. `remedy` ends the messages of errors.

    Takes little more memory than the file has bytes: links to other files, packed numbers, and shapes and strings that
    the file is too short for are refused. Raises `MissingWeights`, `BadWeights`.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {remedy}")
    from h5py import File

    try:
        _check_strings(path)
        with File(path, "r") as file:
            layout = file.id.get_create_plist()
            if layout.get_sizes() != (8, 8) or layout.get_userblock():
                raise ValueError("its addresses are not as Keras writes them")
            reader = _Reader(path.stat().st_size)
            config = json.loads(reader.text(file, "model_config"))
            group = reader.child(file, "model_weights")
            names = reader.names(group, "layer_names")
            return KerasFile(config, {name: reader.weights(reader.child(group, name)) for name in names})
    except Exception as error:  # the library raises whatever its parser does
        reason = str(error) or type(error).__name__
        raise BadWeights(f"{path} is truncated, or is not a model file of Keras: {reason}. {remedy}") from error


def _check_strings(path: Path) -> None:
    """Refuse damaged heaps of strings, strings said to be longer than they are, and more of them than the file is long.

    The library reads the first without end, and makes room for the others. Where a string is meant there stands its
    length, the address of a heap and a number in it, 4, 8 and 4 bytes ("HDF5 File Format Specification", III.E).
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        heaps = list(itertools.islice(_places(data, _HEAP), _MOST_HEAPS + 1))
        if len(heaps) > _MOST_HEAPS:
            raise ValueError(f"it has more than {_MOST_HEAPS} heaps of strings")
        left = len(data)
        for heap in heaps:
            lengths = _lengths(data, heap)
            for place in _places(data, heap.to_bytes(8, "little")):
                length, number = (int.from_bytes(data[at : at + 4], "little") for at in (place - 4, place + 8))
                if number in lengths:
                    left -= length
                    if length > lengths[number] or left < 0:
                        raise ValueError("its strings are not as long as it says")


def _lengths(data: mmap.mmap, start: int) -> dict[int, int]:
    """Number -> length of a heap's strings, which lie one after the other up to its end or to the free space there."""
    end = start + int.from_bytes(data[start + 8 : start + 16], "little")
    at, lengths = start + 16, {}
    while at + 16 <= end <= len(data):
        number, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        if number == 0:
            at += length
            break
        lengths[number] = length
        at += 16 + -(-length // 8) * 8
    if at > end or end > len(data) or end - at >= 16:
        raise ValueError("a heap of strings is damaged")
    return lengths


def _places(data: mmap.mmap, part: bytes) -> Iterator[int]:
    """Where it occurs, from the fifth byte on."""
    place = data.find(part, 4)
    while place >= 0:
        yield place
        place = data.find(part, place + 1)


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
