"""Where FaceMesh's 468 points lie on ICT-FaceKit's head, and where that head's vertices lie on FaceMesh's chart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from facemesh_extension import REGISTERED_BY
from facemesh_mean import Array, Index, similarity
from facemesh_regions import LANDMARKS
from ict_layout import MIRRORED, Head
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree

from ostec.heads.facemesh import FaceMeshModel
from ostec.heads.ict import UNIT_M, point_model
from ostec.heads.ict_fit import fit_points
from ostec.types import FacePart

SAMPLES = 6
"""Steps along each edge in which triangles are sampled."""
ROUNDS, DAMPING = 4, 0.8
OVAL_PLACES = 9
SLIDE_M = np.linspace(0.0, 0.045, OVAL_PLACES)
REACH_M = 0.015


@dataclass(frozen=True)
class Places:
    """Points on a triangle mesh."""

    faces: Index
    """[N]."""
    barycentrics: Array
    """[N, 3]."""

    def on(self, vertices: Array, triangles: Index) -> Array:
        """[..., N, C]: what `vertices` [..., V, C] carry, there."""
        return np.einsum("...nkd,nk->...nd", vertices[..., triangles[self.faces], :], self.barycentrics)


class Surface:
    """Finds the nearest place on a triangle mesh."""

    def __init__(self, vertices: Array, triangles: Index, rows: Index) -> None:
        steps = np.arange(SAMPLES + 1)
        i, j = (grid.ravel() for grid in np.meshgrid(steps, steps))
        i, j = i[i + j <= SAMPLES], j[i + j <= SAMPLES]
        self.shares = np.stack([i, j, SAMPLES - i - j], axis=1) / SAMPLES
        self.rows = rows
        self.tree = KDTree(np.einsum("fkd,sk->fsd", vertices[triangles[rows]], self.shares).reshape(-1, 3))

    def nearest(self, points: Array) -> tuple[Places, Array]:
        """The place and the distance [N] of each of `points` [N, 3]."""
        distance, index = self.tree.query(points)
        return Places(self.rows[index // len(self.shares)], self.shares[index % len(self.shares)]), distance


def first_guess(head: Head, mean: Array, surface: Surface) -> Places:
    """The 468 points from FaceMesh's mean shape [468, 3], registered non-rigidly by the iBUG landmarks and then to
    ICT's surface."""
    target = head.shape * UNIT_M
    scale, R, t = similarity(mean[LANDMARKS[REGISTERED_BY]], target[head.landmarks[REGISTERED_BY]])
    points = scale * mean @ R.T + t
    anchors = points[LANDMARKS[REGISTERED_BY]]
    offset = target[head.landmarks[REGISTERED_BY]] - anchors
    points = points + RBFInterpolator(anchors, offset, kernel="linear", degree=1)(points)
    return surface.nearest(points)[0]


def refined(
    head: Head, places: Places, surface: Surface, fits: list[Array], mirror: Index, deltas: Array, names: list[str]
) -> Places:
    """The places moved to where fits to portraits leave no mean error; both sides alike.

    `fits`: [468, 3] px, as the network gives them; `deltas` [C, V, 3] in metres.
    """
    shape, outline = head.shape * UNIT_M, np.zeros((0, 1 + OVAL_PLACES), dtype=np.int64)
    for _ in range(ROUNDS):
        model = point_model(shape, deltas, names, head.faces[places.faces], places.barycentrics, outline)
        total = np.zeros((len(fits), len(places.faces), 3))
        errors = []
        for n, points in enumerate(fits):
            centred = points - [*points[:, :2].mean(axis=0), 0.0]
            fit = fit_points(model, centred, similarity(model.mean, centred))
            own = model.mean + np.tensordot(fit.coefficients, model.basis, 1)
            seen = own @ fit.R.T + fit.t
            depth = seen[:, 2:]
            error_px = centred[:, :2] - fit.focal_px * seen[:, :2] / depth
            back = np.c_[error_px * depth / fit.focal_px, 0 * depth] @ fit.R
            total[n] = (back + back[mirror] * MIRRORED) / 2
            errors.append(np.linalg.norm(error_px, axis=1).mean() / np.linalg.norm(points[33, :2] - points[263, :2]))
        print(f"median error of {len(fits)} fits: {100 * np.median(errors):.2f} % of the eyes' distance")
        moved = places.on(shape, head.faces) + DAMPING * np.median(total, axis=0) * [1.0, 1.0, 0.0]
        moved = (moved + moved[mirror] * MIRRORED) / 2
        places = surface.nearest(moved)[0]
    return places


def contours(head: Head, points: Array, oval: Index) -> Index:
    """[K, 1 + S]: points of the face's outline, and vertices at growing distances from them across the outline."""
    shape = head.shape * UNIT_M
    skin = np.unique(head.faces[head.part == FacePart.SKIN])
    tree = KDTree(shape[skin])
    middle = points.mean(axis=0)
    rows = []
    for vertex in oval:
        inward = middle - points[vertex]
        inward[2] = 0
        inward /= np.linalg.norm(inward)
        ways = points[vertex] + SLIDE_M[:, None] * (inward + [0.0, 0.0, 0.6])
        rows.append([vertex, *skin[tree.query(ways)[1]]])
    return np.array(rows)


def facemesh_uv(head: Head, model: FaceMeshModel, points: Array) -> Array:
    """[V, 2]: where ICT's skin lies on FaceMesh's chart, the FaceMesh head registered non-rigidly to `points` [468, 3];
    else NaN."""
    mean = model.face_mean.double()
    fine = model.head(mean.float()).numpy()
    scale, R, t = similarity(mean.numpy(), points)
    laid, fine = (scale * part @ R.T + t for part in (mean.numpy(), fine))
    fine = fine + RBFInterpolator(laid, points - laid, kernel="linear", smoothing=1e-5, degree=1)(fine)
    triangles = model.topology.faces.numpy()
    surface = Surface(fine, triangles, np.arange(len(triangles)))
    skin = np.unique(head.faces[head.part == FacePart.SKIN])
    places, distance = surface.nearest(head.shape[skin] * UNIT_M)
    found = places.on(model.topology.uv.double().numpy(), triangles)
    rim = torch.zeros(len(fine), dtype=torch.bool)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    once, times = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    rim[once[times == 1].ravel()] = True
    at_rim = rim.numpy()[triangles[places.faces]].any(axis=1)
    found[(distance > REACH_M) | at_rim] = np.nan
    uv = np.full((len(head.shape), 2), np.nan)
    uv[skin] = found
    symmetric = uv[head.mirror] * [-1.0, 1.0] + [1.0, 0.0]
    return (uv + symmetric) / 2
