"""The head beyond the FaceMesh border: rings of vertices over a generic head, and the linear map that moves them.

The generic head is ICT-FaceKit's neutral (MIT); it is registered non-rigidly to the mean FaceMesh shape,
and its ears are smoothed away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from facemesh_mean import FOREHEAD_TOP, Array, Index, similarity, split_quads
from scipy import sparse
from scipy.interpolate import RBFInterpolator
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

RINGS = 6
SUBSTEPS = 6
EVENING = 0.2
SKIN_POLYGONS = 11144
"""ICT polygons below this are the skin of face, head and neck."""
EAR_BOX = np.array([[5.8, -4.0, -4.0], [14.0, 5.6, 2.6]])
"""Corners of the box around ICT's left ear, ICT units."""
EAR_MARGIN, PATCH = 2.5, 24
"""Width of the frame around the box that the patch continues, and the patch's vertices along each side."""
MIRRORED = np.array([-1.0, 1.0, 1.0])
REACH_M = {0: 0.068, 4: 0.064, 6: 0.058, 8: 0.051, 10: 0.052, 12: 0.062, 14: 0.074, 16: 0.086, 18: 0.092}
"""How far the extension goes: steps along the border from the top of the forehead (0) to the chin (18) -> metres."""
DOWNWARD = {0: 0.0, 9: 0.0, 12: 0.12, 14: 0.12, 16: 0.08, 18: 0.06}
"""How strongly the walk over the surface turns down at every substep, so as to follow the neck."""
REGISTERED_BY = np.r_[5, 7:10, 27:36, 36:48, 48, 51, 54, 57]
"""iBUG landmarks that mean the same place on both models."""


@dataclass(frozen=True)
class Surface:
    """A smooth surface through oriented points."""

    points: Array
    normals: Array
    width_m: float

    def project(self, queries: Array) -> tuple[Array, Array]:
        """Nearest points [N, 3] and unit normals [N, 3] there, by moving least squares planes (Alexa et al. 2001)."""
        tree = KDTree(self.points)
        for _ in range(4):
            distance, near = tree.query(queries, k=48)
            spread = np.maximum(self.width_m, distance[:, 5:6])
            weight = np.exp(-((distance / spread) ** 2))[..., None]
            weight /= weight.sum(axis=1, keepdims=True)
            normal = (self.normals[near] * weight).sum(axis=1)
            normal /= np.linalg.norm(normal, axis=1, keepdims=True)
            offset = ((queries[:, None] - self.points[near]) * weight).sum(axis=1)
            queries = queries - normal * (offset * normal).sum(axis=1, keepdims=True)
        return queries, normal


def read_head(path: Path) -> tuple[Array, Index, Index]:
    """Vertices [V, 3] in ICT units, skin triangles [F, 3], 68 iBUG vertices; smooth patches in place of the ears."""
    with np.load(path) as arrays:
        vertices = arrays["neutral_vertices"].astype(np.float64)
        triangles = arrays["triangles"][arrays["triangle_polygon"] < SKIN_POLYGONS].astype(np.int64)
        landmarks = arrays["landmark_vertices_68"].astype(np.int64)
    low, high = EAR_BOX
    ear = ((vertices > low) & (vertices < high)).all(axis=1)
    ear |= ear[_mirrored(vertices)]
    around = ((vertices > low - EAR_MARGIN) & (vertices < high + EAR_MARGIN)).all(axis=1) & ~ear
    around = np.intersect1d(np.flatnonzero(around), triangles)
    x_of_yz = RBFInterpolator(vertices[around, 1:], vertices[around, 0], kernel="thin_plate_spline", smoothing=0.1)
    sides = [np.linspace(low[k], high[k], PATCH) for k in (1, 2)]
    yz = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
    left = np.c_[x_of_yz(yz), yz]
    corner = np.arange(PATCH * PATCH).reshape(PATCH, PATCH)
    quads = np.stack([corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]], axis=-1).reshape(-1, 4)
    patch = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    first, second = len(vertices), len(vertices) + len(left)
    kept = triangles[~ear[triangles].any(axis=1)]
    triangles = np.concatenate([kept, first + patch, second + patch[:, ::-1]])
    return np.concatenate([vertices, left, left * MIRRORED]), triangles, landmarks


