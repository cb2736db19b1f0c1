"""A complete transfer, from files or values to what can be saved."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.files.meshes import read_mesh
from ostec.interfaces import Detector, Reconstructor
from ostec.mesh_transfer.result import TransferResult
from ostec.mesh_transfer.texture_transfer import detected_pairs, given_pairs, transfer_texture
from ostec.registry.components import build, head_names, neutral_head
from ostec.types import Mesh, Result
from ostec.weights.locate import weights_folders

_LAYOUT = "Write a line for each point: x y z on the source, then x y z on the target."


def transfer(
    source: str | Path | Mesh | Result,
    target: str | Path | Mesh,
    texture_size: int = 1024,
    landmarks: str | Path | None = None,
    weights_dir: str | Path | None = None,
) -> TransferResult:
    """Carry a texture over to another mesh.

    `source` is a `Result`, or an .obj or .glb file with a texture; `target` is such a file with UVs, with or without a
    texture, in any unit and orientation, or "mediapipe" or "ict" for that model's neutral head (the file of "ict" is
    looked for in `weights_dir` first). FaceMesh finds the face on both; where it cannot, `landmarks` is a text file of
    corresponding points, x y z on the source and x y z on the target in each line. Raises `BadGeometry`, `BadPhoto`,
    `BadSettings`, `MissingWeights`, `NoFace`.
    """
    folder = None if weights_dir is None else Path(weights_dir)
    weights_folders(folder)
    meshes = source_mesh(source), target_mesh(target, folder)
    if landmarks is not None:
        pairs = given_pairs(read_landmarks(Path(landmarks)))
    else:
        pairs = detected_pairs(*meshes, *_face_finders())
    return transfer_texture(*meshes, pairs, texture_size)


def source_mesh(given: str | Path | Mesh | Result) -> Mesh:
    """A mesh with a texture. Raises `BadGeometry`, `BadPhoto`."""
    if isinstance(given, Result):
        return Mesh(given.reconstruction, given.texture.rgb, given.photo.name)
    return given if isinstance(given, Mesh) else read_mesh(Path(given), needs_texture=True)


def target_mesh(given: str | Path | Mesh, weights_dir: Path | None = None) -> Mesh:
    """A mesh from a file, or a reconstructor's neutral head by name. Raises `BadGeometry`, `MissingWeights`."""
    if isinstance(given, Mesh):
        return given
    return neutral_head(str(given), weights_dir) if str(given) in head_names() else read_mesh(Path(given))


def read_landmarks(path: Path) -> Tensor:
    """[N, 6] float64: a line for each point, x y z on the source, then x y z on the target. Raises `BadGeometry`."""
    try:
        rows = [line.partition("#")[0].split() for line in path.read_text().splitlines()]
        points = np.array([row for row in rows if row], dtype=np.float64)
    except (OSError, ValueError) as error:
        raise BadGeometry(f"{path}: cannot be read as rows of numbers ({error}). {_LAYOUT}") from error
    if points.ndim != 2 or points.shape[1] != 6 or not np.isfinite(points).all():
        raise BadGeometry(f"{path}: does not hold six numbers in each line. {_LAYOUT}")
    return torch.from_numpy(points)


@lru_cache(maxsize=1)
def _face_finders() -> tuple[Detector, Reconstructor]:
    return build("detector", "mediapipe"), build("reconstructor", "mediapipe")
