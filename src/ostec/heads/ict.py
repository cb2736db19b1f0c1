"""ICT-FaceKit's head (MIT) with neck, ears, eyeballs and teeth, fitted to FaceMesh's 468 points in a photo.

Source: ICT-VGL/ICT-FaceKit; Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import angles_deg, to_pixels
from ostec.geometry.mesh import sphere
from ostec.heads.facemesh import FaceMeshReconstructor, load_facemesh_model
from ostec.heads.ict_files import TOPOLOGY_FILE, read_shapes
from ostec.heads.ict_fit import Array, Index, PointModel, fit_points
from ostec.networks.facemesh_net import load_facemesh_net
from ostec.types import Camera, FacePart, Landmarks, Mesh, Reconstruction, Shape, Topology
from ostec.weights.shipped import read_arrays

UNIT_M = 0.01
"""ICT's unit is about a centimetre: the outer corners of the eyes are 8.92 units apart."""
_FROZEN = ("eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp")
"""Prefixes of expressions that the 468 points do not show."""
_CONTOUR_WEIGHT = 0.5
_LIDS = {
    "eyeBlink_R": ([33, 133], [160, 159, 158], [144, 145, 153]),
    "eyeBlink_L": ([263, 362], [387, 386, 385], [373, 374, 380]),
}
"""Expression -> FaceMesh points: corners of the eye, upper lid, lower lid."""
_SLIT = 0.175, 0.19
"""Height over width of an eye as the network gives it: of shut eyes, and of the narrowest open eyes."""
_NEUTRAL_PX, _HEAD_M = 1000, 0.3
"""Side of a picture of the neutral head, in pixels and in metres."""
_LID_M = 0.0004
"""Distance between the eyeball and the lid on it."""


@dataclass(frozen=True, eq=False)
class ICTModel:
    """A linear model of V vertices and C coefficients: first identities, then expressions."""

    topology: Topology
    mean: Tensor
    """[V, 3], head frame, metres."""
    basis: Tensor
    """[C, V, 3], metres."""
    points: PointModel
    """The same model as the solver sees it."""
    names: tuple[str, ...]
    """Of the expressions."""
    start_weights: Tensor
    """[468]: weight of each point in the first estimate of the pose."""

    def head(self, coefficients: Array) -> Tensor:
        """Coefficients [C] -> vertices [V, 3], head frame, metres."""
        flat = torch.from_numpy(coefficients).to(self.basis.dtype) @ self.basis.flatten(1)
        return self.mean + flat.view_as(self.mean)


def fit_head(model: ICTModel, points: Tensor, presence: float, size: tuple[int, int]) -> Reconstruction:
    """The head that fits `points` best: [468, 3] (px; z on the same scale, smaller is nearer), under a pinhole camera.

    `size`: (height, width) of the photo.
    """
    centred = points.double() - torch.tensor([size[1] / 2, size[0] / 2, 0.0])
    start = fit_similarity_3d(torch.from_numpy(model.points.mean), centred, model.start_weights.double())
    fit = fit_points(model.points, centred.numpy(), (start[0], start[1].numpy(), start[2].numpy()))
    coefficients = with_shut_eyes(fit.coefficients, points, model.names)
    K = torch.tensor([[fit.focal_px, 0.0, size[1] / 2], [0.0, fit.focal_px, size[0] / 2], [0.0, 0.0, 1.0]])
    camera = Camera(K, torch.from_numpy(fit.R).float(), torch.from_numpy(fit.t).float(), size)
    vertices = lids_on_eyes(model.head(coefficients), model.topology)
    landmarks = Landmarks(to_pixels(vertices[model.topology.landmark_vertices], camera), presence)
    pitch_deg, yaw_deg, roll_deg = angles_deg(camera.R)
    return Reconstruction(vertices, model.topology, camera, landmarks, yaw_deg, pitch_deg, roll_deg)


def with_shut_eyes(coefficients: Array, points: Tensor, names: Sequence[str]) -> Array:
    """The coefficients, with an eye shut where `points` [468, 3] leave only a slit: no fit shuts one fully."""
    shut = coefficients.copy()
    for name, (corners, upper, lower) in _LIDS.items():
        index = len(coefficients) - len(names) + list(names).index(name)
        width = (points[corners[0]] - points[corners[1]]).norm()
        opening = float((points[upper] - points[lower]).norm(dim=1).mean() / width)
        share = (_SLIT[1] - opening) / (_SLIT[1] - _SLIT[0])
        shut[index] = max(shut[index], min(1.0, share))
    return shut


def lids_on_eyes(vertices: Tensor, topology: Topology) -> Tensor:
    """The vertices [V, 3]; those of the lids that lie inside an eyeball are moved onto its surface."""
    assert topology.parts is not None
    lifted = vertices.clone()
    others = topology.faces[topology.parts <= FacePart.LEFT_SOCKET].unique()
    for eye in (FacePart.RIGHT_EYE, FacePart.LEFT_EYE):
        others = others[~torch.isin(others, topology.faces[topology.parts == eye])]
    for eye in (FacePart.RIGHT_EYE, FacePart.LEFT_EYE):
        ball = vertices[topology.faces[topology.parts == eye].unique()]
        centre, radius = sphere(ball)
        offset = vertices[others] - centre
        distance = offset.norm(dim=1)
        near = (distance < 1.1 * radius) & (offset[:, 2] > 0)
        directions = offset[near] / distance[near, None]
        own = ball - centre
        _, index = KDTree((own / own.norm(dim=1, keepdim=True)).numpy()).query(directions.numpy(), k=3)
        surface = own.norm(dim=1)[torch.from_numpy(index)].amax(dim=1) + _LID_M
        out = torch.maximum(distance[near], surface)[:, None]
        lifted[others[near]] = centre + directions * out
    return lifted


