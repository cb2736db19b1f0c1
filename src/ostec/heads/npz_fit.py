"""A fit that any other program made: `NAME.npz` beside the photo. `docs/other-fits.md` describes the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from ostec.errors import BadWeights
from ostec.geometry.camera import to_pixels, toward_camera
from ostec.geometry.mesh import vertex_normals
from ostec.heads.given_fits import camera_of_projection, checked_reconstruction, fit_of_face, fits_beside
from ostec.heads.ostec_topology import load_topology
from ostec.types import Camera, Detection, Photo, Reconstruction, Topology
from ostec.weights.archives import read_npz

_KEYS = (
    *("vertices", "faces", "uv", "uv_faces", "paintable", "landmark_vertices", "landmarks_px"),
    *("projection", "K", "R", "t", "camera_model", "units_per_metre"),
)
_LARGEST_BYTES = 1 << 29
_LEAST_UNITS = 1e-6
_REMEDY = "docs/other-fits.md describes the file."
FitArrays = Mapping[str, NDArray[Any]]


class FitFileReconstructor:
    """Reads the fit from a file instead of computing one."""

    def __init__(self, find_topology: Callable[[], Sequence[Path]]) -> None:
        """`find_topology` gives the files of the original's mesh, for fits on that mesh that have no triangles of their
        own; it is called for the first of these and may raise `MissingWeights`."""
        self._find_topology = find_topology
        self._original: Topology | None = None
        self._last: Topology | None = None

    def __call__(self, photo: Photo, detection: Detection) -> Reconstruction:
        """Raises `MissingWeights` where there is no fit, `BadWeights`, and `NoFace` where it fits another face."""
        fits = [self.read(path, photo.size) for path in fits_beside(photo, ".npz")]
        return fit_of_face(fits, photo, detection)

    def read(self, path: Path, size: tuple[int, int]) -> Reconstruction:
        """The fit in a file, for the photo of (height, width) `size`. Raises `MissingWeights`, `BadWeights`."""
        fit = read_npz(path, _KEYS, _LARGEST_BYTES, _REMEDY)
        try:
            vertices = _floats(fit, "vertices", (None, 3))
            camera = _camera(fit, size)
            topology = self._topology(fit, vertices, camera)
            unit_m = _metres_per_unit(fit) if "units_per_metre" in fit else None
        except (ValueError, KeyError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise BadWeights(f"{path}: {reason}. {_REMEDY}") from error
        return checked_reconstruction(vertices, topology, camera, str(path), unit_m)

    def _topology(self, fit: FitArrays, vertices: Tensor, camera: Camera) -> Topology:
        """The same object as for the previous fit if the mesh is the same, because charts are cached per object."""
        if "faces" not in fit:
            if self._original is None:
                self._original = load_topology({path.name: path for path in self._find_topology()})
            if len(self._original.paintable) != len(vertices):
                raise ValueError(
                    f"it lacks 'faces'; only fits on the original's mesh may, but that has "
                    f"{len(self._original.paintable):,} vertices and this fit has {len(vertices):,}"
                )
            return self._original
        topology, last = _own_topology(fit, vertices, camera), self._last
        if last is not None and _same(topology, last):
            return last
        self._last = topology
        return topology


def _own_topology(fit: FitArrays, vertices: Tensor, camera: Camera) -> Topology:
    count = len(vertices)
    faces = _indices(fit, "faces", (None, 3), count)
    uv, uv_faces = _uv(fit, faces, count)
    if "landmark_vertices" in fit:
        landmarks = _indices(fit, "landmark_vertices", (68,), count)
    elif "landmarks_px" in fit:
        landmarks = nearest_seen(_floats(fit, "landmarks_px", (68, 2)), vertices, faces, camera)
    else:
        raise ValueError("it lacks 'landmark_vertices' or 'landmarks_px'")
    paintable = torch.ones(count, dtype=torch.bool)
    if "paintable" in fit:
        paintable = _floats(fit, "paintable", (count,)) != 0
    return Topology(faces, uv.float(), uv_faces, landmarks, paintable, None, "file")


def _uv(fit: FitArrays, faces: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """([T, 2], [F, 3]) from coordinates per vertex [V, 2], per corner [F, 3, 2], or any number with `uv_faces`."""
    if "uv" in fit and fit["uv"].ndim == 3:
        uv = _floats(fit, "uv", (len(faces), 3, 2)).reshape(-1, 2)
        uv_faces = torch.arange(len(uv)).view(-1, 3)
    elif "uv_faces" in fit:
        uv = _floats(fit, "uv", (None, 2))
        uv_faces = _indices(fit, "uv_faces", tuple(faces.shape), len(uv))
    else:
        uv, uv_faces = _floats(fit, "uv", (count, 2)), faces
    if not bool(((uv >= 0) & (uv <= 1)).all()):
        raise ValueError(f"uv reaches from {float(uv.min()):.3g} to {float(uv.max()):.3g}, but must lie in 0..1")
    return uv, uv_faces


def nearest_seen(landmarks_px: Tensor, vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    """[68]: for each landmark [68, 2], the nearest in the picture of the vertices [V, 3] that face the camera."""
    single = vertices.float()
    facing = (vertex_normals(single, faces) * toward_camera(single, camera)).sum(dim=1) > 0
    index = facing.nonzero()[:, 0]
    if not len(index):
        raise ValueError("no triangle faces the camera; they are counter-clockwise seen from outside")
    _, nearest = KDTree(to_pixels(single[index], camera).numpy()).query(landmarks_px.numpy())
    return index[torch.from_numpy(nearest)]


def _camera(fit: FitArrays, size: tuple[int, int]) -> Camera:
    """The camera for vertices in the file's units."""
    if "projection" in fit:
        projection = _floats(fit, "projection", (None, 4))
        if len(projection) not in (3, 4):
            raise ValueError(f"projection is {list(projection.shape)}; [3, 4] or [4, 4] is needed")
        return camera_of_projection(projection[[0, 1, -1]], size)
    K, R, t = (_floats(fit, name, shape) for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("t", (3,))))
    if float((R @ R.T - torch.eye(3)).abs().max()) > 1e-3 or float(R.det()) < 0:
        raise ValueError("R is not a rotation (its rows are not unit and at right angles, or it mirrors)")
    if float(K[0, 0]) <= 0 or float(K[1, 1]) <= 0 or K[2].tolist() != [0, 0, 1]:
        raise ValueError("K is not [[f, s, x], [0, f, y], [0, 0, 1]] with positive f")
    model = str(fit.get("camera_model", "perspective"))
    if model != "perspective" and model != "orthographic":
        raise ValueError(f"camera_model is {model!r}; it is 'perspective' or 'orthographic'")
    return Camera(K.float(), R.float(), t.float(), size, model)


