"""ICT-FaceKit's head made ready: the parts that are shown, symmetric triangles, one square UV atlas for all parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import facemesh_uv as uv_charts
import numpy as np
from facemesh_mean import Array, Index, boundary_loops, split_quads
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree

from ostec.types import FacePart

POLYGONS = (
    (FacePart.SKIN, 0, 11144),
    (FacePart.MOUTH, 11144, 13226),
    (FacePart.LEFT_SOCKET, 13226, 13630),
    (FacePart.RIGHT_SOCKET, 13630, 14034),
    (FacePart.GUMS, 14034, 17006),
    (FacePart.TEETH, 17006, 21496),
    (FacePart.LEFT_EYE, 21496, 22296),
    (FacePart.RIGHT_EYE, 23094, 23894),
)
"""Ranges of ICT's polygons. Left out: the inner eyeballs, which the outer ones hide, and what is transparent."""
OTHER_SIDE = {FacePart.LEFT_EYE: FacePart.RIGHT_EYE, FacePart.LEFT_SOCKET: FacePart.RIGHT_SOCKET}
OTHER_SIDE |= {right: left for left, right in OTHER_SIDE.items()}
RECTANGLES = {
    FacePart.RIGHT_EYE: (0.008, 0.882, 0.122, 0.992),
    FacePart.TEETH: (0.130, 0.882, 0.244, 0.992),
    FacePart.GUMS: (0.252, 0.882, 0.345, 0.992),
    FacePart.MOUTH: (0.353, 0.882, 0.436, 0.992),
    FacePart.RIGHT_SOCKET: (0.444, 0.882, 0.492, 0.992),
}
"""Part, of the subject's right side -> u and v of two corners of its place on the atlas; the left side's mirror it."""
SKIN_HEIGHT = 0.88
MIRRORED = np.array([-1.0, 1.0, 1.0])
DISTANCES = np.array([0.0, 1.5, 4.0, 7.0, 11.0, 16.0])
SIZES = np.array([[1.25, 1.0, 0.72, 0.5, 0.36, 0.28], [1.5, 1.25, 0.8, 0.48, 0.3, 0.22]])
"""Size on the atlas by the distance from the nearest of the 68 landmarks, ICT units: at first, and then."""
MIDLINE = 1e-4


@dataclass(frozen=True)
class Head:
    """The parts that are shown, V vertices of ICT's."""

    kept: Index
    """[V]: which of ICT's vertices."""
    shape: Array
    """[V, 3]: the neutral head, ICT units."""
    mirror: Index
    """[V] involution."""
    faces: Index
    """[F, 3]: the triangles of the subject's right side, then their mirror images."""
    part: Index
    """[F]: values of `ostec.types.FacePart`."""
    landmarks: Index
    """[68], iBUG order."""
    corner_uv: Array
    """[F / 2, 3, 2]: upstream's own, v = 0 at the bottom, of the subject's right side."""


def read_head(path: Path) -> Head:
    """The head in a packed ICT-FaceKit model."""
    with np.load(path, allow_pickle=False) as arrays:
        everything = arrays["neutral_vertices"].astype(np.float64)
        quads, quads_uv = arrays["quads"].astype(np.int64), arrays["quads_uv"].astype(np.int64)
        uv, landmarks = arrays["uv"].astype(np.float64), arrays["landmark_vertices_68"].astype(np.int64)
    rows = np.concatenate([np.arange(low, high) for _, low, high in POLYGONS])
    part = np.concatenate([np.full(high - low, int(name)) for name, low, high in POLYGONS])
    kept = np.unique(quads[rows][quads[rows] >= 0])
    local = np.full(len(everything) + 1, -1)
    local[kept] = np.arange(len(kept))
    shape, quads = everything[kept], local[quads[rows]]
    mirror = mirror_map(shape, quads, part)
    right = shape[np.where(quads < 0, quads[:, :1], quads), 0].mean(axis=1) < 0
    quads, quads_uv, part = quads[right], quads_uv[rows][right], part[right]
    slots = np.where(quads >= 0, np.arange(quads.size).reshape(quads.shape), np.arange(0, quads.size, 4)[:, None])
    corners = split_quads(slots, shape[np.where(quads >= 0, quads, quads[:, :1]).ravel()])
    faces, polygon = quads.ravel()[corners], corners[:, 0] // 4
    other = np.array([int(OTHER_SIDE.get(name, name)) for name in FacePart])
    corner_uv = uv[quads_uv.ravel()[corners]]
    return Head(
        kept,
        shape,
        mirror,
        np.concatenate([faces, mirror[faces][:, ::-1]]),
        np.concatenate([part[polygon], other[part[polygon]]]),
        local[landmarks],
        corner_uv,
    )


