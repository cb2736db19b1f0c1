"""Reads model files of Keras 2 (HDF5): the layers as they are written down, and their weights. Nothing in it is run.

Source: keras-team/keras 2.15, keras/src/saving/legacy/hdf5_format.py. The attribute `model_config` is JSON; the group
`model_weights` has a group for each layer, with its weights under their names.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights

_HEAP = b"GCOL\x01\0\0\0"
"""What a heap of strings begins with ("HDF5 File Format Specification", III.E)."""


def read_keras(path: Path, remedy: str) -> tuple[Mapping[str, Any], Mapping[str, Mapping[str, Tensor]]]:
    """The model in a file: (its `class_name` and `config`, outermost layer -> name -> weight).

    Weights are float32 and finite. `remedy` ends the messages of errors.

    Takes little more memory than the file has bytes: links to other files, packed numbers, and shapes that the file is
    too short for are refused. Raises `MissingWeights`, `BadWeights`.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {remedy}")
    from h5py import File

    try:
        with File(path, "r") as file:
            reader = _Reader(path.stat().st_size)
            if "model_config" not in file.attrs:
                raise ValueError("the attribute 'model_config' is missing")
            weights: dict[str, dict[str, Tensor]] = {}
            for path_in_file, tensor in reader.arrays(reader.child(file, "model_weights")):
                layer, _, name = path_in_file.partition("/")
                weights.setdefault(layer, {})[name] = tensor
        return json.loads(_longest_string(path)), weights
    except Exception as error:  # the library raises whatever its parser does
        reason = str(error) or type(error).__name__
        raise BadWeights(f"{path} is truncated, or is not a model file of Keras: {reason}. {remedy}") from error


def _longest_string(path: Path) -> bytes:
    """The longest of the strings of variable length in a file: `model_config`.

    Read without the library, which follows damaged heaps without end and reserves memory for strings of any length.
    """
    longest = b""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        heap = data.find(_HEAP)
        while heap >= 0:
            end = min(heap + int.from_bytes(data[heap + 8 : heap + 16], "little"), len(data))
            at = heap + 16
            while at + 16 <= end and data[at : at + 2] != b"\0\0":
                length = int.from_bytes(data[at + 8 : at + 16], "little")
                if len(longest) < length <= end - at - 16:
                    longest = data[at + 16 : at + 16 + length]
                at += 16 + -(-length // 8) * 8
            heap = data.find(_HEAP, heap + 1)
    return longest


class _Reader:
    """Reads arrays of a file whose shapes and links are not trusted."""

    def __init__(self, file_bytes: int) -> None:
        self._left_bytes = file_bytes
        self._seen: set[int] = set()

    def child(self, group: Any, name: str) -> Any:
        """What is in a group under a name, if it lies in this file and has not been read under another name."""
        from h5py.h5l import TYPE_HARD
        from h5py.h5o import get_info

        if not group.id.links.exists(name.encode()):
            raise ValueError(f"it has no {name!r}")
        if group.id.links.get_info(name.encode()).type != TYPE_HARD:
            raise ValueError(f"{name!r} is a link to somewhere else")
        child = group[name]
        address = get_info(child.id).addr
        if address in self._seen:
            raise ValueError(f"{name!r} stands in it twice")
        self._seen.add(address)
        return child

    def arrays(self, group: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
        """(path, numbers) of all arrays in a group and in the groups in it."""
        from h5py import Group

        for name in group:
            child = self.child(group, name)
            if isinstance(child, Group):
                yield from self.arrays(child, f"{path}{name}/")
            else:
                yield path + name, self._array(child, path + name)

    def _array(self, stored: Any, name: str) -> Tensor:
        from h5py import Dataset

        if not isinstance(stored, Dataset) or stored.dtype.kind != "f":
            raise ValueError(f"{name!r} is not an array of numbers")
        if stored.is_virtual or stored.external or stored.chunks:
            raise ValueError(f"{name!r} does not lie in the file in one piece")
        self._left_bytes -= stored.nbytes
        if stored.nbytes > stored.id.get_storage_size() or self._left_bytes < 0:
            raise ValueError(f"{name!r} is of shape {list(stored.shape)}, for which the file has no numbers")
        numbers = torch.from_numpy(np.asarray(stored[()], dtype=np.float32))
        if not bool(numbers.isfinite().all()):
            raise ValueError(f"{name!r} holds numbers that are not finite")
        return numbers