def _metres_per_unit(fit: FitArrays) -> float:
    units = float(_floats(fit, "units_per_metre", ()))
    if not _LEAST_UNITS <= units <= 1 / _LEAST_UNITS:
        raise ValueError(f"units_per_metre is {units}; it is positive, 1000 for millimetres")
    return 1 / units


def _floats(fit: FitArrays, name: str, shape: tuple[int | None, ...]) -> Tensor:
    """Float64. Raises `KeyError`, `ValueError`."""
    found = fit[name]
    fits = len(found.shape) == len(shape) and all(w in (None, n) for n, w in zip(found.shape, shape, strict=True))
    if found.dtype.kind not in "fiub" or not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {found.dtype} {list(found.shape)}; numbers [{wanted}] are needed")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return torch.from_numpy(np.ascontiguousarray(found, dtype=np.float64))


def _indices(fit: FitArrays, name: str, shape: tuple[int | None, ...], count: int) -> Tensor:
    """Int64 in 0..count - 1. Raises `KeyError`, `ValueError`."""
    found = _floats(fit, name, shape).long()
    if fit[name].dtype.kind not in "iu" or found.numel() == 0 or int(found.min()) < 0 or int(found.max()) >= count:
        raise ValueError(f"{name} must hold integers in 0..{count - 1:,}")
    return found


def _same(a: Topology, b: Topology) -> bool:
    names = ("faces", "uv", "uv_faces", "landmark_vertices", "paintable")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in names)
