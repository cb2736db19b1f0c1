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

MARK = "/constants.pkl"
"""How the name of a file ends that `torch.jit.save` alone writes."""
_TREE = "/data.pkl"
_KINDS = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.LongStorage": torch.int64,
}


def read_script(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers by the names that they have in the module's state dict.

    Raises `BadWeights`, or for a damaged archive whatever the parsers raise. Holds no more than the file's own size.
    """
    left_bytes = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        trees = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith(_TREE)]

        def numbers(storage: Any) -> Tensor:
            """Those of ("storage", kind, key, device, count) in one row."""
            nonlocal left_bytes
            _, kind, key, _, count = storage
            dtype, entry = _KINDS[kind.name], archive.getinfo(f"{trees[0].removesuffix(_TREE)}/data/{key}")
            left_bytes -= entry.file_size
            if entry.file_size != int(count) * dtype.itemsize or left_bytes < 0:
                raise ValueError(f"storage {key} has {entry.file_size} bytes for {count} numbers, or is in it twice")
            data = bytearray(read_entry(archive, entry))
            return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)

        tree = unpickle(read_entry(archive, archive.getinfo(trees[0])), str(path), script=True)
        return {name: tensor(value, numbers) for name, value in _tensors(tree, "", set())}


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