def laplacian(triangles: Index, count: int) -> sparse.csr_matrix:
    """[V, V]: each vertex minus the mean of its neighbours; null rows for vertices without a triangle."""
    a, b = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]).T
    ones = np.ones(2 * len(a))
    adjacency = sparse.csr_matrix((ones, (np.r_[a, b], np.r_[b, a])), shape=(count, count))
    adjacency.data[:] = 1.0
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    share = sparse.diags(1.0 / np.maximum(degree, 1.0))
    return sparse.csr_matrix(sparse.diags((degree > 0).astype(float)) - share @ adjacency)


def bending(triangles: Index, count: int) -> sparse.csr_matrix:
    """[V, V]: the matrix of the sum of squared Laplacians."""
    L = laplacian(triangles, count)
    return sparse.csr_matrix(L.T @ L)


def head_surface(path: Path, mean: Array, landmark_vertices: Index, interior: Index) -> Surface:
    """ICT's head, registered non-rigidly to the mean FaceMesh shape.

    `interior`: FaceMesh vertices on plain skin, to which the nearest points of the head are pulled.
    """
    vertices, triangles, landmarks = read_head(path)
    used = np.unique(triangles)
    source, target = vertices[landmarks[REGISTERED_BY]], mean[landmark_vertices[REGISTERED_BY]]
    scale, R, t = similarity(source, target)
    vertices = scale * vertices @ R.T + t
    registered = _register(vertices, vertices[landmarks[REGISTERED_BY]], target, 1e-3)
    for smoothing in (1e-2, 3e-3, 1e-3):
        surface = _dense(registered, triangles)
        near = KDTree(surface.points).query(mean[interior])[1]
        start = _dense(vertices, triangles).points[near]
        registered = _register(vertices, start, mean[interior], smoothing)
    registered[used] = (registered[used] + registered[_mirrored(vertices)[used]] * MIRRORED) / 2
    return _dense(registered, triangles)


def _mirrored(vertices: Array) -> Index:
    """The vertex of the other side, by place."""
    return np.asarray(KDTree(vertices).query(vertices * MIRRORED)[1], dtype=np.int64)


def _register(vertices: Array, source: Array, target: Array, smoothing: float) -> Array:
    """Vertices carried along from `source` to `target` by a biharmonic spline with an affine part."""
    spline = RBFInterpolator(source, target - source, kernel="linear", smoothing=smoothing, degree=1)
    return vertices + spline(vertices)


def _dense(vertices: Array, triangles: Index) -> Surface:
    """Points with normals on every triangle: corners, middles of the edges and centroids."""
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-30
    weights = np.array([[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2]]) / 6.0
    points = np.einsum("sk,fkd->fsd", weights, corners).reshape(-1, 3)
    return Surface(points, np.repeat(normals, len(weights), axis=0), width_m=0.006)


def oval_from_top(loop: Index, mirror: Index) -> Index:
    """The border [36] from the top of the forehead down the subject's left side and up the right.

    `loop` runs along counter-clockwise triangles, the other way round.
    """
    clockwise = loop[::-1]
    order = np.roll(clockwise, -int(np.flatnonzero(clockwise == FOREHEAD_TOP)[0]))
    assert np.array_equal(mirror[order], np.roll(order[::-1], 1))
    return order


def lay_rings(surface: Surface, mean: Array, oval: Index, inward: Array) -> Array:
    """[RINGS, 36, 3]: straight walks over the surface outward from the border vertices.

    `inward` [36, 3]: towards the face from each border vertex.
    """
    count = len(oval)
    steps = np.minimum(np.arange(count), count - np.arange(count))
    reach, downward = (
        _smooth_cycle(np.interp(steps, list(knots), list(knots.values()))) for knots in (REACH_M, DOWNWARD)
    )
    at, normal = surface.project(mean[oval])
    offset = mean[oval] - at
    heading = _across(at, normal, -inward)
    rings = []
    for step in range(RINGS * SUBSTEPS):
        heading = _smooth_cycle(heading + 0.3 * _across(at, normal, heading))
        heading[:, 1] -= downward
        heading -= normal * (heading * normal).sum(axis=1, keepdims=True)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        at, normal = surface.project(_evened(at + heading * reach[:, None] / (RINGS * SUBSTEPS)))
        if (step + 1) % SUBSTEPS == 0:
            fade = (1 - (step + 1) / (RINGS * SUBSTEPS)) ** 2
            rings.append(at + offset * fade)
    return np.stack(rings)


