"""The person in a photo as a sheet with depth, so that hair and clothes turn with the head.

As in Zhu et al., "Face Alignment Across Large Poses: A 3D Solution" (CVPR 2016), section 5, but with what is seen of
the face left to the fitted head, which the sheet lies behind, and cut at the person's outline.
"""

from __future__ import annotations

import numpy as np
import torch
from face_geometry import Array, FaceShape, Placed
from face_heads import CachedHead
from face_scene import IGNORE, Textured
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, Delaunay

from ostec.geometry.camera import to_clip
from ostec.geometry.raster import rasterise
from ostec.networks.face import PARTS

_CELLS = 120
"""Of the sheet along the photo's longer side."""
_BEHIND_M, _HAIR_M = 0.007, (0.004, 0.014)
_CURVE, _DEEPEST_M = 0.9, 0.13
_STEEPEST = 2.5
"""Metres of depth per metre across beyond which the photo shows too little of the surface to be turned."""
_SURELY = 1.5
"""How many times as near to the colour of hair as to that of skin a pixel beside the cheek is, or the other way."""
_SMOOTH_CELLS = 1.2
_CHIN, _BROW_TOP = 152, (105, 334)
_FACE_HULL = (70, 63, 105, 66, 336, 296, 334, 293, 300, 454, 361, 397, 378, 152, 149, 172, 132, 234)


def sheet_of(shape: FaceShape, head: CachedHead, placed: Placed, draw: Generator) -> tuple[Textured, Array | None]:
    """The sheet, and the mean colour [3] of the hair where there is some."""
    height, width = head.rgb.shape[:2]
    step = max(height, width) / _CELLS
    y, x = (np.arange(0, n + step, step).clip(0, n) for n in (height, width))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    person, skin = _person(head, grid), _skin(head, grid)
    depth, covered, far_px = _depth(shape, head, placed, grid)
    inner, above_chin, above_brows = _zones(head, grid)
    px_per_m = float(head.camera.K[0, 0]) / float(head.camera.t[2])
    picture = head.rgb / 255.0
    likely = _hair_likeness(picture, grid, (skin > 0.8) & inner, (person > 0.7) & above_brows & (skin < 0.2))
    beside = covered & above_chin & ~above_brows & ~inner
    hair = covered & (skin < 0.5) & (person > 0.5) & ~inner & ~(beside & (likely < 1.0))
    hair |= covered & (skin < 0.5) & (person > 0.5) & above_brows
    lifted = ndimage.gaussian_filter(np.where(hair, draw.uniform(*_HAIR_M), -_BEHIND_M), _SMOOTH_CELLS)
    back = np.minimum(_CURVE * far_px / px_per_m, _DEEPEST_M)
    depth = ndimage.gaussian_filter(depth + back, _SMOOTH_CELLS)
    slope = np.linalg.norm(np.gradient(depth), axis=0) / (step / px_per_m)
    depth = depth - np.where(covered, lifted, 0.0)
    labels = np.full(depth.shape, IGNORE, dtype=np.uint8)
    labels[above_chin & (person > 0.5) & ~covered] = PARTS.index("hair")
    labels[hair & above_chin & ~(beside & (likely < _SURELY))] = PARTS.index("hair")
    colour = None
    known = labels == PARTS.index("hair")
    if known.sum() > 30:
        column, row = grid[known].astype(np.int64).T
        colour = picture[row.clip(0, height - 1), column.clip(0, width - 1)].mean(axis=0)
    rows, columns = (
        np.rint((np.arange(n) + 0.5) / step).astype(np.int64).clip(0, most - 1)
        for n, most in zip((height, width), labels.shape, strict=True)
    )
    vertices = _unprojected(head, grid.reshape(-1, 2), depth.ravel())
    faces = _grid_faces(*depth.shape)
    uv = grid.reshape(-1, 2)
    cut = np.minimum(person - 0.5, (_STEEPEST - slope) / _STEEPEST)
    layer = Textured(vertices, faces, uv, faces, picture, labels[rows][:, columns], cut.ravel())
    return layer, colour


