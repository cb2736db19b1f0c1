"""The mesh of the original OSTeC: triangles, texture coordinates, mask and landmarks from its topology pickles.

Facts: `models/topology` and `core/operator.py` of barisgecer/OSTeC @ d6f8076. `trilist_full.pkl` is an array
[105,840, 3]; `tcoords_alex.pkl` a menpo `PointCloud` of 53,215 points (u, v) in 0..1 with v up, for a texture of 1024 x
1536 (height x width); `mask_full2crop.pkl` an array [53,215] of bool, the head without ears;
`all_all_all_lands_ids.pkl` a list of 68 vertices in iBUG order. menpo itself is not needed: its classes are not
imported, only their attributes are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ostec.errors import BadWeights
from ostec.types import Topology
from ostec.weights.open import expecting, read_stored
from ostec.weights.pickles import array, attributes, number

NAME = "ostec"
_TRIANGLES, _UV = "trilist_full.pkl", "tcoords_alex.pkl"
_MASK, _LANDMARKS = "mask_full2crop.pkl", "all_all_all_lands_ids.pkl"
_REMEDY = (
    "`ostec models get ostec-triangles ostec-uv ostec-mask ostec-landmarks` downloads the four files of the original's "
    "mesh; delete this one first."
)


def load_topology(files: Mapping[str, Path]) -> Topology:
    """The mesh from its four files, name -> path; the texture coordinates determine the number of vertices.

    It has no mirror map, because BFM09 is not symmetric. The ears lie outside the mask and are not completed, because
    no fit gets them right. Raises `MissingWeights`, `BadWeights`.
    """
    uv, mask, faces = _array(files[_UV], "points"), _array(files[_MASK]), _array(files[_TRIANGLES])
    landmarks = _landmarks(files[_LANDMARKS])
    count = len(uv) if uv.ndim else 0
    _require(uv.ndim == 2 and uv.shape[1:] == (2,) and _within(uv, 0, 1), files[_UV], uv, "[V, 2] in 0..1")
    _require(mask.dtype == bool and mask.shape == (count,), files[_MASK], mask, f"[{count:,}] of true and false")
    fits = faces.ndim == 2 and faces.shape[1:] == (3,) and faces.dtype.kind in "iu" and _within(faces, 0, count - 1)
    _require(fits, files[_TRIANGLES], faces, f"[F, 3] vertices below {count:,}")
    _require(landmarks.shape == (68,) and _within(landmarks, 0, count - 1), files[_LANDMARKS], landmarks, "68 vertices")
    triangles = torch.from_numpy(faces.astype(np.int64))
    return Topology(
        faces=triangles,
        uv=torch.from_numpy(np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1).astype(np.float32)),
        uv_faces=triangles,
        landmark_vertices=torch.from_numpy(landmarks),
        paintable=torch.from_numpy(mask.copy()),
        mirror=None,
        name=NAME,
    )


def _array(path: Path, attribute: str | None = None) -> NDArray[Any]:
    stored = read_stored(path, _REMEDY)
    with expecting("the expected array", path, _REMEDY):
        return array(attributes(stored)[attribute] if attribute else stored)


def _landmarks(path: Path) -> NDArray[np.int64]:
    stored = read_stored(path, _REMEDY)
    with expecting("a list of vertices", path, _REMEDY):
        listed = stored if isinstance(stored, list) else array(stored).tolist()
        return np.array([int(number(index)) for index in listed], dtype=np.int64)


def _within(values: NDArray[Any], low: float, high: float) -> bool:
    return bool(values.size) and bool((values >= low).all() and (values <= high).all())


def _require(fits: bool, path: Path, found: NDArray[Any], wanted: str) -> None:
    if not fits:
        raise BadWeights(f"{path} holds {found.dtype} {list(found.shape)}; {wanted} is needed. {_REMEDY}")
