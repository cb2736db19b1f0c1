"""Opening weight files safely: what is in them as plain data, and nothing of theirs run."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load

from ostec.errors import BadWeights, MissingWeights
from ostec.models.pickles import unpickle
from ostec.models.torchscript_files import is_script, read_script

_LARGEST_BYTES = 4 << 30
_ZIP, _OLD_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def read_stored(path: Path, remedy: str) -> Any:
    """What a weight file holds: tensors by name, or for a pickle of networks what `pickles.unpickle` gives.

    Goes by the content and not by the name. `remedy` ends the messages. Raises `MissingWeights`, `BadWeights`.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {remedy}")
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise BadWeights(f"{path} is larger than any network here: {path.stat().st_size >> 20} MB.")
        with path.open("rb") as file:
            start = file.read(16)
        if ".safetensors" in path.suffixes:
            return load(path.read_bytes())
        if start.startswith((_ZIP, _OLD_TORCH)):
            if _check_zip(path):
                return read_script(path)
            return torch.load(path, "cpu", weights_only=True)
        return unpickle(path.read_bytes(), str(path))
    except BadWeights as error:
        raise BadWeights(f"{error} {remedy}") from error
    except Exception as error:  # the libraries raise whatever their parsers do
        raise BadWeights(f"{path} is truncated, or is not a weight file ({type(error).__name__}). {remedy}") from error


def _check_zip(path: Path) -> bool:
    """Whether it is a TorchScript archive. Refuses one whose numbers are packed."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        script = is_script(archive)
        unpacked = sum(entry.file_size for entry in archive.infolist() if not (script and "/code/" in entry.filename))
        if unpacked > path.stat().st_size:
            raise BadWeights(f"{path} unpacks to more than its own size, which no weight file does.")
        return script
