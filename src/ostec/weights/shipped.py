"""Files that come in the package."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights
from ostec.weights.locate import DATA_DIR


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise MissingWeights(f"{path} is missing; it ships with ostec: install the package again.")
    try:
        yield
    except (ValueError, OSError, zipfile.BadZipFile, SafetensorError) as error:
        raise BadWeights(f"{path} cannot be read ({error}); install the package again.") from error


def read_arrays(path: Path) -> dict[str, NDArray]:
    """The arrays of an .npz file by name; no pickles. Raises `MissingWeights`, `BadWeights`."""
    with _reading(path), np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name. Raises `MissingWeights`, `BadWeights`."""
    with _reading(path):
        return load_file(path)


def check_shipped(folder: Path = DATA_DIR) -> dict[str, str]:
    """File -> what is wrong with it, for every file of the package that is not what `SHA256SUMS` says."""
    wrong = {}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        promised, _, file = line.partition("  ")
        path = folder / file
        if not path.is_file():
            wrong[file] = f"{path}: missing. Install the package again."
        elif hashlib.sha256(path.read_bytes()).hexdigest() != promised:
            wrong[file] = f"{path}: not the file that was shipped. Install the package again."
    return wrong
