"""Interpolating subdivision as one fixed sparse linear map: the thin plate through the coarse vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from facemesh_mean import Array, Index, boundary_loops
from scipy import sparse
from scipy.sparse.linalg import splu

SMALLEST_WEIGHT = 2e-3
CURVE_STIFFNESS = 0.3
WEIGHT_RANGE = 2.0**14


@dataclass(frozen=True)
class Refinement:
    """A mesh with every triangle cut in four; the old vertices come first, then one on each edge."""

    triangles: Index
    """[4F, 3]; the four children of triangle f are rows 4f to 4f + 3."""
    edges: Index
    """[E, 2]: the ends of the edge that new vertex V + e halves."""
    mirror: Index
    """[V + E]."""

    def halve(self, values: Array) -> Array:
        """[V, ...] -> [V + E, ...]: old values and the means of the edges' ends."""
        return np.concatenate([values, (values[self.edges[:, 0]] + values[self.edges[:, 1]]) / 2])


def refine(triangles: Index, mirror: Index) -> Refinement:
    """Cut every triangle [F, 3] in four."""
    count = len(mirror)
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2)
    edges, of_side = np.unique(sides.reshape(-1, 2), axis=0, return_inverse=True)
    ab, bc, ca = (count + of_side.reshape(-1, 3)).T
    a, b, c = triangles.T
    children = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], axis=1).reshape(-1, 3)
    code = edges[:, 0] * count + edges[:, 1]
    mirrored = np.sort(mirror[edges], axis=1)
    across = np.searchsorted(code, mirrored[:, 0] * count + mirrored[:, 1])
    return Refinement(children, edges, np.concatenate([mirror, count + across]))


def thin_plate_map(shape: Array, patches: list[Index], mirror: Index, coarse: int) -> sparse.csr_matrix:
    """[V, coarse]: positions of all vertices from those of the first `coarse` ones, which stay.

    Least bending energy (squared cotangent Laplacian, Desbrun et al. 1999) within every patch of triangles, measured
    on `shape` [V, 3]; along patch borders the surface may fold, and the border itself bends least. Small weights are
    dropped, and the map is mirror-symmetric.
    """
    count = len(shape)
    rows = [_laplacian(shape, patch, count) for patch in patches]
    rows += [CURVE_STIFFNESS * _curvature(shape, loop, count) for patch in patches for loop in boundary_loops(patch)]
    stacked = sparse.vstack(rows).tocsr()
    energy = (stacked.T @ stacked).tocsr()
    free, fixed = np.arange(coarse, count), np.arange(coarse)
    solved = splu(energy[free][:, free].tocsc()).solve(-energy[free][:, fixed].toarray())
    dense = np.concatenate([np.eye(coarse), solved])
    dense = (dense + dense[mirror][:, mirror[:coarse]]) / 2
    return sparse.csr_matrix(np.where(np.abs(dense) < SMALLEST_WEIGHT, 0.0, dense))


def whole_weights(plate: sparse.csr_matrix) -> sparse.csr_matrix:
    """The rows of the map as integers within int16, to be divided by their sums."""
    dense = plate.toarray()
    return sparse.csr_matrix(np.round(dense / dense.sum(axis=1, keepdims=True) * WEIGHT_RANGE))


def _laplacian(shape: Array, triangles: Index, count: int) -> sparse.csr_matrix:
    """[V, V]: cotangent Laplacian over the square root of the vertex area; null rows on borders and off the patch."""
    corners = shape[triangles]
    rows, columns, values = [], [], []
    area = np.zeros(count)
    for k in range(3):
        one, two = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        double_area = np.linalg.norm(np.cross(one, two), axis=1)
        cotangent = (one * two).sum(axis=1) / double_area / 2
        i, j = triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3]
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-cotangent, -cotangent, cotangent, cotangent]
        np.add.at(area, triangles[:, k], double_area / 6)
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    stiffness = sparse.csr_matrix(entries, shape=(count, count))
    inside = area > 0
    for loop in boundary_loops(triangles):
        inside[loop] = False
    return sparse.diags(np.where(inside, 1 / np.sqrt(np.maximum(area, 1e-30)), 0.0)) @ stiffness


def _curvature(shape: Array, loop: Index, count: int) -> sparse.csr_matrix:
    """[N, V]: second differences along a closed curve of N vertices, by arc length, over the root of its step."""
    before, after = np.roll(loop, 1), np.roll(loop, -1)
    back = np.linalg.norm(shape[loop] - shape[before], axis=1)
    ahead = np.linalg.norm(shape[after] - shape[loop], axis=1)
    step = (back + ahead) / 2
    row = np.arange(len(loop))
    values = np.concatenate([1 / back, 1 / ahead, -1 / back - 1 / ahead]) / np.tile(np.sqrt(step), 3)
    entries = (values, (np.tile(row, 3), np.concatenate([before, after, loop])))
    return sparse.csr_matrix(entries, shape=(len(loop), count))
