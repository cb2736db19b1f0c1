"""Where weight files lie, and what to do about those that are missing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_data_path

from ostec.errors import MissingWeights
from ostec.weights.catalogue import WeightFile

DATA_DIR = Path(__file__).parent.parent / "data"
"""The files that come in the package."""
_SAMPLES, _SAMPLE_BYTES = 16, 4096


def weights_folders(weights_dir: Path | None = None) -> tuple[Path, ...]:
    """Where weight files are looked for, in order: the folder given, `OSTEC_WEIGHTS`, the user's data folder.

    Raises `MissingWeights` where one of the first two is given and is not a folder.
    """
    named = os.environ.get("OSTEC_WEIGHTS")
    if weights_dir is not None and not weights_dir.is_dir():
        raise MissingWeights(f"{weights_dir}: not a folder. Give the folder that holds the weight files.")
    if named and not Path(named).is_dir():
        raise MissingWeights(
            f"{named}: not a folder, but the environment variable OSTEC_WEIGHTS names it. Correct or unset it."
        )
    chosen = (weights_dir, Path(named) if named else None, _user_folder())
    return tuple(folder for folder in chosen if folder is not None)


def download_folder(weights_dir: Path | None = None) -> Path:
    """Where downloads go, whether it is there or not: the first of the folders that `weights_folders` looks into."""
    named = os.environ.get("OSTEC_WEIGHTS")
    return weights_dir or (Path(named) if named else _user_folder())


def find(file: str, folders: Sequence[Path]) -> Path | None:
    """A file in the first of the folders that has it, or in a folder in that one."""
    for folder in folders:
        for path in (folder / file, *sorted(folder.glob(f"*/{file}"))):
            if path.is_file():
                return path
    return None


def find_all(entries: Sequence[WeightFile], folders: Sequence[Path]) -> tuple[Path, ...] | None:
    """The paths of these files, or None where one is missing."""
    paths = [find(entry.file, folders) for entry in entries]
    present = tuple(path for path in paths if path is not None)
    return present if len(present) == len(paths) else None


def require(part: str, entries: Sequence[WeightFile], folders: Sequence[Path]) -> tuple[Path, ...]:
    """The paths of the files that a part needs. Raises `MissingWeights`, which names each that is absent."""
    paths = find_all(entries, folders)
    if paths is None:
        absent = [entry for entry in entries if find(entry.file, folders) is None]
        lines = [f"{part!r} needs files that are not in {', '.join(map(str, folders))}:"]
        lines += [f"  {entry.file} ({entry.what}; {entry.licence}). {_how(entry)}" for entry in absent]
        raise MissingWeights("\n".join(lines))
    return paths


def fingerprint(path: Path) -> str:
    """16 hexadecimal digits that identify the content of a file: a hash of its size and of evenly spaced samples.

    It takes milliseconds for a file of any size. It does not detect damage; `download.sha256` does.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for i in range(_SAMPLES):
            file.seek(max(0, size - _SAMPLE_BYTES) * i // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _how(entry: WeightFile) -> str:
    return f"ostec models get {entry.name} downloads it from {entry.url}" if entry.url else entry.how


def _user_folder() -> Path:
    return user_data_path("ostec", appauthor=False) / "weights"