def continued_background(head: CachedHead) -> NDArray[np.uint8]:
    """The photo with the person replaced by what is around, smoothly; at a quarter of its size."""
    height, width = (n // 4 for n in head.rgb.shape[:2])
    rgb = np.asarray(Image.fromarray(head.rgb).resize((width, height), Image.Resampling.BOX), dtype=np.float64)
    grid = np.stack(np.meshgrid(np.arange(width) * 4 + 2.0, np.arange(height) * 4 + 2.0), axis=-1)
    outside = (ndimage.minimum_filter(1 - _person(head, grid), 3) > 0.9).astype(np.float64)
    if outside.mean() < 0.02:
        return np.broadcast_to(np.median(rgb, axis=(0, 1)), rgb.shape).astype(np.uint8)
    weight = ndimage.gaussian_filter(outside, 4) + 1e-4
    filled = ndimage.gaussian_filter(rgb * outside[..., None], (4, 4, 0)) / weight[..., None]
    mean = (rgb * outside[..., None]).sum(axis=(0, 1)) / outside.sum()
    sure = (weight / weight.max()).clip(0, 1)[..., None] ** 0.3
    filled = filled * sure + mean * (1 - sure)
    return np.where(outside[..., None] > 0.5, rgb, filled).clip(0, 255).astype(np.uint8)


def _person(head: CachedHead, grid: Array) -> Array:
    """0..1 at px [..., 2] of the photo; nothing of the person is beyond its border."""
    height, width = head.rgb.shape[:2]
    size = head.person_in_photo.shape
    at = [grid[..., 1] / height * size[0] - 0.5, grid[..., 0] / width * size[1] - 0.5]
    return ndimage.map_coordinates(head.person_in_photo / 255.0, at, order=1, mode="nearest")


def _skin(head: CachedHead, grid: Array) -> Array:
    affine = head.mask_from_photo.astype(np.float64)
    at = grid @ affine[:, :2].T + affine[:, 2] - 0.5
    return ndimage.map_coordinates(head.skin / 255.0, [at[..., 1], at[..., 0]], order=1, cval=0.0)


def _hair_likeness(picture: Array, grid: Array, skin: NDArray[np.bool_], hair: NDArray[np.bool_]) -> Array:
    """How many times as near the colour at px of the photo is to the median of `hair` as to that of `skin`."""
    if skin.sum() < 20 or hair.sum() < 20:
        return np.zeros(grid.shape[:2])
    column, row = np.moveaxis(grid.astype(np.int64), -1, 0)
    smooth = ndimage.gaussian_filter(picture, (1, 1, 0))
    colour = np.log(smooth[row.clip(0, len(picture) - 1), column.clip(0, picture.shape[1] - 1)] + 0.05)
    to_skin, to_hair = (np.linalg.norm(colour - np.median(colour[known], axis=0), axis=-1) for known in (skin, hair))
    return to_skin / np.maximum(to_hair, 1e-3)


def _depth(shape: FaceShape, head: CachedHead, placed: Placed, grid: Array) -> tuple[Array, NDArray[np.bool_], Array]:
    """At px of the photo: (camera z of the head, or of the nearest place where there is one; whether the head is
    there; px to that place)."""
    clip = to_clip(torch.from_numpy(placed.vertices).float(), head.camera)
    fragments = rasterise(clip, torch.from_numpy(shape.faces), head.camera.size)
    there = fragments.triangle.numpy() >= 0
    z = np.where(there, 1 / np.maximum(1 - fragments.depth.numpy(), 1e-6), 0.0)
    far, nearest = ndimage.distance_transform_edt(~there, return_indices=True)
    z = z[tuple(nearest)]
    column, row = np.moveaxis(grid.astype(np.int64), -1, 0)
    row, column = row.clip(0, there.shape[0] - 1), column.clip(0, there.shape[1] - 1)
    return z[row, column], there[row, column], far[row, column]


def _zones(head: CachedHead, grid: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """(Within the face below the brows, above the chin, above the brows) at px of the photo."""
    points = head.points[:, :2].astype(np.float64)
    hull = points[list(_FACE_HULL)]
    inner = Delaunay(hull[ConvexHull(hull).vertices]).find_simplex(grid) >= 0
    brows = points[list(_BROW_TOP)].mean(axis=0)
    up = brows - points[_CHIN]
    height = (grid - points[_CHIN]) @ up / (up @ up)
    return inner, height > 0.0, height > 1.0


def _unprojected(head: CachedHead, px: Array, depth: Array) -> Array:
    K, R, t = (part.double().numpy() for part in (head.camera.K, head.camera.R, head.camera.t))
    at = np.c_[(px - K[:2, 2]) / K[[0, 1], [0, 1]], np.ones(len(px))] * depth[:, None]
    return (at - t) @ R


def _grid_faces(rows: int, columns: int) -> NDArray[np.int64]:
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij"))
    a, b, c, d = i * columns + j, i * columns + j + 1, (i + 1) * columns + j, (i + 1) * columns + j + 1
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
