"""Registering one head to another: by a similarity, non-rigidly, and values carried across."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.closest import Surface
from ostec.geometry.mesh import vertex_normals

LEAST_POINTS = 4
_SMOOTHING = 0.004
"""Of the spline, metres: about the accuracy of the points."""
_ROUNDS = ((0.030, 0.015), (0.015, 0.008))
"""Of each round: width of the Gaussians that it moves vertices by, and distance at which it looks for the surface;
metres."""
_STIFFNESS = 0.3
_LEAST_COSINE = 0.6
_CHUNK = 20_000
_NEIGHBOURS, _TOO_FAR_M, _LANDMARK_SMOOTHING = 4, 0.015, 1e-4


def similarity_onto(points: Tensor, anchors: Tensor, weights: Tensor) -> Callable[[Tensor], Tensor]:
    """The similarity that best takes `points` [N, 3] to `anchors` [N, 3], for points [..., 3].

    Raises `BadGeometry` where fewer than four points have a weight, or they lie on a line.
    """
    used = points[weights > 0].double()
    flatness = torch.linalg.svdvals(used - used.mean(dim=0)) if len(used) >= LEAST_POINTS else torch.zeros(3)
    if not float(flatness[1]) > 1e-3 * float(flatness[0]):
        raise BadGeometry(
            f"{len(used)} points are known on both heads, or they lie on a line: give {LEAST_POINTS} or more that span "
            "the face."
        )
    scale, R, shift = fit_similarity_3d(points.double(), anchors.double(), weights.double())
    return lambda at: (scale * at.double() @ R.T + shift).float()


def register_nonrigidly(vertices: Tensor, faces: Tensor, points: Tensor, anchors: Tensor, surface: Surface) -> Tensor:
    """[V, 3]: a head's `vertices`, deformed smoothly so that its `points` [N, 3] move to the `anchors` [N, 3] and its
    skin onto the `surface`. Metres; head and surface must be aligned already. Raises `BadGeometry`.

    First a spline through the points (biharmonic, smoothed). Then rounds: a sample of the vertices looks for the
    nearest point of the surface that faces the same way, and a sum of Gaussians moves all space accordingly, so that
    parts without connection, as eyeballs, keep their place in the face. Vertices move along the surface's normals
    only, so that they do not drift to its boundary.
    """
    shift = (anchors - points).double().numpy()
    spline = RBFInterpolator(points.double().numpy(), shift, kernel="linear", smoothing=_SMOOTHING, degree=1)
    moved = torch.cat([part + torch.from_numpy(spline(part.numpy())) for part in vertices.double().split(_CHUNK)])
    for width, reach in _ROUNDS:
        normals = vertex_normals(moved, faces)
        centres = _sample_indices(moved, width, surface)
        hits = surface.nearest(moved[centres], normals[centres], reach, _LEAST_COSINE)
        sure = hits.found & ~surface.at_rim(hits)
        if not bool(sure.any()):
            raise BadGeometry("The heads do not overlap after registration: the given points do not correspond.")
        at, toward = moved[centres[sure]], surface.normals[hits.triangle[sure]]
        nearest = hits.interpolate(surface.vertices, surface.faces)[sure]
        off = ((nearest - at) * toward).sum(dim=1, keepdim=True) * toward
        moved = moved + _gaussian_field(at, off, moved, width)
    return moved.float()


def transfer_attributes(points: Tensor, landmarks: Tensor, vertices: Tensor, anchors: Tensor, values: Tensor) -> Tensor:
    """[V, C]: `values` [N, C] of a surface sampled at `points` [N, 3], at the `vertices` [V, 3] of another head.

    `landmarks` and `anchors` [L, 3] are the same landmarks on both. A thin plate spline moves the landmarks onto the
    anchors; each vertex then takes the mean of the nearest points, weighted by the inverse squared distance. NaN for
    vertices more than 15 mm from the surface.
    """
    pairs = landmarks.double().numpy(), anchors.double().numpy()
    spline = RBFInterpolator(*pairs, smoothing=_LANDMARK_SMOOTHING, degree=1)
    distance, index = KDTree(spline(points.double().numpy())).query(vertices.double().numpy(), k=_NEIGHBOURS)
    weight = 1 / np.maximum(distance, 1e-6) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    weight[distance[:, 0] > _TOO_FAR_M] = np.nan
    return (values[torch.from_numpy(index)] * torch.from_numpy(weight)[:, :, None]).sum(dim=1).float()


def _sample_indices(vertices: Tensor, spacing: float, surface: Surface) -> Tensor:
    """Indices of vertices near the surface's box, about `spacing` apart."""
    on = surface.vertices[surface.faces.flatten()]
    low, high = on.amin(dim=0) - spacing, on.amax(dim=0) + spacing
    near = ((vertices >= low) & (vertices <= high)).all(dim=1).nonzero()[:, 0]
    cells = ((vertices[near] - low) / spacing).long().numpy()
    _, first = np.unique(cells, axis=0, return_index=True)
    return near[torch.from_numpy(np.sort(first))]


def _gaussian_field(centres: Tensor, values: Tensor, at: Tensor, width: float) -> Tensor:
    """[M, 3]: a sum of Gaussians of this width that is about `values` [N, 3] at the `centres` [N, 3] (ridge
    regression) and 0 away from all centres, at points [M, 3]."""
    kernel = _gaussians(centres, centres, width)
    kernel.diagonal().add_(_STIFFNESS)
    coefficients = torch.linalg.solve(kernel, values).float()
    parts = at.float().split(_CHUNK)
    return torch.cat([_gaussians(part, centres.float(), width) @ coefficients for part in parts]).double()


def _gaussians(a: Tensor, b: Tensor, width: float) -> Tensor:
    squared = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return squared.mul_(-0.5 / width**2).exp_()