def read_ict_model(path: Path, topology_path: Path = TOPOLOGY_FILE) -> ICTModel:
    """The model in a packed ICT-FaceKit file. Raises `MissingWeights`, `BadWeights`."""
    shapes, arrays = read_shapes(path), read_arrays(topology_path)
    kept = arrays["kept"].astype(np.int64)
    mean, basis = shapes.mean[kept] * UNIT_M, np.ascontiguousarray(shapes.deltas[:, kept]) * np.float32(UNIT_M)
    topology = ict_topology(arrays)
    corners, contours = arrays["point_corners"].astype(np.int64), arrays["contours"].astype(np.int64)
    points = point_model(mean, basis, shapes.names, corners, arrays["point_shares"], contours)
    tensors = torch.from_numpy(mean).float(), torch.from_numpy(basis).float()
    return ICTModel(topology, *tensors, points, shapes.names, load_facemesh_model().pose_weights)


def ict_topology(arrays: Mapping[str, NDArray]) -> Topology:
    """The topology from the arrays of `data/ict_topology.npz`, which hold the subject's right side of what is
    symmetric. Raises `KeyError` where one is missing."""
    names = ("right_faces", "right_uv_faces", "right_parts", "mirror", "landmark_vertices")
    faces, uv_faces, parts, mirror, landmarks = (torch.from_numpy(arrays[name].astype(np.int64)) for name in names)
    uv = torch.from_numpy(arrays["right_uv"]).float()
    other = torch.arange(len(FacePart))
    for right, left in ((FacePart.RIGHT_EYE, FacePart.LEFT_EYE), (FacePart.RIGHT_SOCKET, FacePart.LEFT_SOCKET)):
        other[right], other[left] = left, right
    return Topology(
        faces=torch.cat([faces, mirror[faces].flip(1)]),
        uv=torch.cat([uv, torch.stack([1 - uv[:, 0], uv[:, 1]], dim=1)]),
        uv_faces=torch.cat([uv_faces, uv_faces.flip(1) + len(uv)]),
        landmark_vertices=landmarks,
        paintable=torch.from_numpy(arrays["paintable"]),
        mirror=mirror,
        name="ict",
        facemesh_uv=torch.from_numpy(arrays["facemesh_uv"].astype(np.float32)),
        parts=torch.cat([parts, other[parts]]),
        ambient_occlusion=torch.from_numpy(arrays["openness"].astype(np.float32) / 255),
    )


def point_model(
    mean: NDArray, basis: NDArray, names: Sequence[str], corners: Index, shares: NDArray, contours: Index
) -> PointModel:
    """The points of a head model that the solver fits.

    `mean` [V, 3] and `basis` [C, V, 3] in metres; the last of the C are the expressions `names`. Each point lies on a
    triangle: `corners` [P, 3] are its vertices, `shares` [P, 3] the barycentrics. `contours` [K, 1 + S]: a point, and
    the vertices that it may slide to.
    """
    identities = len(basis) - len(names)
    at = np.einsum("...pkd,pk->...pd", mean[corners].astype(np.float64), shares)
    moves = np.einsum("...pkd,pk->...pd", basis[:, corners].astype(np.float64), shares)
    outline, places = contours[:, 0], contours[:, 1:]
    weight = np.ones(len(corners))
    weight[outline] = _CONTOUR_WEIGHT
    return PointModel(
        mean=at,
        basis=np.ascontiguousarray(moves),
        weight=weight,
        identities=identities,
        frozen=np.array([identities + k for k, name in enumerate(names) if name.startswith(_FROZEN)], dtype=np.int64),
        contours=outline,
        slide_mean=np.concatenate([at[outline][:, None], mean[places]], axis=1),
        slide_basis=np.concatenate([moves[:, outline][:, :, None], basis[:, places].astype(np.float64)], axis=2),
    )


def load_ict_reconstructor(path: Path) -> FaceMeshReconstructor:
    """With the model in a packed ICT-FaceKit file. Raises `MissingWeights`, `BadWeights`."""
    return FaceMeshReconstructor(load_facemesh_net(), partial(fit_head, read_ict_model(path)))


def neutral_head(path: Path) -> Mesh:
    """The head in a packed ICT-FaceKit file, fitted to FaceMesh's mean face, without a texture; all its parts are
    paintable. Raises `MissingWeights`, `BadWeights`."""
    mean = load_facemesh_model().face_mean * torch.tensor([1.0, -1.0, -1.0])
    points = mean * (_NEUTRAL_PX / _HEAD_M) + torch.tensor([_NEUTRAL_PX / 2, _NEUTRAL_PX / 2, 0.0])
    model = read_ict_model(path)
    head = fit_head(model, points, 1.0, (_NEUTRAL_PX, _NEUTRAL_PX))
    complete = replace(head.topology, paintable=torch.ones_like(head.topology.paintable), parts=None)
    return Mesh(Shape(head.vertices, complete), None, "ict")