def mirror_map(shape: Array, quads: Index, part: Index) -> Index:
    """[V] involution onto the vertex of the other side, of the same part or its counterpart."""
    mirror = np.arange(len(shape))
    for name in FacePart:
        if not (part == name).any():
            continue
        own, other = (np.unique(quads[part == k]) for k in (name, OTHER_SIDE.get(name, name)))
        own, other = own[own >= 0], other[other >= 0]
        if name in OTHER_SIDE and name < OTHER_SIDE[name]:
            continue
        distance, near = (np.asarray(found) for found in KDTree(shape[other]).query(shape[own] * MIRRORED))
        clear = distance < 1e-3
        mirror[own[clear]] = other[near[clear]]
        open_own = own[~clear]
        open_other = np.setdiff1d(other, other[near[clear]])
        if len(open_own):
            gaps = np.linalg.norm(shape[open_own][:, None] * MIRRORED - shape[open_other], axis=2)
            rows, columns = linear_sum_assignment(gaps**2)
            mirror[open_own[rows]] = open_other[columns]
        if name in OTHER_SIDE:
            mirror[mirror[own]] = own
    wrong = mirror[mirror] != np.arange(len(mirror))
    if wrong.any():
        raise SystemExit(f"{int(wrong.sum())} vertices have no partner on the other side: {np.flatnonzero(wrong)}")
    return mirror


def atlas(head: Head) -> tuple[Array, Index]:
    """uv [T, 2], (0, 0) = top left, and corners [F / 2, 3] in it of the subject's right side; u -> 1 - u gives the
    left."""
    half = len(head.faces) // 2
    corner_uv = np.zeros((half, 3, 2))
    skin = head.part[:half] == FacePart.SKIN
    corner_uv[skin] = skin_chart(head)[: int(skin.sum())]
    for name, (u0, v0, u1, v1) in RECTANGLES.items():
        rows = np.flatnonzero(head.part[:half] == name)
        own = head.corner_uv[rows]
        low, high = own.min(axis=(0, 1)), own.max(axis=(0, 1))
        unit = (own - low) / (high - low)
        place = np.array([u0, v1]) + unit * np.array([u1 - u0, v0 - v1])
        corner_uv[rows] = np.round(place * uv_charts.GRID) / uv_charts.GRID
    keys = np.concatenate([head.faces[:half].reshape(-1, 1), corner_uv.reshape(-1, 2)], axis=1)
    distinct, corners = np.unique(keys, axis=0, return_inverse=True)
    return np.asarray(distinct[:, 1:], dtype=np.float64), corners.reshape(-1, 3)


def skin_chart(head: Head) -> Array:
    """[S, 3, 2]: the skin's corners on the upper part of the atlas, one chart cut open at the back of the head."""
    triangles = head.faces[head.part == FacePart.SKIN]
    flat, shape, mirror, border = cut_open(triangles, head.shape, head.mirror)
    flat, shape, mirror = holes_closed(flat, shape, mirror, border)
    distance = KDTree(shape[head.landmarks]).query(shape)[0]
    sizes = [np.interp(distance, DISTANCES, row)[flat].mean(axis=1) for row in SIZES]
    shape, flat, mirror, border = compact(shape, flat, mirror, border)
    uv = None
    for size in sizes:
        wanted = uv_charts.Wanted(size, size, np.zeros((len(flat), 3)))
        uv = uv_charts.lay_out(shape, flat, border, mirror, wanted, start=uv)
    assert uv is not None
    uv_charts_report(shape, flat, uv)
    return uv[flat[: len(triangles)]] * [1.0, SKIN_HEIGHT]


