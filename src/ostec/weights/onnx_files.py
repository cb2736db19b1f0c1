"""Reads the graph of an ONNX file, as a message of the package `onnx`: nothing in it is run.

Format: onnx/onnx, `docs/IR.md`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadWeights

if TYPE_CHECKING:
    from onnx import GraphProto

_FLOAT = 1
"""`TensorProto.DataType`."""
_MOST_STRUCTURE = 1 << 20
"""Bytes besides numbers: a parsed message takes some eighty times as many, and an IResNet's some ten thousand."""
_GRAPH, _INITIALIZER = (7,), (7, 5)
_NUMBERS = ((7, 5, 4), (7, 5, 9))
"""Numbers of fields from the outermost message inwards: `graph.initializer.float_data` and `raw_data`."""


def parse_onnx(data: bytes, source: str) -> GraphProto:
    """The graph in the bytes of a file. Raises `BadWeights` naming `source`."""
    from onnx import ModelProto

    try:
        if _structure(memoryview(data), (), 0) > _MOST_STRUCTURE:
            raise ValueError("it is more than numbers")
        return ModelProto.FromString(data).graph
    except Exception as error:  # protobuf raises errors of its own
        raise BadWeights(f"{source} is not an ONNX file of a plain network, or is damaged: {error}.") from error


def onnx_tensors(graph: GraphProto) -> dict[str, Tensor]:
    """Name -> numbers of a graph's tensors. Raises `ValueError` for those outside of the file or not of float32."""
    found = {}
    for stored in graph.initializer:
        if stored.data_location or stored.external_data:
            raise ValueError(f"the numbers of {stored.name!r} are in another file")
        if stored.data_type != _FLOAT:
            raise ValueError(f"the tensor {stored.name!r} is not of float32")
        raw = np.frombuffer(stored.raw_data, "<f4") if stored.raw_data else np.array(stored.float_data)
        if any(n < 0 for n in stored.dims) or math.prod(stored.dims) != len(raw):
            raise ValueError(f"the tensor {stored.name!r} of shape {list(stored.dims)} has {len(raw)} numbers")
        found[stored.name] = torch.from_numpy(raw.astype(np.float32).reshape(tuple(stored.dims)))
    return found


def _structure(message: memoryview, place: tuple[int, ...], before: int) -> int:
    """`before`, and how many bytes of a message are not numbers; counting ends where there are too many.

    Format: protobuf.dev, "Encoding". `place` is where the message stands, as in `_NUMBERS`.
    """
    count, at = before, 0
    while at < len(message) and count <= _MOST_STRUCTURE:
        start = at
        key, at = _varint(message, at)
        field = (*place, key >> 3)
        if key & 7 == 2:
            size, at = _varint(message, at)
            count += at - start
            content = message[at : at + size]
            at += size
            if field in (_GRAPH, _INITIALIZER):
                count = _structure(content, field, count)
            elif field not in _NUMBERS:
                count += size
        else:
            at = _varint(message, at)[1] if key & 7 == 0 else at + {1: 8, 5: 4}[key & 7]
            count += at - start
    return count


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value, shift = 0, 0
    while message[at] & 128 and shift < 64:
        value |= (message[at] & 127) << shift
        shift, at = shift + 7, at + 1
    return value | message[at] << shift, at + 1
