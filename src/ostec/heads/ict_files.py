"""The packed file of ICT-FaceKit's head model: reading and checking it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ostec.errors import BadWeights, MissingWeights
from ostec.weights.archives import read_npz
from ostec.weights.shipped import DATA_DIR

TOPOLOGY_FILE = DATA_DIR / "ict_topology.npz"
VERTICES, IDENTITIES = 26719, 100
_SIDED = (
    "browDown browInnerUp browOuterUp cheekPuff cheekSquint eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp "
    "eyeSquint eyeWide mouthDimple mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch mouthUpperUp noseSneer"
)
_WHOLE = (
    "jawForward jawLeft jawOpen jawRight mouthClose mouthFunnel mouthLeft mouthPucker mouthRight mouthRollLower "
    "mouthRollUpper mouthShrugLower mouthShrugUpper"
)
EXPRESSIONS = tuple(sorted([*(f"{name}_{side}" for name in _SIDED.split() for side in "LR"), *_WHOLE.split()]))
_LARGEST_BYTES = 1 << 26
_REMEDY = "`ostec models get ict-facekit` makes it anew from the public OBJ files."
_NEEDED: Mapping[str, tuple[tuple[int, ...], str]] = {
    "neutral_vertices": ((VERTICES, 3), "f"),
    "identity_deltas": ((IDENTITIES, VERTICES, 3), "f"),
    "expression_deltas": ((len(EXPRESSIONS), VERTICES, 3), "f"),
    "expression_names": ((len(EXPRESSIONS),), "U"),
}
"""Array -> shape and kind of number."""
_LARGEST = 100.0
"""Largest coordinate that is accepted, in ICT's units."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """ICT-FaceKit's shapes, in its own units and order of vertices."""

    mean: NDArray[np.float32]
    """[V, 3]: the neutral head."""
    deltas: NDArray[np.float32]
    """[C, V, 3]: what each coefficient adds, identities first."""
    names: tuple[str, ...]
    """Of the expressions, which are the last of the C."""


def read_shapes(path: Path) -> Shapes:
    """The shapes of a packed model, from its arrays `neutral_vertices`, `identity_deltas`, `expression_deltas` and
    `expression_names`; other arrays are not read. Raises `MissingWeights`, `BadWeights`."""
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {_REMEDY}")
    found = read_npz(path, _NEEDED, _LARGEST_BYTES, _REMEDY)
    if absent := [name for name in _NEEDED if name not in found]:
        raise BadWeights(f"{path} has no {', '.join(absent)}: it is no packed ICT-FaceKit model. {_REMEDY}")
    for name, (shape, kind) in _NEEDED.items():
        array = found[name]
        if array.shape != shape or array.dtype.kind != kind:
            raise BadWeights(f"{path}: {name} is {array.dtype} {array.shape}, not {shape} of kind {kind!r}. {_REMEDY}")
        if kind == "f" and not (np.abs(array) < _LARGEST).all():
            raise BadWeights(f"{path}: {name} holds values that are not finite, or too large. {_REMEDY}")
    if tuple(found["expression_names"].tolist()) != EXPRESSIONS:
        raise BadWeights(f"{path}: expression_names are not those of ICT-FaceKit in alphabetical order. {_REMEDY}")
    deltas = np.concatenate([found["identity_deltas"], found["expression_deltas"]]).astype(np.float32)
    return Shapes(found["neutral_vertices"].astype(np.float32), deltas, EXPRESSIONS)