def cut_open(triangles: Index, shape: Array, mirror: Index) -> tuple[Index, Array, Index, Index]:
    """The skin cut along the midline from the neck's rim up the back to the crown: triangles, shape and mirror map with
    the doubled vertices, and the border from the crown over the subject's left."""
    rim = max(boundary_loops(triangles), key=lambda loop: np.ptp(shape[loop, 0]))
    chain = back_of_the_midline(triangles, shape, rim)
    count, doubled = len(shape), chain[:-1]
    copy = np.arange(count)
    copy[doubled] = count + np.arange(len(doubled))
    left = shape[triangles, 0].mean(axis=1) > 0
    triangles = np.where(left[:, None], copy[triangles], triangles)
    mirror = np.concatenate([mirror, doubled])
    mirror[doubled] = copy[doubled]
    shape = np.concatenate([shape, shape[doubled]])
    start = int(np.flatnonzero(rim == chain[0])[0])
    around = np.roll(rim, -start)[1:]
    if shape[around[0], 0] < 0:
        around = around[::-1]
    border = np.concatenate([chain[-1:], copy[doubled][::-1], around, doubled])
    return triangles, shape, mirror, border


def back_of_the_midline(triangles: Index, shape: Array, rim: Index) -> Index:
    """Vertices on the plane of symmetry, along edges, from the back of the neck's rim to the crown."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    edges = edges[(np.abs(shape[edges, 0]) < MIDLINE).all(axis=1)]
    on_rim = rim[np.abs(shape[rim, 0]) < MIDLINE]
    chain = [int(on_rim[shape[on_rim, 2].argmin()])]
    crown = int(edges.ravel()[shape[edges.ravel(), 1].argmax()])
    while chain[-1] != crown:
        following = edges[edges[:, 0] == chain[-1], 1].tolist() + edges[edges[:, 1] == chain[-1], 0].tolist()
        chain.append(next(vertex for vertex in following if vertex not in chain[-2:]))
    return np.array(chain)


def holes_closed(triangles: Index, shape: Array, mirror: Index, border: Index) -> tuple[Index, Array, Index]:
    """The eyes' and the mouth's openings filled with fans, so that the chart is a disc."""
    holes = [loop for loop in boundary_loops(triangles) if not np.isin(loop, border).any()]
    centres = len(shape) + np.arange(len(holes))
    middle = np.stack([shape[loop].mean(axis=0) for loop in holes])
    partner = KDTree(middle).query(middle * MIRRORED)[1]
    fans = [
        np.stack([np.roll(loop, -1), loop, np.full(len(loop), c)], 1) for loop, c in zip(holes, centres, strict=True)
    ]
    return (
        np.concatenate([triangles, *fans]),
        np.concatenate([shape, middle]),
        np.concatenate([mirror, centres[partner]]),
    )


def compact(shape: Array, triangles: Index, mirror: Index, border: Index) -> tuple[Array, Index, Index, Index]:
    """The same without the vertices that no triangle uses."""
    used = np.unique(triangles)
    number = np.full(len(shape), -1)
    number[used] = np.arange(len(used))
    return shape[used], number[triangles], number[mirror[used]], number[border]


def uv_charts_report(shape: Array, triangles: Index, uv: Array) -> None:
    """Print how the chart stretches."""
    values = uv_charts.stretch(shape, triangles, uv)
    mean = float(np.average(values["angle"], weights=values["weight"]))
    print(f"skin chart: quasi-conformal mean {mean:.2f}, 95 % {np.percentile(values['angle'], 95):.2f}")
