"""A fit that GANFit made: `NAME.pkl` beside the photo.

Facts: what `run_ostec.py`, `core/operator.py` and `utils/ganfit_camera.py` of barisgecer/OSTeC @ d6f8076 read of it. A
dict with `vertices` [53,215, 3], or menpo's `tmesh` that has them as `points`; `vertices_rotated`, the same before the
camera (x right, y up, z backwards), or `camera_params`: offsets to the eye (0, 0, 6), to the point looked at (0, 0, 0),
to the up direction (0, 1, 0) and to the field of view; and `dense_lms` [53,215, 2], where each vertex lies in the
photo, px, y down, pixel centres at whole numbers. No such file is public: this has been tried on files of that
structure only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostec.geometry.align import fit_similarity_3d
from ostec.heads.given_fits import camera_of_projection, checked_reconstruction, fit_of_face, fits_beside
from ostec.heads.ostec_topology import load_topology
from ostec.types import Camera, Detection, Photo, Reconstruction, Topology
from ostec.weights.open import expecting, read_stored
from ostec.weights.pickles import array, attributes, entries

_EYE, _UP = (0.0, 0.0, 6.0), (0.0, 1.0, 0.0)
_LARGEST_ERROR = 0.02
"""Of the size of the face: how far apart two statements of a fit about the same points may lie."""
_REMEDY = "Give the .pkl that GANFit wrote for this photo, or fit the photo here: --reconstructor mediapipe."


class GanfitReconstructor:
    """Reads the fit instead of making one."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology

    def __call__(self, photo: Photo, detection: Detection) -> Reconstruction:
        """Raises `MissingWeights` where there is no fit, `BadWeights`, and `NoFace` where it is another face's."""
        path = fits_beside(photo, ".pkl")[0]
        return fit_of_face([read_ganfit(path, self.topology, photo.size)], photo, detection)


def read_ganfit(path: Path, topology: Topology, size: tuple[int, int]) -> Reconstruction:
    """The fit in a file, for the photo of (height, width) `size`; runs nothing that the file holds.

    GANFit's unit is arbitrary: the eyes are taken to be 63 mm apart. Raises `BadWeights`.
    """
    stored = read_stored(path, _REMEDY)
    with expecting("a fit of GANFit's", path, _REMEDY):
        fit = entries(stored)
        vertices = _points(fit["vertices"] if "vertices" in fit else attributes(fit["tmesh"])["points"])
        before_camera = _before_camera(fit, vertices)
        places_px = _points(fit["dense_lms"]) + 0.5
        named = {"vertices": (vertices, 3), "vertices_rotated": (before_camera, 3), "dense_lms": (places_px, 2)}
        for name, (found, sides) in named.items():
            if found.shape != (wanted := (len(topology.paintable), sides)):
                raise ValueError(f"{name} is {list(found.shape)}, but the original's mesh makes it {list(wanted)}")
        camera = _camera(vertices, before_camera, places_px, size)
    return checked_reconstruction(vertices, topology, camera, str(path))


def _camera(vertices: Tensor, before_camera: Tensor, places_px: Tensor, size: tuple[int, int]) -> Camera:
    """The camera in the fit's units, from the vertices in three frames. Raises `ValueError` where they disagree."""
    ones = torch.ones(len(vertices), dtype=torch.float64)
    scale, R, t = fit_similarity_3d(vertices, before_camera, ones)
    turned = vertices @ R.T + t / scale
    _require_near("vertices_rotated are not the vertices, turned", turned, before_camera / scale)
    rays = torch.cat([turned[:, :2] / turned[:, 2:], ones[:, None]], dim=1)
    lens = torch.linalg.lstsq(rays, places_px).solution.T
    _require_near("dense_lms are not what a camera sees of the vertices", rays @ lens.T, places_px)
    K = torch.cat([lens, torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)])
    return camera_of_projection(K @ torch.cat([R, (t / scale)[:, None]], dim=1), size)


def _before_camera(fit: Mapping[Any, Any], vertices: Tensor) -> Tensor:
    """[V, 3] in a camera's frame: x right, y down, z forward."""
    if "vertices_rotated" in fit:
        return _points(fit["vertices_rotated"]) * torch.tensor([1.0, -1.0, -1.0])
    eye, target, up = (_points(offset).reshape(3) for offset in fit["camera_params"][:3])
    eye = eye + torch.tensor(_EYE)
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up + torch.tensor(_UP)), dim=0)
    R = torch.stack([right, torch.linalg.cross(forward, right), forward])
    return (vertices - eye) @ R.T


def _points(value: Any) -> Tensor:
    found: NDArray[Any] = array(value)
    if not np.isfinite(found).all():
        raise ValueError("numbers that are not finite")
    return torch.from_numpy(found.astype(np.float64))


def _require_near(complaint: str, found: Tensor, wanted: Tensor) -> None:
    error = (found - wanted).norm(dim=1).mean()
    size = (wanted - wanted.mean(dim=0)).norm(dim=1).mean()
    if not float(error) <= _LARGEST_ERROR * float(size):
        raise ValueError(f"{complaint}: off by {float(error / size):.1%} of the face")


def load_ganfit_reconstructor(*topology: Path) -> GanfitReconstructor:
    """With the four files of the original's mesh. Raises `MissingWeights`, `BadWeights`."""
    return GanfitReconstructor(load_topology({path.name: path for path in topology}))
