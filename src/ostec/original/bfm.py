"""The Basel Face Model of 2009 with expressions, as Deep3DFaceRecon puts it together.

Sources: "A 3D Face Model for Pose and Illumination Invariant Face Recognition" (Paysan et al., AVSS 2009) for the
model; "CNN-based Real-time Dense Face Reconstruction" (Guo et al., arXiv 1708.00980) for the expressions. Layout of the
files, scales and the choice of vertices: `util/load_mats.py` of sicxu/Deep3DFaceRecon_pytorch, and of the fork
barisgecer/Deep3DFaceRecon_pytorch @ e3020cf for the mesh of 53,215 vertices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights
from ostec.original.matlab_files import read_matrices
from ostec.weights.open import expecting

_METRES = 1e-6
"""The files hold micrometres; Deep3DFaceRecon computes in decimetres."""
_MAT, _BIN, _TXT = "01_MorphableModel.mat", "Exp_Pca.bin", "std_exp.txt"
_REMEDY = (
    "Give the file of the Basel Face Model 2009 (https://faces.dmi.unibas.ch/bfm/), not of 2017 or 2019, complete, as "
    "it was published; `ostec models list` names every file and where it comes from."
)
_MOST_TEXT_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class BaselModel:
    """vertices = mean + basis · coefficients, head frame, metres."""

    mean: Tensor
    """[V, 3]; the origin is the mean of the front of the face."""
    basis: Tensor
    """[3·V, I + E], times standard deviations: a coefficient of 1 is one of these."""

    def vertices(self, identity: Tensor, expression: Tensor) -> Tensor:
        """[V, 3] for coefficients [I] and [E]."""
        return self.mean + (self.basis @ torch.cat([identity, expression])).view(-1, 3)


def load_bfm(files: Mapping[str, Path], identities: int, expressions: int) -> BaselModel:
    """The first `identities` and `expressions` components on the vertices that have expressions (53,215 of 53,490).

    `files`: name -> path of `01_MorphableModel.mat`, `Exp_Pca.bin`, `std_exp.txt`, `BFM_exp_idx.mat` and
    `BFM_front_idx.mat`. Numbers of vertices come from the files and must agree. Raises `MissingWeights`, `BadWeights`.
    """
    trim = _index(files["BFM_exp_idx.mat"], "trimIndex")
    front = _index(files["BFM_front_idx.mat"], "idx")
    if front.max() >= len(trim):
        raise BadWeights(
            f"{files['BFM_front_idx.mat']} names vertex {front.max() + 1:,}, but {files['BFM_exp_idx.mat']} keeps "
            f"{len(trim):,}. {_REMEDY}"
        )
    mean, identity = _identity(files[_MAT], trim, identities, files["BFM_exp_idx.mat"])
    expression = _expression(files[_BIN], files[_TXT], len(trim), expressions)
    mean = mean - mean[front].mean(axis=0)
    basis = torch.cat([torch.from_numpy(identity), torch.from_numpy(expression)], dim=1)
    return BaselModel(torch.from_numpy(mean).float(), basis)


def _identity(path: Path, trim: NDArray[Any], count: int, trim_path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """([V, 3] float64 mean, [3·V, I] float32 basis), metres."""
    found = read_matrices(path, {"shapeMU": (None,), "shapePC": (None, None), "shapeEV": (None,)}, _REMEDY)
    mean, components, deviations = (found[name] for name in ("shapeMU", "shapePC", "shapeEV"))
    if len(mean) % 3 or components.shape != (len(mean), len(deviations)) or len(deviations) < count:
        raise BadWeights(
            f"{path}: a mean of {len(mean):,} numbers, components {list(components.shape)} and {len(deviations)} "
            f"deviations are not a face model with {count} components. {_REMEDY}"
        )
    if trim.max() >= len(mean) // 3:
        raise BadWeights(
            f"{path} has {len(mean) // 3:,} vertices, but {trim_path} names vertex {trim.max() + 1:,}; the Basel Face "
            f"Model 2009 has 53,490. {_REMEDY}"
        )
    chosen = components[:, :count].reshape(-1, 3, count)[trim]
    basis = (chosen * (deviations[:count] * _METRES)).reshape(-1, count)
    return mean.reshape(-1, 3)[trim].astype(np.float64) * _METRES, basis.astype(np.float32)


def _expression(path: Path, deviations_path: Path, vertices: int, count: int) -> NDArray[Any]:
    """[3·V, E] float32 basis, metres. The file: int32 K, then float32 mean [3·V] and K components [3·V]."""
    if not path.is_file():
        raise MissingWeights(f"{path} is missing. {_REMEDY}")
    size = path.stat().st_size
    stored = int(np.fromfile(path, "<i4", 1)[0]) if size >= 4 else 0
    held = (size - 4) // (12 * (1 + stored)) if stored > 0 else 0
    if stored < count or held != vertices:
        raise BadWeights(
            f"{path} ({size:,} bytes) holds {max(stored, 0):,} components of {held:,} vertices; {count} of "
            f"{vertices:,} are needed. It is truncated, or of another mesh. {_REMEDY}"
        )
    components = np.fromfile(path, "<f4", count * 3 * vertices, offset=4 + 12 * vertices).reshape(count, -1)
    if not np.isfinite(components).all():
        raise BadWeights(f"{path} holds numbers that are not finite. {_REMEDY}")
    if not deviations_path.is_file():
        raise MissingWeights(f"{deviations_path} is missing. {_REMEDY}")
    with expecting("a list of numbers", deviations_path, _REMEDY), deviations_path.open("rb") as file:
        deviations = np.array([float(word) for word in file.read(_MOST_TEXT_BYTES).split()][:count])
        if len(deviations) < count or not np.isfinite(deviations).all():
            raise ValueError(f"it holds {len(deviations)} numbers; {count} finite ones are needed")
    return np.ascontiguousarray((components * (deviations[:, None] * _METRES)).T, dtype=np.float32)


def _index(path: Path, name: str) -> NDArray[Any]:
    """[N] int64, 0-based, from a column that counts from 1."""
    numbers = read_matrices(path, {name: (None,)}, _REMEDY)[name].astype(np.float64)
    if not len(numbers) or (numbers < 1).any() or (numbers != numbers.round()).any():
        raise BadWeights(f"{path}: {name} is not a list of vertex numbers from 1. {_REMEDY}")
    return numbers.astype(np.int64) - 1
