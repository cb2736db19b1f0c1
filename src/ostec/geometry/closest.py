"""The nearest point of a triangle mesh that faces a given way, exactly, for millions of points.

A bounding volume hierarchy in numba. Libraries (libigl, Embree) do not take the facing into account while they search,
and the nearest triangle of a folded surface, as of lips, is often one that faces the other way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ostec.geometry.bands import Bands
from ostec.geometry.compiled import compiled
from ostec.geometry.mesh import face_normals

_LEAF = 4
"""Triangles per leaf."""
_GRID = 1024
"""Cells per axis in which triangles are sorted: thirty bits of Morton code."""
_ROUNDING = 1 + 1e-9
_ON_RIM = 1e-9


@dataclass(frozen=True)
class Hits:
    """The nearest points of N queries."""

    triangle: Tensor
    """[N] int64, -1 where no triangle is near enough and faces the same way."""
    barycentrics: Tensor
    """[N, 3] float64; exactly 0 at the far corners of an edge or vertex on which the nearest point lies."""
    distance: Tensor
    """[N] float64, infinite without a hit."""

    @property
    def found(self) -> Tensor:
        """[N] bool."""
        return self.triangle >= 0

    def interpolate(self, attributes: Tensor, faces: Tensor) -> Tensor:
        """[N, C] float64: the vertex attributes [V, C], indexed by `faces` [F, 3]; arbitrary where there is no hit."""
        corners = attributes.double()[faces[self.triangle.clamp(min=0)]]
        return (corners * self.barycentrics[:, :, None]).sum(dim=1)


class Surface:
    """A triangle mesh prepared for nearest-point queries; preparing takes O(F log F)."""

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        """`vertices` [V, 3], finite, `faces` [F, 3], at least one."""
        self.vertices, self.faces = vertices.double(), faces
        self.normals = face_normals(self.vertices, faces)
        self._open = _open_sides(faces)
        self._rim = torch.zeros(len(vertices), dtype=torch.bool)
        self._rim[faces[self._open]] = self._rim[faces.roll(-1, dims=1)[self._open]] = True
        corners = self.vertices[faces].numpy()
        self._order = _morton_order(corners.mean(axis=1))
        self._corners = np.ascontiguousarray(corners[self._order])
        self._facing = np.ascontiguousarray(self.normals.numpy()[self._order])
        self._boxes = _boxes(self._corners)

    def nearest(self, points: Tensor, normals: Tensor, reach: float, least_cosine: float) -> Hits:
        """The nearest points to `points` [N, 3], within `reach`, on triangles whose normals agree with `normals`
        [N, 3] to `least_cosine` at least (-1: any). The result does not depend on the number of threads."""
        at, facing = (np.ascontiguousarray(given.double().numpy()) for given in (points, normals))
        found = np.empty(len(at), dtype=np.int64)
        shares, distance = np.empty((len(at), 3)), np.empty(len(at))
        tree, answer = (self._corners, self._facing, self._order, self._boxes), (found, shares, distance)
        limits = float(reach), float(least_cosine)
        with Bands() as bands:
            bands(len(at), 32, lambda low, high: _search(low, high, (at, facing), tree, limits, answer))
        return Hits(*map(torch.from_numpy, answer))

    def at_rim(self, hits: Hits) -> Tensor:
        """[N] bool: the nearest point lies on an edge where the surface ends."""
        absent = hits.barycentrics <= _ON_RIM
        triangle = hits.triangle.clamp(min=0)[:, None]
        side = (absent.int().argmax(dim=1, keepdim=True) + 1) % 3
        corner = absent.int().argmin(dim=1, keepdim=True)
        on_side = self._open[triangle, side][:, 0]
        on_corner = self._rim[self.faces[triangle, corner]][:, 0]
        count = absent.sum(dim=1)
        return hits.found & torch.where(count == 2, on_corner, on_side & (count == 1))


def _open_sides(faces: Tensor) -> Tensor:
    """[F, 3] bool: the edge from a triangle's corner k to the next belongs to no other triangle."""
    sides = torch.stack([faces, faces.roll(-1, dims=1)], dim=2).view(-1, 2).sort(dim=1).values
    _, which, times = (sides[:, 0] * (int(faces.max()) + 1) + sides[:, 1]).unique(
        return_inverse=True, return_counts=True
    )
    return (times == 1)[which].view(-1, 3)


