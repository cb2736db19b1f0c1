"""Reads pickled networks as plain data. Nothing that a file names is imported, nothing that it holds is run.

A pickle is a program for a small stack machine, and its REDUCE and BUILD instructions call what GLOBAL names. Here
every global is a stand-in that only writes down what it was called with (`Node`), so the program can build nothing but
a tree of notes, no larger than the file. `array`, `tensor`, `number` and `entries` make values of notes, one at a time,
after checking that the bytes are there which the shape asks for.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostec.errors import BadWeights

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_MAPPINGS = ("collections.OrderedDict", "dnnlib.util.EasyDict", "dnnlib.EasyDict")
NETWORK_TF, NETWORK_TORCH = "dnnlib.tflib.network.Network", "torch_utils.persistence._reconstruct_persistent_obj"
_MENPO = "menpo."
"""Meshes and points of the original's topology and of GANFit's fits; a note for each class, whatever it is called."""
_ALLOWED = frozenset(
    (
        *(f"{module}.{name}" for module in _ARRAYS for name in ("_reconstruct", "scalar")),
        *("numpy.ndarray", "numpy.dtype", "_codecs.encode", "builtins.set", "__builtin__.set"),
        *("torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes"),
        *_MAPPINGS,
        *(NETWORK_TF, NETWORK_TORCH),
        *(f"pathlib.{kind}Path" for kind in ("PurePosix", "Posix", "PureWindows", "Windows")),
    )
)
_SCRIPT = (
    "__torch__.",
    "torch.jit._pickle.",
    *(f"torch.{kind}Storage" for kind in ("Float", "Double", "Half", "Long")),
)
"""How the names begin that TorchScript uses besides: its modules, its lists, its kinds of numbers."""
_REFUSED = frozenset(("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "BYTEARRAY8", "NEXT_BUFFER"))
"""Instructions that networks do without: some name things by other ways than GLOBAL, one reserves memory unasked."""
_STORES = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_MOST_INSTRUCTIONS, _MOST_TUPLES = 1 << 20, 1 << 13
"""Some thousand tuples are in the largest files; Python hashes a tuple in a tuple without a bound, down to the end of a
thread's stack of 512 KiB at twice as many."""
_DTYPES = frozenset(("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"))


class Node:
    """What was called, with what, and what state it was given."""

    name = ""
    args: tuple[Any, ...]
    state: Any
    items: list[tuple[Any, Any]]
    made: Tensor | None
    """What was made of it, once; a hostile file can name one array a million times."""

    def __new__(cls, *args: Any) -> Node:
        """Whatever it is called with."""
        node = object.__new__(cls)
        node.args, node.state, node.items, node.made = args, None, [], None
        return node

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, script: bool) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")  # of Python 2
        self._script = script
        self._kinds: dict[str, type[Node]] = {}

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        starts = (_MENPO, *_SCRIPT) if self._script else _MENPO
        if full not in _ALLOWED and not full.startswith(starts):
            raise pickle.UnpicklingError(f"it names {full}, which no network file needs")
        return self._kinds.setdefault(full, type("Node", (Node,), {"name": full}))

    def persistent_load(self, pid: Any) -> Any:
        """What is outside of the pickle stays what it is called."""
        if not self._script:
            raise pickle.UnpicklingError("it refers to objects outside of itself")
        return pid


def unpickle(data: bytes, source: str, script: bool = False) -> Any:
    """The tree of notes, plain values, lists and dicts that a pickle describes. Raises `BadWeights` naming `source`.

    `script`: it is TorchScript's, whose tensors are beside it and stand in it by what their storage is called.
    """
    try:
        _check_instructions(data, _REFUSED - {"BINPERSID"} if script else _REFUSED)
        return _Unpickler(data, script).load()
    except Exception as error:  # a hostile file can raise anything
        raise BadWeights(f"{source} is not a network file, or is damaged: {error}.") from error


def _check_instructions(data: bytes, refused: frozenset[str]) -> None:
    tuples = 0
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        if instruction.name in refused:
            raise pickle.UnpicklingError(f"it holds the instruction {instruction.name}")
        if instruction.name in _STORES and (argument or 0) > count:
            raise pickle.UnpicklingError("it numbers its objects by more than there are")
        tuples += instruction.name.startswith("TUPLE")
        if count > _MOST_INSTRUCTIONS or tuples > _MOST_TUPLES:
            raise pickle.UnpicklingError("it has more instructions than any network")


def entries(value: Any) -> Mapping[Any, Any]:
    """A dict, or what stands for one. Raises `ValueError` for anything else, as all below do."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Node) and value.name in _MAPPINGS:
        return dict(value.items) | dict(value.state or {}) | dict(*value.args)
    raise ValueError(f"a table was expected, not {_kind(value)}")


def attributes(value: Any) -> Mapping[str, Any]:
    """What an object of menpo's holds, by name."""
    if isinstance(value, Node) and value.name.startswith(_MENPO) and isinstance(value.state, dict):
        return value.state
    raise ValueError(f"points or a mesh of menpo's were expected, not {_kind(value)}")


