"""The one entry to weight files that others made: what is in them as plain data, and nothing of theirs is run.

`read_stored` chooses the reader: `safetensors`, `onnx_files`, `pickles`, `torchscript_files` or torch's own for tensors
alone. `expecting` turns what goes wrong with the content into a message that names the file and the remedy. Keras files
and MATLAB files, which only `ostec.original` reads, have readers there with the same rules.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.lib import format as npy
from safetensors.torch import load

from ostec.errors import BadWeights, MissingWeights
from ostec.weights.archives import entries_of, read_entry
from ostec.weights.onnx_files import parse_onnx
from ostec.weights.pickles import unpickle, wrapped
from ostec.weights.torchscript_files import MARK, read_script

_LARGEST_BYTES = 4 << 30
_ZIP, _OLD_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_MOST_COMPRESSED = 4
"""How many times its own size an archive's file may have; weights hardly compress."""


@contextmanager
def expecting(what: str, source: str | Path, remedy: str) -> Iterator[None]:
    """Around code that takes a file's content for `what`: turns what it raises where that is wrong into `BadWeights`.

    `source` is what the message calls the file, `remedy` ends it.
    """
    try:
        yield
    except BadWeights as error:
        if remedy in str(error):
            raise
        raise BadWeights(f"{error} {remedy}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = f"it lacks {reason}" if isinstance(error, KeyError) else reason
        raise BadWeights(f"{source} is not {what}: {reason}. {remedy}".rstrip()) from error


def read_stored(path: Path, remedy: str, member: str = "") -> Any:
    """What a weight file holds: tensors by name, an ONNX graph, or of a pickle what `pickles.unpickle` gives.

    Goes by the content, and by the name only for safetensors and ONNX, which do not begin with a mark. `member` is the
    ONNX file that is wanted of an archive of several. `remedy` ends the messages. Raises `MissingWeights`,
    `BadWeights`.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {remedy}")
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise BadWeights(f"{path} is larger than any network here: {path.stat().st_size >> 20} MB.")
        return _content(path, member)
    except BadWeights as error:
        raise BadWeights(f"{error} {remedy}") from error
    except Exception as error:  # the libraries raise whatever their parsers do
        raise BadWeights(f"{path} is truncated, or is not a weight file ({type(error).__name__}). {remedy}") from error


def _content(path: Path, member: str) -> Any:
    with path.open("rb") as file:
        start = file.read(16)
    if ".safetensors" in path.suffixes:
        return load(path.read_bytes())
    if ".onnx" in path.suffixes:
        return parse_onnx(path.read_bytes(), str(path))
    if start.startswith(npy.MAGIC_PREFIX):
        return wrapped(unpickle(_objects(path), str(path)))
    if start.startswith(_ZIP) and member:
        return parse_onnx(_member(path, member), str(path))
    if start.startswith((_ZIP, _OLD_TORCH)):
        if _check_zip(path):
            return read_script(path)
        return _plain(torch.load(path, "cpu", weights_only=True), path.stat().st_size)
    return unpickle(path.read_bytes(), str(path))


def _check_zip(path: Path) -> bool:
    """Whether it is a TorchScript archive. Refuses one whose numbers are packed."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        entries = entries_of(archive, str(path))
        script = any(name.endswith(MARK) for name in entries)
        unpacked = sum(entry.file_size for name, entry in entries.items() if not (script and "/code/" in name))
        if unpacked > path.stat().st_size:
            raise BadWeights(f"{path} unpacks to more than its own size, which no weight file does.")
        return script


def _member(path: Path, name: str) -> bytes:
    """A file in an archive, in whatever folder."""
    with zipfile.ZipFile(path) as archive:
        found = [entry for file, entry in entries_of(archive, str(path)).items() if file.rpartition("/")[2] == name]
        if len(found) != 1:
            raise BadWeights(f"{path} holds {len(found)} files {name}, not one.")
        if found[0].file_size > _MOST_COMPRESSED * path.stat().st_size:
            raise BadWeights(f"{path} unpacks to far more than its own size, which no weight file does.")
        return read_entry(archive, found[0])


def _plain(stored: Any, budget_bytes: int) -> Any:
    """What `torch.load` gave, if all its tensors are numbers of their own that lie in the file."""
    waiting, seen, total = [stored], set(), 0
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, (list, tuple, set)):
            waiting += value
        elif isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.device.type != "cpu" or value.is_complex():
                raise BadWeights("It holds tensors that no network here has.")
            total += value.numel() * value.element_size()
            if total > budget_bytes:
                raise BadWeights("Its tensors are larger than the file.")
    return stored


def _objects(path: Path) -> bytes:
    """The pickle that `np.save` writes behind its header for what is no array."""
    with path.open("rb") as file:
        headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = headers[npy.read_magic(file)](file)
        if shape != () or not dtype.hasobject:
            raise BadWeights(f"{path} is an array, not tables of arrays.")
        return file.read()
