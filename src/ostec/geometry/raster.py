"""The triangle visible in each pixel: a perspective-correct z-buffer on the CPU."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.bands import Bands
from ostec.geometry.compiled import compiled
from ostec.types import Fragments, Texels

SUBPIXELS = 4096
"""Vertices are snapped to this fraction of a pixel; edge functions are then exact in float64 for triangles up to
16,384 px across, so that every pixel centre inside a closed surface's picture is covered exactly once per layer."""


def rasterise(points_clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Fragments:
    """What is visible of a triangle mesh at the pixel centres (+0.5) of a picture of (height, width) `size`.

    `points_clip` [V, 4] is (x·w, y·w, depth·w, w), x and y in px (`geometry.camera.to_clip`); `faces` [F, 3]. Both
    sides of a triangle are drawn. Triangles with a vertex at w <= 0 (behind the camera) or not finite are left out:
    there is no clipping. A pixel centre on a shared edge belongs to one of its triangles; of equally near triangles
    the first in `faces` is visible. The result does not depend on the number of threads. Raises `BadGeometry`.
    """
    height, width = size
    if points_clip.ndim != 2 or points_clip.shape[1] != 4:
        raise BadGeometry(f"points_clip is {list(points_clip.shape)}; give [V, 4], see geometry.camera.to_clip.")
    if min(size) < 1:
        raise BadGeometry(f"the picture is {height} x {width} px; give at least 1 x 1.")
    _check_faces(faces, len(points_clip))
    screen = _to_screen(points_clip)
    corners = faces.cpu().long().contiguous().numpy()
    triangle = torch.empty((height, width), dtype=torch.int64)
    barycentrics = torch.empty((height, width, 3))
    depth = torch.empty((height, width))
    buffers = triangle.numpy(), barycentrics.numpy(), depth.numpy()

    with Bands() as bands:
        bands(height, width, lambda low, high: _draw_rows(screen, corners, low, high, *buffers))
    return Fragments(triangle, barycentrics, depth)


def interpolate(fragments: Fragments | Texels, attributes: Tensor, faces: Tensor) -> Tensor:
    """[H, W, C]: the vertex attributes [V, C] in every pixel or texel; 0 where there is no triangle.

    `faces` [F, 3] index `attributes`; they may differ from the rasterised ones (texture seams). Raises `BadGeometry`.
    """
    height, width = fragments.triangle.shape
    values = attributes.detach().cpu().float().contiguous()
    _check_faces(faces, len(values))
    picture = torch.empty((height, width, values.shape[1]))
    given = fragments.triangle, fragments.barycentrics, faces.long(), values, picture
    arrays = [tensor.cpu().contiguous().numpy() for tensor in given]
    with Bands() as bands:
        bands(height, width, lambda low, high: _interpolate_rows(low, high, *arrays))
    return picture


def _check_faces(faces: Tensor, vertex_count: int) -> None:
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise BadGeometry(f"faces is {list(faces.shape)}; give [F, 3].")
    if len(faces) and not 0 <= int(faces.min()) <= int(faces.max()) < vertex_count:
        raise BadGeometry(f"faces index {int(faces.min())}..{int(faces.max())}, but there are {vertex_count} vertices.")


def _to_screen(points_clip: Tensor) -> np.ndarray:
    """[V, 4] float64: x, y (snapped), depth, 1/w; x is NaN where the vertex cannot be drawn."""
    clip = points_clip.detach().cpu().numpy().astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse_w = 1 / clip[:, 3:]
        screen = np.concatenate([clip[:, :3] * inverse_w, inverse_w], axis=1)
        screen[:, :2] = np.rint(screen[:, :2] * SUBPIXELS) / SUBPIXELS
    screen[~(np.isfinite(screen).all(axis=1) & (clip[:, 3] > 0)), 0] = np.nan
    return screen


@compiled()
def _draw_rows(screen, faces, row_low, row_high, triangle, barycentrics, depth):
    """Draw rows row_low..row_high-1 of the three buffers."""
    width = depth.shape[1]
    triangle[row_low:row_high] = -1
    barycentrics[row_low:row_high] = 0
    depth[row_low:row_high] = np.inf
    for f in range(len(faces)):
        a, b, c = screen[faces[f, 0]], screen[faces[f, 1]], screen[faces[f, 2]]
        ax, bx, cx, ay, by, cy = a[0], b[0], c[0], a[1], b[1], c[1]
        top = max(np.ceil(min(ay, by, cy) - 0.5), row_low)
        bottom = min(np.floor(max(ay, by, cy) - 0.5), row_high - 1)
        left = max(np.ceil(min(ax, bx, cx) - 0.5), 0)
        right = min(np.floor(max(ax, bx, cx) - 0.5), width - 1)
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not (top <= bottom and left <= right and abs(area) > 0):
            continue
        # Edge functions, positive inside: the one opposite a vertex, over the area, is that vertex's share.
        side = 1.0 if area > 0 else -1.0
        ux, uy = side * (by - cy), side * (cx - bx)
        vx, vy = side * (cy - ay), side * (ax - cx)
        wx, wy = side * (ay - by), side * (bx - ax)
        # A centre on an edge belongs to the triangle on the edge's right, or below it.
        u_least = 0.0 if ux > 0 or (ux == 0 and uy > 0) else 1e-300
        v_least = 0.0 if vx > 0 or (vx == 0 and vy > 0) else 1e-300
        w_least = 0.0 if wx > 0 or (wx == 0 and wy > 0) else 1e-300
        db, dc, per_area = b[2] - a[2], c[2] - a[2], 1 / abs(area)
        x0 = left + 0.5
        for row in range(int(top), int(bottom) + 1):
            y = row + 0.5
            u = ux * (x0 - bx) + uy * (y - by)
            v = vx * (x0 - cx) + vy * (y - cy)
            w = wx * (x0 - ax) + wy * (y - ay)
            for column in range(int(left), int(right) + 1):
                if u >= u_least and v >= v_least and w >= w_least:
                    z = np.float32(a[2] + (v * db + w * dc) * per_area)
                    if z < depth[row, column]:
                        depth[row, column] = z
                        triangle[row, column] = f
                        pu, pv, pw = u * a[3], v * b[3], w * c[3]
                        per_sum = 1 / (pu + pv + pw)
                        barycentrics[row, column, 0] = pu * per_sum
                        barycentrics[row, column, 1] = pv * per_sum
                        barycentrics[row, column, 2] = pw * per_sum
                u += ux
                v += vx
                w += wx


@compiled()
def _interpolate_rows(row_low, row_high, triangle, barycentrics, faces, attributes, picture):
    """Interpolate `attributes` [V, C] into rows row_low..row_high-1 of `picture` [H, W, C]."""
    for row in range(row_low, row_high):
        for column in range(triangle.shape[1]):
            f = triangle[row, column]
            if f < 0:
                picture[row, column] = 0
                continue
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            u, v, w = barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2]
            for k in range(attributes.shape[1]):
                picture[row, column, k] = u * attributes[a, k] + v * attributes[b, k] + w * attributes[c, k]
