"""Normals and seams of triangle meshes, and a sphere fitted to points."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_FIXED_POINT = 2.0**40


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """[F, 3] unit normals of the triangles `faces` [F, 3] of `vertices` [V, 3]; 0 for triangles without an area.

    Counter-clockwise triangles, seen from outside, have outward normals.
    """
    a, b, c = vertices[faces].double().unbind(dim=1)
    return _unit(torch.linalg.cross(b - a, c - a)).to(vertices.dtype)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """[V, 3] unit normals of `vertices` [V, 3]: the mean of the triangles around, weighted by the sine of their angle.

    0 for vertices without a triangle. The sums are exact, so the normals of a mirrored mesh are the mirrored normals,
    bit for bit, in whichever order the triangles come and whatever the number of threads.
    """
    corners = vertices.double()[faces]
    forward = _unit(corners.roll(-1, dims=1) - corners)
    across = torch.linalg.cross(forward, -forward.roll(1, dims=1))
    shares = (across * _FIXED_POINT).round().long()
    sums = torch.zeros(len(vertices), 3, dtype=torch.int64, device=vertices.device)
    sums.index_add_(0, faces.flatten(), shares.view(-1, 3))
    return _unit(sums.double()).to(vertices.dtype)


def sphere(points: Tensor) -> tuple[Tensor, float]:
    """Centre [3] and radius of the sphere fitted to `points` [M, 3] by linear least squares."""
    points = points.double()
    middle = points.mean(dim=0)
    own = points - middle
    system = torch.cat([2 * own, torch.ones_like(own[:, :1])], dim=1)
    solution = torch.linalg.lstsq(system, own.square().sum(dim=1, keepdim=True)).solution[:, 0]
    radius = float((solution[3] + solution[:3].square().sum()).sqrt())
    return (middle + solution[:3]).float(), radius


def welded(vertices: Tensor, faces: Tensor) -> Tensor:
    """[F, 3]: `faces` with one vertex for all of `vertices` [V, 3] at the same place, the first of them.

    Files duplicate vertices at texture seams, where the surface does not end.
    """
    bits = np.ascontiguousarray(vertices.float().numpy() + 0.0).view(np.dtype((np.void, 12))).ravel()
    _, first, which = np.unique(bits, return_index=True, return_inverse=True)
    return torch.from_numpy(first[which])[faces]


def inside_out(vertices: Tensor, faces: Tensor) -> bool:
    """Whether the triangles are clockwise seen from outside: more area faces the mesh's middle than away from it."""
    a, b, c = vertices.double()[faces].unbind(dim=1)
    away = (a + b + c) / 3 - vertices.double()[faces].mean(dim=(0, 1))
    return float((torch.linalg.cross(b - a, c - a) * away).sum()) < 0


def _unit(vectors: Tensor) -> Tensor:
    """Vectors [..., 3] at length one; null vectors stay."""
    x, y, z = vectors.unbind(dim=-1)
    length = (x * x + y * y + z * z).sqrt()
    return vectors / torch.where(length > 0, length, 1.0)[..., None]
