"""The slow, obvious twin of `geometry.raster.rasterise`."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.geometry.raster import SUBPIXELS
from ostec.types import Fragments


def rasterise_reference(points_clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Fragments:
    """What `rasterise` gives, up to pixel centres that lie exactly on an edge: here both its triangles cover them."""
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) + 0.5 for n in size), indexing="ij")
    triangle = torch.full(size, -1)
    barycentrics = torch.zeros(*size, 3)
    depth = torch.full(size, torch.inf)
    for index, corners in enumerate(points_clip.double()[faces]):
        w = corners[:, 3]
        xy, z = (corners[:, :2] / w[:, None] * SUBPIXELS).round() / SUBPIXELS, corners[:, 2] / w
        if not (torch.isfinite(xy).all() and torch.isfinite(z).all() and (w > 0).all()):
            continue
        a, b, c = xy.tolist()
        # Twice the signed areas of the triangles that a pixel centre makes with each edge.
        areas = torch.stack(
            [(r[0] - q[0]) * (y - q[1]) - (r[1] - q[1]) * (x - q[0]) for q, r in ((b, c), (c, a), (a, b))],
            dim=-1,
        )
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0:
            continue
        shares = areas / area
        here = ((shares * z).sum(dim=-1)).float()
        seen = (shares >= 0).all(dim=-1) & (here < depth)
        in_space = shares / w
        in_space = in_space / in_space.sum(dim=-1, keepdim=True)
        triangle[seen], depth[seen], barycentrics[seen] = index, here[seen], in_space[seen].float()
    return Fragments(triangle, barycentrics, depth)
