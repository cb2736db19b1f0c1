"""Arrays from MATLAB's `.mat` files, through scipy, after counting what they would unpack to."""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat, whosmat

from ostec.errors import BadWeights, MissingWeights

_LARGEST_BYTES = 1 << 30
_HDF5 = b"\x89HDF\r\n\x1a\n"
_NUMBERS = ("single", "double", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "logical")
_HEADER_BYTES, _COMPRESSED, _PIECE_BYTES = 128, 15, 1 << 20


def read_matrices(path: Path, shapes: Mapping[str, tuple[int | None, ...]], remedy: str) -> dict[str, NDArray[Any]]:
    """The matrices of these names, as they are stored; others in the file are not unpacked.

    `shapes` holds what each must have, None for a side of any length; one side alone is a column or a row, which comes
    as [N]. `remedy` ends the messages. Raises `MissingWeights`, and `BadWeights` for a file that is damaged, of another
    format, or larger than it should be, and for numbers that are not finite.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {remedy}")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if _HDF5 in (data[:8], data[512:520]):
                raise BadWeights(f"{path} is an HDF5 file, as the Basel models of 2017 and 2019 are. {remedy}")
            _check_size(data, path, remedy)
            _check_shapes(whosmat(data), shapes, path, remedy)
            found = loadmat(data, variable_names=list(shapes))
    except BadWeights:
        raise
    except Exception as error:  # the library raises whatever its parser does
        raise BadWeights(f"{path} is truncated, or is not a MATLAB file ({type(error).__name__}). {remedy}") from error
    for name in shapes:
        if not np.isfinite(found[name]).all():
            raise BadWeights(f"{path}: {name} holds numbers that are not finite. {remedy}")
    return {name: found[name].ravel() if len(shape) == 1 else found[name] for name, shape in shapes.items()}


def _check_shapes(
    listed: list[tuple[str, tuple[int, ...], str]],
    shapes: Mapping[str, tuple[int | None, ...]],
    path: Path,
    remedy: str,
) -> None:
    there = {name: (shape, kind) for name, shape, kind in listed}
    if len(there) < len(listed):
        raise BadWeights(f"{path} holds two matrices of one name. {remedy}")
    for name, wanted in shapes.items():
        if name not in there:
            held = ", ".join(sorted(other[:40] for other in there)[:20]) or "nothing"
            raise BadWeights(f"{path} lacks {name!r}; it holds {held}. {remedy}")
        shape, kind = there[name]
        sides = shape if len(wanted) > 1 or 1 not in shape else (math.prod(shape),)
        fits = len(sides) == len(wanted) and all(w in (None, n) for n, w in zip(sides, wanted, strict=True))
        if kind not in _NUMBERS or not fits or math.prod(shape) * 8 > _LARGEST_BYTES:
            needed = " x ".join("any" if n is None else f"{n:,}" for n in wanted)
            held = " x ".join(f"{n:,}" for n in shape)
            raise BadWeights(f"{path}: {name} is {held} ({kind}), but numbers, {needed}, are needed. {remedy}")


def _check_size(data: mmap.mmap, path: Path, remedy: str) -> None:
    """Count what the compressed parts of a version 5 file unpack to, a piece at a time."""
    order = "<" if data[126:128] == b"IM" else ">"
    at, total = _HEADER_BYTES, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind == _COMPRESSED:
            inflate = zlib.decompressobj()
            for start in range(at + 8, at + 8 + size, _PIECE_BYTES):
                packed = data[start : min(start + _PIECE_BYTES, at + 8 + size)]
                while packed and total <= _LARGEST_BYTES:
                    total += len(inflate.decompress(packed, _PIECE_BYTES))
                    packed = inflate.unconsumed_tail
        if total > _LARGEST_BYTES:
            raise BadWeights(f"{path} unpacks to more than {_LARGEST_BYTES >> 20} MB. {remedy}")
        at += 8 + size