def _morton_order(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """[F]: the order of the points [F, 3] along the Morton curve."""
    low, high = points.min(axis=0), points.max(axis=0)
    cell = ((points - low) / max(float((high - low).max()), 1e-300) * (_GRID - 1)).astype(np.int64)
    code = np.zeros(len(points), dtype=np.int64)
    for bit in range(_GRID.bit_length() - 1):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def _boxes(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """[2 L, 6] lowest and highest coordinates: box n holds boxes 2 n and 2 n + 1, boxes L.. the triangles in turn."""
    leaves = 1
    while leaves * _LEAF < len(corners):
        leaves *= 2
    boxes = np.full((2 * leaves, 6), np.inf)
    boxes[:, 3:] = -np.inf
    starts = np.arange(0, len(corners), _LEAF)
    boxes[leaves : leaves + len(starts), :3] = np.minimum.reduceat(corners.min(axis=1), starts)
    boxes[leaves : leaves + len(starts), 3:] = np.maximum.reduceat(corners.max(axis=1), starts)
    level = leaves
    while level > 1:
        pair = boxes[level : 2 * level].reshape(-1, 2, 6)
        level //= 2
        boxes[level : 2 * level, :3] = pair[:, :, :3].min(axis=1)
        boxes[level : 2 * level, 3:] = pair[:, :, 3:].max(axis=1)
    return boxes


@compiled()
def _search(low, high, queries, tree, limits, answer):
    """Points low..high-1. Of equally near triangles the first in the mesh's order is taken."""
    points, facing = queries
    corners, normals, order, boxes = tree
    reach, least_cosine = limits
    found, shares, distance = answer
    leaves = len(boxes) // 2
    stack, away = np.empty(64, dtype=np.int64), np.zeros(64)
    guess = leaves
    for k in range(low, high):
        x, y, z = points[k, 0], points[k, 1], points[k, 2]
        best, best_f, bu, bv, bw = reach * reach, -1, 0.0, 0.0, 0.0
        stack[0], stack[1], top = 1, guess, 2  # the leaf of the previous hit comes first
        away[0] = away[1] = 0.0
        while top > 0:
            top -= 1
            node = stack[top]
            if away[top] > best * _ROUNDING:
                continue
            if node < leaves:
                near, far = 2 * node, 2 * node + 1
                to_near, to_far = _box_distance(boxes, near, x, y, z), _box_distance(boxes, far, x, y, z)
                if to_near > to_far:
                    near, far, to_near, to_far = far, near, to_far, to_near
                for child, off in ((far, to_far), (near, to_near)):
                    if off <= best * _ROUNDING:
                        stack[top], away[top] = child, off
                        top += 1
                continue
            for f in range((node - leaves) * _LEAF, min((node - leaves + 1) * _LEAF, len(corners))):
                agree = normals[f, 0] * facing[k, 0] + normals[f, 1] * facing[k, 1] + normals[f, 2] * facing[k, 2]
                if agree < least_cosine:
                    continue
                d, v, w = _to_triangle(x, y, z, corners[f])
                if d < best or (d == best and (best_f < 0 or order[f] < order[best_f])):
                    best, best_f, bv, bw = d, f, v, w
                    bu = 0.0 if v + w >= 1 else 1 - v - w
        found[k] = order[best_f] if best_f >= 0 else -1
        shares[k, 0], shares[k, 1], shares[k, 2] = bu, bv, bw
        distance[k] = np.sqrt(best) if best_f >= 0 else np.inf
        if best_f >= 0:
            guess = leaves + best_f // _LEAF


@compiled(inline="always")
def _box_distance(boxes, node, x, y, z):
    """Squared distance."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    return dx * dx + dy * dy + dz * dz


@compiled()
def _to_triangle(x, y, z, corners):
    """(squared distance, shares of the second and the third corner) of a triangle's nearest point to (x, y, z)."""
    bx, by, bz = corners[1, 0] - corners[0, 0], corners[1, 1] - corners[0, 1], corners[1, 2] - corners[0, 2]
    cx, cy, cz = corners[2, 0] - corners[0, 0], corners[2, 1] - corners[0, 1], corners[2, 2] - corners[0, 2]
    px, py, pz = x - corners[0, 0], y - corners[0, 1], z - corners[0, 2]
    p, b, c = (px, py, pz), (bx, by, bz), (cx, cy, cz)
    bb, bc, cc = bx * bx + by * by + bz * bz, bx * cx + by * cy + bz * cz, cx * cx + cy * cy + cz * cz
    pb, pc = px * bx + py * by + pz * bz, px * cx + py * cy + pz * cz
    area = bb * cc - bc * bc
    if area > 1e-14 * bb * cc:
        v, w = (cc * pb - bc * pc) / area, (bb * pc - bc * pb) / area
        if v > 0 and w > 0 and v + w < 1:
            return _squared_rest(p, b, c, v, w), v, w
    v = min(max(pb / bb, 0.0), 1.0) if bb > 0 else 0.0
    w = min(max(pc / cc, 0.0), 1.0) if cc > 0 else 0.0
    across = bb + cc - 2 * bc
    t = min(max((pc - pb + bb - bc) / across, 0.0), 1.0) if across > 0 else 0.0
    to_b, to_c, to_bc = _squared_rest(p, b, c, v, 0.0), _squared_rest(p, b, c, 0.0, w), _squared_rest(p, b, c, 1 - t, t)
    if to_b <= to_c and to_b <= to_bc:
        return to_b, v, 0.0
    if to_c <= to_bc:
        return to_c, 0.0, w
    return to_bc, 1 - t, t


@compiled(inline="always")
def _squared_rest(p, b, c, v, w):
    """Squared length of p - v b - w c."""
    dx, dy, dz = p[0] - v * b[0] - w * c[0], p[1] - v * b[1] - w * c[1], p[2] - v * b[2] - w * c[2]
    return dx * dx + dy * dy + dz * dz
