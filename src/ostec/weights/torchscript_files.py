"""Reads the tensors of a TorchScript archive. The program in it is not looked at, let alone run.

Source: torch/csrc/jit/docs/serialization.md in pytorch/pytorch. `data.pkl` is the tree of modules with their
attributes, `data/N` the numbers of storage N, and what is under `code/` the program, which `torch.jit.load` would run.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ostec.weights.archives import read_entry
from ostec.weights.pickles import Node, tensor, unpickle

_MARK, _TREE = "/constants.pkl", "/data.pkl"
_KINDS = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.LongStorage": torch.int64,
}


def is_script(archive: zipfile.ZipFile) -> bool:
    """Whether `torch.jit.save` wrote it."""
    return any(name.endswith(_MARK) for name in archive.namelist())


def read_script(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by the names that they have in the module's state dict.

    Raises `BadWeights`, or for a damaged archive whatever the parsers raise. Holds no more than the file's own size.
    """
    with zipfile.ZipFile(path) as archive:
        trees = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith(_TREE)]
        root = trees[0].removesuffix(_TREE)
        storages = _Storages(archive, root, path.stat().st_size)
        tree = unpickle(read_entry(archive, archive.getinfo(trees[0])), str(path), script=True)
        return {name: tensor(value, storages.numbers) for name, value in _tensors(tree, "", set())}


def _tensors(module: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Node]]:
    """(name, note) of every tensor below a module."""
    if id(module) in seen:
        raise ValueError("a module is part of two others")
    seen.add(id(module))
    for name, value in (module.state or {}).items():
        if isinstance(value, Node) and value.name == "torch._utils._rebuild_tensor_v2":
            yield f"{prefix}{name}", value
        elif isinstance(value, Node) and value.name.startswith("__torch__."):
            yield from _tensors(value, f"{prefix}{name}.", seen)


class _Storages:
    """The numbers beside the pickle. All tensors together may take as much memory as the archive has bytes."""

    def __init__(self, archive: zipfile.ZipFile, root: str, budget_bytes: int) -> None:
        self._archive, self._root, self._left_bytes = archive, root, budget_bytes

    def numbers(self, storage: Any) -> Tensor:
        """The numbers of ("storage", kind, key, device, count) in one row."""
        _, kind, key, _, count = storage
        dtype = _KINDS[kind.name]
        entry = self._archive.getinfo(f"{self._root}/data/{key}")
        if entry.file_size != int(count) * dtype.itemsize:
            raise ValueError(f"storage {key} has {entry.file_size} bytes for {count} numbers")
        self._left_bytes -= entry.file_size
        if self._left_bytes < 0:
            raise ValueError("its tensors are larger than the file")
        if entry.file_size == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(read_entry(self._archive, entry)), dtype=dtype)
