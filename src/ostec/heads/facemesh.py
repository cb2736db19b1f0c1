"""The FaceMesh head: the network's 468 points, extended over forehead, temples and neck, and subdivided."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from ostec.errors import BadWeights, NoFace
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import angles_deg, to_pixels
from ostec.networks.facemesh_net import FaceMeshNet, load_facemesh_net, mesh_points
from ostec.types import Camera, Detection, Landmarks, Mesh, Photo, Reconstruction, Shape, Topology
from ostec.weights.shipped import DATA_DIR, read_arrays

LEAST_PRESENCE = 0.5
SURELY_UPRIGHT = 0.995
"""The presence score of faces fitted the right way up is higher, that of faces fitted upside down is lower."""
DEPTH_M = 1.0
"""Camera z of the head frame's origin; a scaled-orthographic picture does not depend on it."""
_FLOATS = ("face_mean", "extension_mean", "extension_map", "pose_weights", "face_weight")


@dataclass(frozen=True)
class FaceMeshModel:
    """What all FaceMesh heads share; made by `tools/make_facemesh_topology.py`.

    The V vertices are the 468 points, E points of the extension, then those of the subdivision.
    """

    topology: Topology
    """Of the subdivided mesh; `name` is "facemesh"."""
    face_mean: Tensor
    """[468, 3] mean shape, head frame, metres, symmetric in x; the zero pose is the mean pose of portraits."""
    extension_mean: Tensor
    """[E, 3], the same for the rings beyond the face oval."""
    extension_map: Tensor
    """[E, 468]: how the rings move when the 468 points move; an affine motion moves them in the same way."""
    subdivision: sparse.csr_matrix
    """[V, 468 + E] float64: interpolation weights; rows sum to one."""
    pose_weights: Tensor
    """[468]: weight of each point in the fit of the pose; low on lips, jaw and lids, which move with the expression."""
    face_weight: Tensor
    """[V]: 1 on the 468 points' mesh, falling smoothly to 0 at the rim of the extension."""
    regions: Mapping[str, Tensor]
    """Name -> [V] bool: eyes, mouth_opening, lips, brows, nostrils, cheeks_nose_chin_skin, forehead, jaw_border,
    extension."""

    def head(self, face: Tensor) -> Tensor:
        """[468, 3] head frame -> [V, 3] float64 vertices of the complete subdivided head."""
        moved = (face - self.face_mean).double()
        extension = self.extension_mean + self.extension_map.double() @ moved
        coarse = torch.cat([face.double(), extension])
        return torch.from_numpy(self.subdivision @ coarse.numpy())


class FaceMeshReconstructor:
    """Fits a head to FaceMesh's 468 points of a face in a photo."""

    def __init__(self, net: FaceMeshNet, fit: Callable[[Tensor, float, tuple[int, int]], Reconstruction]) -> None:
        """`fit` gives the head, from the points [468, 3], the presence 0..1 and the photo's (height, width)."""
        self._net = net
        self._fit = fit

    def __call__(self, photo: Photo, detection: Detection) -> Reconstruction:
        """Raises `NoFace` where the network sees no face at the detection."""
        return self._fit(*face_points(self._net, photo, detection), photo.size)


def face_points(net: FaceMeshNet, photo: Photo, detection: Detection) -> tuple[Tensor, float]:
    """([468, 3] points, presence 0..1) by `mesh_points`, of a face that may be upside down.

    Raises `NoFace` where the network sees no face.
    """
    points, presence = mesh_points(net, photo, detection)
    if presence < SURELY_UPRIGHT:  # on a head upside down the detector confuses forehead and chin
        turned = replace(detection, points_px=torch.cat([detection.points_px[:2].flip(0), detection.points_px[2:]]))
        points, presence = max((points, presence), mesh_points(net, photo, turned), key=lambda fit: fit[1])
    if presence < LEAST_PRESENCE:
        raise NoFace(
            f"{photo.name}: no face can be fitted where one was detected (presence {presence:.2f}, at least "
            f"{LEAST_PRESENCE} is needed). Give a photo that shows the face larger, sharper or less covered."
        )
    return points, presence


