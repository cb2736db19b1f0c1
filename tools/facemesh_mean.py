"""The FaceMesh triangles, made symmetric and closed, and the mean shape of many fits."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CONNECTIONS = "mediapipe/python/solutions/face_mesh_connections.py"
RIGHT_EYE, LEFT_EYE, MOUTH = (33, 133), (263, 362), (78, 308)
"""Corners of the subject's right and left eye (outer, inner) and of the inner lips (right, left)."""
RIGHT_EYE_RING, LEFT_EYE_RING = (33, 133, 159, 145), (263, 362, 386, 374)
FOREHEAD_TOP = 10
EYE_DISTANCE_M = 0.063


def read_triangles(wheel: Path) -> Index:
    """[F, 3] from MediaPipe's wheel: its tessellation edges come as three per triangle, head to tail."""
    source = zipfile.ZipFile(wheel).read(CONNECTIONS).decode()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "FACEMESH_TESSELATION":
            assert isinstance(node.value, ast.Call)
            edges = np.array(ast.literal_eval(node.value.args[0]), dtype=np.int64).reshape(-1, 3, 2)
            if not np.array_equal(edges[:, :, 1], np.roll(edges[:, :, 0], -1, axis=1)):
                raise SystemExit(f"{wheel}: the tessellation is not a list of directed triangles.")
            return edges[:, :, 0]
    raise SystemExit(f"{wheel}: {CONNECTIONS} has no FACEMESH_TESSELATION.")


def mirrored_triangles(triangles: Index, mirror: Index) -> Index:
    """The triangles of the other side, with the same side out."""
    return mirror[triangles][:, ::-1]


def symmetric_triangles(triangles: Index, mirror: Index, mean: Array) -> Index:
    """The triangles of the subject's left half and their mirror images, counter-clockwise seen from outside."""
    corners = mean[triangles]
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2].sum()
    outward = triangles if facing > 0 else triangles[:, ::-1]
    left = outward[corners[:, :, 0].mean(axis=1) > 0]
    return np.concatenate([left, mirrored_triangles(left, mirror)])


def boundary_loops(triangles: Index) -> list[Index]:
    """Closed chains of vertices along the edges that have one triangle, in the direction those triangles go."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    directed = set(map(tuple, edges.tolist()))
    following = {a: b for a, b in directed if (b, a) not in directed}
    loops = []
    while following:
        start = min(following)
        loop = [start]
        while (vertex := following.pop(loop[-1])) != start:
            loop.append(vertex)
        loops.append(np.array(loop, dtype=np.int64))
    return loops


def close_loop(loop: Index, corners: tuple[int, int], shape: Array) -> Index:
    """[F, 3]: triangles between the two lids or lips that meet at the `corners`; no new vertices."""
    order = loop.tolist()
    first, second = (order.index(c) for c in corners)
    one = np.roll(loop, -first)[: (second - first) % len(loop) + 1]
    other = np.roll(loop, -second)[: (first - second) % len(loop) + 1][::-1]
    if len(one) != len(other):
        raise SystemExit(f"The loop at vertex {corners[0]} has {len(one)} and {len(other)} vertices on its two sides.")
    return split_quads(np.stack([one[1:], one[:-1], other[:-1], other[1:]], axis=1), shape)


def split_quads(quads: Index, shape: Array) -> Index:
    """[F, 3]: each quad [Q, 4] cut along its shorter diagonal; triangles with a repeated corner dropped."""
    a, b, c, d = quads.T
    cut_ac = np.linalg.norm(shape[a] - shape[c], axis=1) <= np.linalg.norm(shape[b] - shape[d], axis=1)
    one = np.where(cut_ac[:, None], quads[:, [0, 1, 2]], quads[:, [0, 1, 3]])
    two = np.where(cut_ac[:, None], quads[:, [0, 2, 3]], quads[:, [1, 2, 3]])
    both = np.stack([one, two], axis=1).reshape(-1, 3)
    proper = (both[:, 0] != both[:, 1]) & (both[:, 1] != both[:, 2]) & (both[:, 2] != both[:, 0])
    return both[proper]


def similarity(source: Array, target: Array) -> tuple[float, Array, Array]:
    """(scale, R, t) with target ~ scale R source + t by least squares (Umeyama 1991)."""
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, s, v = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    R = (u * sign) @ v
    scale = float((s * sign).sum() / (a * a).sum())
    return scale, R, target.mean(axis=0) - scale * R @ source.mean(axis=0)


def mean_shape(fits: Iterable[Array], mirror: Index) -> Array:
    """[468, 3] head frame, metres: generalised Procrustes mean of near-frontal fits in px (x right, y up, z out).

    Every fit counts together with its mirror image, so that x = 0 is the plane of symmetry. The zero pose is the mean
    pose of the fits, the origin the mean of the points.
    """
    shapes = [np.asarray(fit, dtype=np.float64) for fit in fits]
    mean = _levelled(shapes[0] - shapes[0].mean(axis=0), mirror)
    for _ in range(6):
        total = np.zeros_like(mean)
        bows = []
        for shape in shapes:
            scale, R, t = similarity(shape, mean)
            total += scale * shape @ R.T + t
            bows.append(np.arctan2(R[2, 1], R[2, 2]))
        mean = _turned(_levelled(total / len(shapes), mirror), -float(np.mean(bows)))
        eyes = mean[list(LEFT_EYE_RING)].mean(axis=0) - mean[list(RIGHT_EYE_RING)].mean(axis=0)
        mean *= EYE_DISTANCE_M / np.linalg.norm(eyes)
        mean -= [0.0, mean[:, 1].mean(), mean[:, 2].mean()]
    return mean


def _levelled(shape: Array, mirror: Index) -> Array:
    """Turned and shifted by the least so that the plane of symmetry is x = 0, and made exactly symmetric."""
    across = (shape - shape[mirror]).T @ (shape - shape[mirror])
    x = np.linalg.eigh(across)[1][:, -1]
    x = x * np.sign(x @ (shape[LEFT_EYE[0]] - shape[RIGHT_EYE[0]]))
    z = np.array([0.0, 0.0, 1.0]) - x * x[2]
    z /= np.linalg.norm(z)
    turned = shape @ np.stack([x, np.cross(z, x), z], axis=1)
    turned[:, 0] -= turned[:, 0].mean()
    return (turned + turned[mirror] * [-1.0, 1.0, 1.0]) / 2


def _turned(shape: Array, angle: float) -> Array:
    """Turned about x by `angle` in radians; positive turns y to z."""
    c, s = np.cos(angle), np.sin(angle)
    return shape @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T
