"""Bending one head onto another: by points that are the same on both, then by nearness."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.align import similarity
from ostec.geometry.closest import Surface
from ostec.geometry.mesh import vertex_normals

LEAST_POINTS = 4
_SMOOTHING = 0.004
"""Of the spline, in metres: how far the points are trusted, so to speak."""
_ROUNDS = ((0.030, 0.015), (0.015, 0.008))
"""Width of the bumps that a round bends by, and how far it looks for the surface; metres."""
_STIFFNESS = 0.3
_LEAST_COSINE = 0.6
_CHUNK = 20_000


def placed(points: Tensor, anchors: Tensor, weights: Tensor) -> Callable[[Tensor], Tensor]:
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
    scale, R, shift = similarity(points.double(), anchors.double(), weights.double())
    return lambda at: (scale * at.double() @ R.T + shift).float()


def bent(vertices: Tensor, faces: Tensor, points: Tensor, anchors: Tensor, surface: Surface) -> Tensor:
    """[V, 3]: a head's `vertices`, bent smoothly so that its `points` [N, 3] come to the `anchors` [N, 3] and its
    skin onto the `surface`. Metres; the head lies about where the surface does.

    A spline through the points (biharmonic, smoothed), then rounds in which a sample of the vertices looks for the
    nearest point of the surface that faces the same way, and all space is moved by bumps of shrinking width: parts
    that are not connected, as eyeballs, stay in their place in the face. Vertices move along the surface's normals
    only, so that nothing creeps to its rim.
    """
    shift = (anchors - points).double().numpy()
    spline = RBFInterpolator(points.double().numpy(), shift, kernel="linear", smoothing=_SMOOTHING, degree=1)
    moved = torch.cat([part + torch.from_numpy(spline(part.numpy())) for part in vertices.double().split(_CHUNK)])
    for width, reach in _ROUNDS:
        normals = vertex_normals(moved, faces)
        centres = _spread(moved, width, surface)
        hits = surface.nearest(moved[centres], normals[centres], reach, _LEAST_COSINE)
        sure = hits.found & ~surface.at_rim(hits)
        if not bool(sure.any()):
            raise BadGeometry("No part of one head comes to lie on the other: the points given do not belong together.")
        at, toward = moved[centres[sure]], surface.normals[hits.triangle[sure]]
        off = ((hits.blend(surface.vertices, surface.faces)[sure] - at) * toward).sum(dim=1, keepdim=True) * toward
        moved = moved + _bumps(at, off, moved, width)
    return moved.float()


def _spread(vertices: Tensor, spacing: float, surface: Surface) -> Tensor:
    """Indices of vertices near the surface's box, about `spacing` apart."""
    on = surface.vertices[surface.faces.flatten()]
    low, high = on.amin(dim=0) - spacing, on.amax(dim=0) + spacing
    near = ((vertices >= low) & (vertices <= high)).all(dim=1).nonzero()[:, 0]
    cells = ((vertices[near] - low) / spacing).long().numpy()
    _, first = np.unique(cells, axis=0, return_index=True)
    return near[torch.from_numpy(np.sort(first))]


def _bumps(centres: Tensor, values: Tensor, at: Tensor, width: float) -> Tensor:
    """[M, 3]: the field that is nearly `values` [N, 3] at the `centres` [N, 3], of Gaussians of this width, at points
    [M, 3]; ridge regression, so that it is nought away from all centres."""
    kernel = _gaussian(centres, centres, width)
    kernel.diagonal().add_(_STIFFNESS)
    coefficients = torch.linalg.solve(kernel, values).float()
    parts = at.float().split(_CHUNK)
    return torch.cat([_gaussian(part, centres.float(), width) @ coefficients for part in parts]).double()


def _gaussian(a: Tensor, b: Tensor, width: float) -> Tensor:
    squared = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return squared.mul_(-0.5 / width**2).exp_()
