"""What a transfer may be given: files, results, heads by name, points that are the same on both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.files.mesh_readers import read_mesh
from ostec.registry.components import HEADS, neutral_head
from ostec.types import Mesh, Result


def source_mesh(given: str | Path | Mesh | Result) -> Mesh:
    """A mesh with a texture. Raises `BadGeometry`, `BadPhoto`."""
    if isinstance(given, Result):
        return Mesh(given.reconstruction, given.texture.rgb, given.photo.name)
    return given if isinstance(given, Mesh) else read_mesh(Path(given), needs_texture=True)


def target_mesh(given: str | Path | Mesh) -> Mesh:
    """A mesh from a file, or the neutral head that a reconstructor is known by. Raises `BadGeometry`."""
    if isinstance(given, Mesh):
        return given
    return neutral_head(str(given)) if str(given) in HEADS else read_mesh(Path(given))


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


_LAYOUT = "Write a line for each point: x y z on the source, then x y z on the target."
