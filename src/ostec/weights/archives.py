"""Zip archives whose directory is not believed: no file in one takes more memory than it says it has bytes."""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

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
    """A file's content, never more than the directory says."""
    with archive.open(entry) as file:
        return file.read(entry.file_size)


def check_npz(path: Path, wanted: Collection[str], largest_bytes: int) -> None:
    """Raises `BadWeights` where what numpy would read of these arrays is no array or larger than it may be."""
    with zipfile.ZipFile(path) as archive:
        found = entries_of(archive, str(path))
    if odd := [name for name in found if not name.endswith(".npy")]:
        raise BadWeights(f"{path} holds {odd[0][:40]!r}, which is no array.")
    for name in wanted:
        entry = found.get(f"{name}.npy")
        if entry is not None and entry.file_size > largest_bytes:
            raise BadWeights(f"{path}: {name} unpacks to {entry.file_size >> 20} MB, more than it may have.")
