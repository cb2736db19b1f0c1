"""Named groups of vertices and per-vertex weights of the FaceMesh head."""

from __future__ import annotations

import numpy as np
from facemesh_extension import laplacian
from facemesh_mean import Array, Index
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ostec.landmarks.facemesh_landmarks import IBUG_POINTS

Group = NDArray[np.bool_]

LANDMARKS = np.array(IBUG_POINTS)

OUTER_LIPS = [61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146]
RIGHT_BROW = [70, 63, 105, 66, 107, 55, 65, 52, 53, 46]
RIGHT_NOSTRIL = [2, 97, 98, 64, 59, 166, 79, 239, 238, 241, 125, 141]
NOSTRILS_BETWEEN = [2, 94, 141, 370]
RIGHT_CHEEK = [117, 118, 101, 36, 205, 187, 123]
NOSE = [8, 193, 122, 196, 236, 198, 134, 51, 5, 281, 363, 420, 456, 419, 351, 417]
FOREHEAD_ABOVE = [54, 103, 67, 109, 10, 338, 297, 332, 284]
FOREHEAD_BELOW = [301, 293, 334, 296, 336, 9, 107, 66, 105, 63, 71]
BETWEEN_BROWS = [151, 108, 107, 55, 8, 285, 336, 337]
JAW = [132, 58, 172, 136, 150, 149, 176, 148, 152]
SUBNASALE, LIPS_BOTTOM = 2, 17
BROW_MARGIN_M, NOSTRIL_MARGIN_M, JAW_MARGIN_M = 0.005, 0.002, 0.014


def rings_from(seeds: Index, triangles: Index, count: int) -> Index:
    """[V]: steps along edges from the nearest of `seeds`."""
    linked = laplacian(triangles, count) != 0
    distance = np.full(count, count, dtype=np.int64)
    distance[seeds] = 0
    for step in range(1, count):
        fresh = (linked @ (distance < step)) & (distance > step)
        if not fresh.any():
            break
        distance[fresh] = step
    return distance


def pose_weights(mean: Array, mobile: Group, border: Index) -> Array:
    """[468]: 1 on the rigid upper face, falling to 0.02 from the nose's base to the lower lip; little at `mobile`."""
    y = mean[:, 1]
    below = np.clip((y[SUBNASALE] + 0.01 - y) / (y[SUBNASALE] + 0.01 - y[LIPS_BOTTOM]), 0.0, 1.0)
    weights = 1.0 - 0.98 * below * below * (3 - 2 * below)
    weights[mobile] *= 0.3
    weights[border] *= 0.3
    return weights


def region_groups(
    shape: Array, uv: Array, triangles: Index, patch_of: Index, extension: Array, mirror: Index
) -> dict[str, Group]:
    """Name -> [V] bool on the final mesh, mirror-symmetric.

    `patch_of` [F]: 1 and 2 for the eyes, 3 for the mouth's opening; `extension` [V] > 0 beyond the face oval.
    """
    eyes = _touched(triangles[np.isin(patch_of, (1, 2))], len(shape))
    mouth = _touched(triangles[patch_of == 3], len(shape))
    brows = _dilated(_within(uv, RIGHT_BROW), shape, BROW_MARGIN_M)
    nostrils = _within(uv, RIGHT_NOSTRIL) | _within(uv, NOSTRILS_BETWEEN)
    bare = _within(uv, RIGHT_CHEEK) | _within(uv, NOSE) | _within(uv, BETWEEN_BROWS)
    jaw = np.zeros(len(shape), dtype=bool)
    jaw[JAW] = True
    groups = {
        "eyes": eyes,
        "mouth_opening": mouth,
        "lips": _within(uv, OUTER_LIPS) & ~mouth | _touched(triangles[patch_of == 0], len(shape)) & mouth,
        "brows": brows,
        "nostrils": _dilated(nostrils, shape, NOSTRIL_MARGIN_M),
        "cheeks_nose_chin_skin": bare,
        "forehead": _within(uv, FOREHEAD_ABOVE + FOREHEAD_BELOW),
        "jaw_border": _dilated(jaw, shape, JAW_MARGIN_M),
        "extension": extension > 0,
    }
    groups = {name: group | group[mirror] for name, group in groups.items()}
    hairy = groups["brows"] | groups["nostrils"] | groups["eyes"]
    groups["forehead"] &= ~groups["brows"]
    groups["cheeks_nose_chin_skin"] &= ~hairy
    return groups


def _touched(triangles: Index, count: int) -> Group:
    """[V]: the vertex is a corner of one of the triangles."""
    touched = np.zeros(count, dtype=bool)
    touched[triangles] = True
    return touched


def _dilated(group: Group, shape: Array, margin_m: float) -> Group:
    """The group and what lies within `margin_m` of it."""
    return KDTree(shape[group]).query(shape)[0] <= margin_m


def _within(uv: Array, outline: list[int]) -> Group:
    """[V]: the vertex lies within the polygon of the vertices `outline` on the chart, or is one of them."""
    polygon = uv[outline]
    following = np.roll(polygon, -1, axis=0)
    u, v = uv[:, :1], uv[:, 1:]
    crosses = (polygon[:, 1] > v) != (following[:, 1] > v)
    run, rise = (following - polygon).T
    slope = run / np.where(rise == 0, 1.0, rise)
    right_of = polygon[:, 0] + (v - polygon[:, 1]) * slope > u
    inside = (crosses & right_of).sum(axis=1) % 2 == 1
    inside[outline] = True
    return inside
