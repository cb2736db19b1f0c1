"""Zip archives from strangers: no file in one takes more memory than the bytes that the directory states."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ostec.errors import BadWeights

_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python's reader of the others unpacks without bound."""


def entries_of(archive: zipfile.ZipFile, source: str) -> dict[str, zipfile.ZipInfo]:
    """Name -> entry. Raises `BadWeights` where two have one name or a kind of packing is not known."""
    found = {entry.filename: entry for entry in archive.infolist()}
    if len(found) != len(archive.infolist()) or any(e.compress_type not in _KNOWN for e in found.values()):
        raise BadWeights(f"{source} is no archive as programs write them: its files are packed oddly, or share names.")
    return found


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A file's content, never more than the directory states."""
    with archive.open(entry) as file:
        return file.read(entry.file_size)


def read_npz(path: Path, wanted: Collection[str], largest_bytes: int, remedy: str) -> dict[str, NDArray[Any]]:
    """Those of the wanted arrays that an .npz file has, by name; no pickles, and no other array is unpacked.

    Raises `BadWeights`, ending with `remedy`, for a file that is no .npz, or where an array is larger than
    `largest_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = entries_of(archive, str(path))
        if odd := [name for name in found if not name.endswith(".npy")]:
            raise BadWeights(f"{path} holds {odd[0][:40]!r}, which is no array.")
        for name in wanted:
            if (entry := found.get(f"{name}.npy")) and entry.file_size > largest_bytes:
                raise BadWeights(f"{path}: {name} unpacks to {entry.file_size >> 20} MB, more than it may have.")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in wanted if name in arrays.files}
    except BadWeights as error:
        raise BadWeights(f"{error} {remedy}") from error
    except Exception as error:  # numpy and zipfile raise whatever their parsers do
        raise BadWeights(f"{path} is truncated, or not an .npz of plain arrays ({error}). {remedy}") from error
