"""Where weight files lie: which of them are there, and what to do about those that are not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_data_path

from ostec.errors import MissingWeights
from ostec.weights.catalogue import GENERATORS, PARTS, WeightFile

PACKAGE = Path(__file__).parent.parent / "data"
"""Where a generator and its encoder lie that come in the package."""


def weights_folders(weights_dir: Path | None = None) -> tuple[Path, ...]:
    """Where weight files are looked for, in order: the folder given, `OSTEC_WEIGHTS`, the user's data folder."""
    named = os.environ.get("OSTEC_WEIGHTS")
    own = user_data_path("ostec", appauthor=False) / "weights"
    return tuple(folder for folder in (weights_dir, Path(named) if named else None, own) if folder is not None)


def find(file: str, folders: Sequence[Path]) -> Path | None:
    """A file in one of the folders, or in a folder in one of them."""
    for folder in folders:
        for path in sorted([*folder.glob(file), *folder.glob(f"*/{file}")]):
            if path.is_file():
                return path
    return None


def has(part: str, folders: Sequence[Path]) -> bool:
    """Whether all files are there that a part of this name needs; of generators only those that somebody put there,
    as the one in the package completes faces about as well as the prior, and slower (docs/models/face-generator.md)."""
    if part == "projection":
        return find_generator(folders) is not None
    return all(find(entry.file, folders) for entry in PARTS[part])


def require(part: str, folders: Sequence[Path]) -> dict[str, Path]:
    """File name -> where it lies, of all that a part needs. Raises `MissingWeights` naming each that is absent."""
    found = {entry.file: find(entry.file, folders) for entry in PARTS[part]}
    absent = [entry for entry in PARTS[part] if found[entry.file] is None]
    if absent:
        lines = [f"{part!r} needs files that are not in {', '.join(map(str, folders))}:"]
        lines += [f"  {entry.file} ({entry.what}; {entry.licence}). {_how(entry)}" for entry in absent]
        raise MissingWeights("\n".join(lines))
    return {file: path for file, path in found.items() if path is not None}


def _how(entry: WeightFile) -> str:
    return f"ostec models get {entry.name} downloads it from {entry.url}" if entry.url else entry.how


def find_generator(folders: Sequence[Path]) -> Path | None:
    """The first face generator that is in one of the folders."""
    return next((path for entry in GENERATORS if (path := find(entry.file, folders))), None)


def require_generator(folders: Sequence[Path]) -> Path:
    """The first that is there, the package included. Raises `MissingWeights` with all that is needed to get one."""
    found = find_generator((*folders, PACKAGE))
    if found is None:
        first, smallest = GENERATORS[0], GENERATORS[4]
        raise MissingWeights(
            f"the completer 'projection' needs a face generator and none is in {', '.join(map(str, folders))}. "
            f"`ostec models get {first.name}` downloads {first.file} ({first.megabytes} MB) from {first.url}, "
            f"`ostec models get {smallest.name}` a smaller and faster one; licence: {first.licence}. Any file that "
            "`ostec models list` names will do. Without one, `--completer prior` needs no download."
        )
    return found
