"""Writes src/ostec/data/mtcnn.safetensors from the weights in the PyPI package mtcnn (MIT).

    pip download --no-deps mtcnn==1.0.0 && pip install lz4
    python tools/convert_mtcnn.py mtcnn-1.0.0-py3-none-any.whl src/ostec/data/mtcnn.safetensors

The package keeps each network as a list of arrays, written by joblib and packed by LZ4. joblib puts an array's bytes
right after the pickled object that describes it, so the pickle is read up to there; nothing that it names is imported.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Array = NDArray[np.float32]

LAYERS = {
    "proposal": ("trunk.0", "trunk.1", "trunk.3", "trunk.4", "trunk.5", "trunk.6", "box", "face"),
    "refine": ("trunk.0", "trunk.1", "trunk.3", "trunk.4", "trunk.6", "trunk.7", "trunk.9", "trunk.10", "box", "face"),
    "output": (
        *("trunk.0", "trunk.1", "trunk.3", "trunk.4", "trunk.6", "trunk.7", "trunk.9", "trunk.10"),
        *("trunk.12", "trunk.13", "box", "points", "face"),
    ),
}
"""Layers of `ostec.original.mtcnn_nets` in the package's order; a PReLU has one array, the others two."""
AFTER_FLATTENING = {"refine.trunk.9": (3, 3, 64), "output.trunk.12": (3, 3, 128)}
"""Layer -> (columns, rows, channels): how the package strings a map together; torch has channels, rows, columns."""


class Note:
    """Stands for every class that the file names."""

    def __init__(self, *args: Any) -> None:
        self.args, self.state = args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Reader(pickle._Unpickler):
    """Reads joblib's arrays; whatever else it meets is a `Note`."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str, /) -> type[Note]:
        return type(name, (Note,), {})

    def load_build(self) -> None:
        """Build an object as pickle does; after the description of an array, read the array."""
        super().load_build()
        note = self.stack[-1]
        if type(note).__name__ == "NumpyArrayWrapper":
            self.stack[-1] = self._array(note.state)

    dispatch[pickle.BUILD[0]] = load_build

    def _array(self, state: dict[str, Any]) -> Array:
        assert state["order"] == "C" and state["dtype"].args[0] == "f4", state
        self.read(self.read(1)[0])
        shape = tuple(map(int, state["shape"]))
        return np.frombuffer(self.read(4 * int(np.prod(shape))), "<f4").reshape(shape)


def read_arrays(packed: bytes) -> list[Array]:
    """The arrays of a file that joblib has written."""
    return Reader(BytesIO(lz4.frame.decompress(packed))).load()


def named(network: str, arrays: list[Array]) -> Iterator[tuple[str, Array]]:
    """(name, array) as `ostec.original.mtcnn_nets` wants them."""
    rest = iter(arrays)
    for layer in LAYERS[network]:
        name = f"{network}.{layer}"
        weight = next(rest)
        if weight.ndim == 4:
            weight = weight.transpose(3, 2, 0, 1)
        elif weight.ndim == 2:
            columns, rows, channels = AFTER_FLATTENING.get(name, (1, 1, len(weight)))
            weight = weight.reshape(columns, rows, channels, -1).transpose(3, 2, 1, 0)
            weight = weight.reshape(len(weight), -1)
        is_prelu = weight.ndim in (1, 3)
        yield f"{name}.weight", np.ascontiguousarray(weight.reshape(-1) if is_prelu else weight)
        if not is_prelu:
            yield f"{name}.bias", next(rest)
    assert next(rest, None) is None, f"{network} has more arrays than layers"


def main(wheel: Path, out: Path) -> None:
    tensors: dict[str, Array] = {}
    with zipfile.ZipFile(wheel) as package:
        for network in LAYERS:
            packed = package.read(f"mtcnn/assets/weights/{network[0]}net.lz4")
            tensors |= dict(named(network, read_arrays(packed)))
    save_file(tensors, out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