def tf_state(network: Any) -> Mapping[Any, Any]:
    """What a network of NVIDIA's TensorFlow code holds: `variables` and, if it is made of others, `components`."""
    if not isinstance(network, Node) or network.name != NETWORK_TF:
        raise ValueError("it holds no TensorFlow network")
    return entries(network.state)


def number(value: Any) -> float:
    """A Python or numpy number."""
    if isinstance(value, Node) and value.name.endswith(".multiarray.scalar"):
        dtype, data = value.args
        return float(_from_bytes(_bytes(data), _dtype(dtype), ())[()])
    if isinstance(value, (int, float)):
        return float(value)
    raise ValueError(f"a number was expected, not {_kind(value)}")


def array(value: Any) -> NDArray[Any]:
    """A numpy array or number."""
    if isinstance(value, Node) and value.name.endswith(".multiarray._reconstruct") and isinstance(value.state, tuple):
        _, shape, dtype, by_column, data = value.state
        order = "F" if by_column else "C"
        return _from_bytes(_bytes(data), _dtype(dtype), shape, order)
    return np.asarray(number(value), dtype=np.float32)


def floats(value: Any) -> Tensor:
    """A numpy array or number as a tensor of float32; the same tensor for the same note."""
    if not isinstance(value, Node):
        return torch.from_numpy(array(value))
    if value.made is None:
        value.made = torch.from_numpy(np.array(array(value), np.float32, order="C"))
    return value.made


def wrapped(value: Any) -> Any:
    """What `np.save` makes an array of objects of, because it is none itself."""
    if isinstance(value, Node) and value.name.endswith(".multiarray._reconstruct") and isinstance(value.state, tuple):
        objects = value.state[-1]
        if isinstance(objects, list) and len(objects) == 1:
            return objects[0]
    raise ValueError(f"a single object was expected, not {_kind(value)}")


def tensor(value: Any, numbers: Callable[[Any], Tensor] | None = None) -> Tensor:
    """A torch tensor or parameter; the same one for the same note. `numbers` finds a storage's, where they are not in
    the pickle."""
    if not isinstance(value, Node):
        raise ValueError(f"a tensor was expected, not {_kind(value)}")
    if value.made is None:
        value.made = _tensor(value, numbers)
    return value.made


def _tensor(value: Node, numbers: Callable[[Any], Tensor] | None) -> Tensor:
    if value.name == "torch._utils._rebuild_parameter":
        return tensor(value.args[0], numbers)
    if value.name != "torch._utils._rebuild_tensor_v2":
        raise ValueError(f"a tensor was expected, not {_kind(value)}")
    storage, offset, size, stride = value.args[:4]
    flat = (numbers or _numbers)(storage)
    numbers_given = [int(n) for n in (offset, *size, *stride)]
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(numbers_given) < 0 or math.prod(size) > len(flat) or (math.prod(size) and last >= len(flat)):
        raise ValueError(f"a tensor of shape {list(size)} has only {len(flat)} numbers")
    return flat.as_strided(size, stride, offset).clone()


def _numbers(storage: Any) -> Tensor:
    """What `torch.save` made of a storage, as one row."""
    if not isinstance(storage, Node) or storage.name != "torch.storage._load_from_bytes":
        raise ValueError("a tensor's numbers are not in the file")
    data = _bytes(storage.args[0])
    try:
        stored = torch.load(io.BytesIO(data), "cpu", weights_only=True)
        return torch.empty(0, dtype=stored.dtype).set_(stored)
    except Exception as error:  # a hostile file can raise anything
        raise ValueError(f"a tensor's numbers cannot be read ({type(error).__name__})") from error


def _from_bytes(data: bytes, dtype: np.dtype, shape: Any, order: Any = "C") -> NDArray[Any]:
    if any(not isinstance(n, int) or n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {list(shape)} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _dtype(value: Any) -> np.dtype:
    if not isinstance(value, Node) or value.name != "numpy.dtype" or value.args[0] not in _DTYPES:
        raise ValueError("an array is not of plain numbers")
    order = value.state[1] if isinstance(value.state, tuple) else "="
    return np.dtype(value.args[0]).newbyteorder(order)


def _bytes(value: Any) -> bytes:
    if isinstance(value, Node) and value.name == "_codecs.encode" and isinstance(value.args[0], str):
        return value.args[0].encode("latin1")
    if isinstance(value, str):  # of Python 2
        return value.encode("latin1")
    if isinstance(value, bytes):
        return value
    raise ValueError(f"bytes were expected, not {_kind(value)}")


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Node) else type(value).__name__
