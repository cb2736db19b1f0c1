"""How much of the light around reaches the skin of ICT-FaceKit's head: little in nostrils and behind the ears."""

from __future__ import annotations

import math

import numpy as np
import torch
from facemesh_mean import Array
from ict_layout import Head
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ostec.geometry.mesh import vertex_normals
from ostec.geometry.raster import rasterise
from ostec.types import FacePart

DIRECTIONS, PICTURE_PX = 400, 768
BIAS_M = 0.0015
CAVITY = 0.6
"""Less open skin lies in a cavity; the folds above count as open."""
MOVING = [*range(36, 68)]
"""iBUG landmarks of lids and lips: what they hide at rest comes to light."""


def openness(head: Head, vertices: Array, landmarks: Array) -> Array:
    """[V] 0..1 of `vertices` [V, 3] in metres: the cosine-weighted share of directions from which a vertex is seen,
    over that of the mouth of a cavity; 1 outside cavities, and within lids and lips."""
    share = seen_share(torch.from_numpy(vertices).float(), torch.from_numpy(head.faces.astype(np.int64))).numpy()
    share = np.minimum(share, share[head.mirror])
    skin = np.zeros(len(share), dtype=bool)
    skin[head.faces[head.part == FacePart.SKIN]] = True
    deep = skin & (share < CAVITY)
    edges = np.concatenate([head.faces[:, [0, 1]], head.faces[:, [1, 2]], head.faces[:, [2, 0]]])
    edges = edges[deep[edges].all(axis=1)]
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(share), len(share)))
    _, cavity = connected_components(graph, directed=False)
    beside = edges_around(head, landmarks[MOVING])
    closed = deep & ~np.isin(cavity, cavity[beside & deep])
    return np.where(closed, share / CAVITY, 1.0)


def edges_around(head: Head, vertices: Array) -> Array:
    """[V] bool: `vertices` and their neighbours."""
    found = np.zeros(len(head.mirror), dtype=bool)
    found[head.faces[np.isin(head.faces, vertices).any(axis=1)]] = True
    return found


def seen_share(vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """[V]: the cosine-weighted share of the directions from which nothing hides a vertex."""
    normals, middle = vertex_normals(vertices, faces), (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2
    radius = float((vertices - middle).norm(dim=1).max()) * 1.01
    pixel = 2 * radius / PICTURE_PX
    reached, whole = torch.zeros(len(vertices)), torch.full((len(vertices),), 1e-9)
    for toward in directions():
        across = torch.linalg.cross(torch.eye(3)[int(toward.abs().argmin())], toward)
        across = across / across.norm()
        frame = torch.stack([across, torch.linalg.cross(toward, across), toward], dim=1)
        x, y, z = ((vertices - middle) @ frame).unbind(dim=1)
        at_px, depth = torch.stack([x, y], dim=1) / pixel + PICTURE_PX / 2, 2 * radius - z
        clip = torch.cat([at_px, depth[:, None], torch.ones(len(z), 1)], dim=1)
        seen = rasterise(clip, faces, (PICTURE_PX, PICTURE_PX))
        column, row = at_px.long().clamp(0, PICTURE_PX - 1).unbind(dim=1)
        cosine = (normals @ toward).clamp(min=0)
        whole += cosine
        reached += cosine * (depth <= seen.depth[row, column] + BIAS_M + pixel)
    return reached / whole


def directions() -> torch.Tensor:
    """[N, 3]: unit vectors, evenly over the sphere (a Fibonacci lattice)."""
    turn = torch.arange(DIRECTIONS) + 0.5
    z, angle = 1 - 2 * turn / DIRECTIONS, turn * math.pi * (3 - math.sqrt(5))
    radius = (1 - z.square()).sqrt()
    return torch.stack([radius * angle.cos(), z, radius * angle.sin()], dim=1)