def _across(ring: Array, normal: Array, side: Array) -> Array:
    """Unit directions within the surface square to a ring, towards `side`; all [N, 3]."""
    along = np.roll(ring, -1, axis=0) - np.roll(ring, 1, axis=0)
    across = np.cross(along, normal)
    across *= np.sign((across * side).sum(axis=1, keepdims=True))
    return across / np.linalg.norm(across, axis=1, keepdims=True)


def _evened(ring: Array) -> Array:
    """A ring with its vertices moved along it a little towards equal distances."""
    before, after = np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0)
    along = after - before
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    excess = (((before + after) / 2 - ring) * along).sum(axis=1, keepdims=True)
    return ring + EVENING * excess * along


def _smooth_cycle(values: Array) -> Array:
    """Values around a loop, run through (1, 2, 1) / 4 three times."""
    for _ in range(3):
        values = (np.roll(values, 1, axis=0) + 2 * values + np.roll(values, -1, axis=0)) / 4
    return values


def ring_triangles(oval: Index, first: int, shape: Array, mirror: Index) -> Index:
    """[F, 3]: triangles between the border and ring after ring, whose vertices count from `first`; mirror-symmetric."""
    grid = np.concatenate([oval[None], first + np.arange(RINGS * len(oval)).reshape(RINGS, -1)])
    inner, outer = grid[:-1, : len(oval) // 2 + 1], grid[1:, : len(oval) // 2 + 1]
    quads = np.stack([inner[:, :-1], inner[:, 1:], outer[:, 1:], outer[:, :-1]], axis=-1).reshape(-1, 4)
    half = split_quads(quads, shape)
    corners = shape[half]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if (facing * (corners.mean(axis=1) - shape.mean(axis=0))).sum() < 0:
        half = half[:, ::-1]
    return np.concatenate([half, mirror[half][:, ::-1]])


def ring_mirror(mirror: Index, count: int) -> Index:
    """The FaceMesh mirror map [468] carried on to the rings of `count` vertices."""
    around = (-np.arange(count)) % count
    rings = len(mirror) + np.arange(RINGS)[:, None] * count + around
    return np.concatenate([mirror, rings.ravel()])


def relaxed(shape: Array, triangles: Index, faces_count: int, pull: Array) -> Array:
    """The extension's vertices as a smooth continuation of the face, pulled [E] to where they are; the face stays."""
    energy = bending(triangles, len(shape))
    free, fixed = np.arange(faces_count, len(shape)), np.arange(faces_count)
    system = energy[free][:, free] + sparse.diags(pull)
    right_side = pull[:, None] * shape[free] - energy[free][:, fixed] @ shape[fixed]
    result = shape.copy()
    result[free] = splu(system.tocsc()).solve(right_side)
    return result


def follow_map(shape: Array, triangles: Index, faces_count: int, weights: Array, calm: Array) -> Array:
    """[E, 468]: how the extension's vertices move with the face's.

    The affine motion that fits the face's by least squares (`weights` [468]) is carried on as it is; what remains
    continues smoothly and fades, held back by `calm` [E].
    """
    face, extension = (np.c_[part, np.ones(len(part))] for part in (shape[:faces_count], shape[faces_count:]))
    weighted = face * weights[:, None]
    affine = np.linalg.solve(face.T @ weighted, weighted.T)
    energy = bending(triangles, len(shape))
    free, fixed = np.arange(faces_count, len(shape)), np.arange(faces_count)
    system = energy[free][:, free] + sparse.diags(calm)
    bent_on = splu(system.tocsc()).solve(-energy[free][:, fixed].toarray())
    return extension @ affine + bent_on @ (np.eye(faces_count) - face @ affine)