def fit_head(model: FaceMeshModel, points: Tensor, presence: float, size: tuple[int, int]) -> Reconstruction:
    """The head whose 468 points appear exactly at `points` [468, 3] (px; z on the same scale, smaller is nearer).

    The camera is scaled-orthographic. `size`: (height, width) of the photo. Mirrored points give the mirrored head.
    """
    points = points.double()
    scale, R, shift_px = fit_similarity_3d(model.face_mean.double(), points, model.pose_weights.double())
    face = ((points - shift_px) / scale) @ R
    height, width = size
    centre_px = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    K = torch.eye(3)
    K[:2, :2] *= scale
    K[:2, 2] = centre_px
    t = torch.cat([(shift_px[:2] - centre_px) / scale, torch.tensor([DEPTH_M])])
    camera = Camera(K, R.float(), t.float(), size, "orthographic")
    vertices = model.head(face).float()
    landmarks_px = to_pixels(vertices[model.topology.landmark_vertices], camera)
    pitch_deg, yaw_deg, roll_deg = angles_deg(R)
    landmarks = Landmarks(landmarks_px, presence)
    return Reconstruction(vertices, model.topology, camera, landmarks, yaw_deg, pitch_deg, roll_deg)


def facemesh_model(arrays: Mapping[str, NDArray]) -> FaceMeshModel:
    """The model from the arrays of `data/facemesh_topology.npz`. Raises `KeyError` where one is missing."""
    faces = _tensor(arrays["faces"], torch.int64)
    vertex_count = len(arrays["uv"])
    columns = len(arrays["face_mean"]) + len(arrays["extension_mean"])
    weights = arrays["subdivision_weights"].astype(np.float64)
    starts = arrays["subdivision_starts"]
    weights /= np.repeat(np.add.reduceat(weights, starts[:-1]), np.diff(starts))
    topology = Topology(
        faces=faces,
        uv=_tensor(arrays["uv"]),
        uv_faces=faces,
        landmark_vertices=_tensor(arrays["landmark_vertices"], torch.int64),
        paintable=torch.ones(vertex_count, dtype=torch.bool),
        mirror=_tensor(arrays["mirror"], torch.int64),
        name="facemesh",
    )
    prefix = "region_"
    return FaceMeshModel(
        topology=topology,
        subdivision=sparse.csr_matrix((weights, arrays["subdivision_columns"], starts), shape=(vertex_count, columns)),
        regions={k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)},
        **{name: _tensor(arrays[name]) for name in _FLOATS},
    )


def _tensor(array: NDArray, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.from_numpy(array).to(dtype)


@functools.cache
def load_facemesh_model(path: Path = DATA_DIR / "facemesh_topology.npz") -> FaceMeshModel:
    """The shipped model, or that in another file that `tools/make_facemesh_topology.py` wrote; the same object each
    time. Raises `MissingWeights`, `BadWeights`."""
    arrays = read_arrays(path)
    try:
        return facemesh_model(arrays)
    except (KeyError, ValueError) as error:
        raise BadWeights(f"{path} does not hold a FaceMesh model ({error}); install the package again.") from error


def load_facemesh_reconstructor() -> FaceMeshReconstructor:
    """The FaceMesh head with the shipped network and model. Raises `MissingWeights`, `BadWeights`."""
    return FaceMeshReconstructor(load_facemesh_net(), functools.partial(fit_head, load_facemesh_model()))


def neutral_head() -> Mesh:
    """The mean head, without a texture. Raises `MissingWeights`, `BadWeights`."""
    model = load_facemesh_model()
    head = fit_head(model, model.face_mean * torch.tensor([1.0, -1.0, -1.0]), 1.0, (1, 1))
    return Mesh(Shape(head.vertices, head.topology), None, "mediapipe")
