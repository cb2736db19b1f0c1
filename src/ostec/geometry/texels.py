"""Where each texel of the texture lies on the face, in 3D."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.mesh import vertex_normals
from ostec.geometry.raster import interpolate
from ostec.interfaces import Rasteriser
from ostec.types import Fragments, Shape, Texels, Topology


def bake_texels(shape: Shape, size: tuple[int, int], rasterise: Rasteriser) -> Texels:
    """The point and the normal of `shape` under each texel centre of a texture of (height, width) `size`.

    What does not depend on the vertices is cached for the next shape of the same topology and size. If the
    topology has a mirror map, texel (i, Wu-1-j) lies on the mirrored triangle with the mirrored barycentrics, and
    baking a mirrored shape gives the mirrored points and normals, bit for bit. The middle column of an odd width lies
    on triangles of the left half; its points and normals are the means over both halves.
    """
    chart = _chart(shape.topology, size, rasterise)
    points = _on_chart(chart, shape.vertices)
    normals = _on_chart(chart, vertex_normals(shape.vertices, shape.topology.faces))
    x, y, z = normals.unbind(dim=-1)
    length = (x * x + y * y + z * z).sqrt_()
    normals /= torch.where(length > 0, length, 1.0)[..., None]
    return Texels(chart.inside, chart.triangle, chart.barycentrics, points, normals)


@dataclass(frozen=True)
class _Chart:
    """What all faces of a topology share at one texture size: the first three fields of `Texels`, and the same
    fragments in an order of corners that mirrors exactly."""

    inside: Tensor
    triangle: Tensor
    barycentrics: Tensor
    source: Fragments
    source_faces: Tensor
    middle: Fragments | None
    """[Hu, 1]: the middle column of an odd width as the right half's triangles have it, in the same order."""


def _on_chart(chart: _Chart, attributes: Tensor) -> Tensor:
    """[Hu, Wu, C]: the vertex attributes [V, C] in every texel."""
    picture = interpolate(chart.source, attributes, chart.source_faces)
    if chart.middle is not None:
        column = picture[:, picture.shape[1] // 2]
        column += interpolate(chart.middle, attributes, chart.source_faces)[:, 0]
        column /= 2
    return picture


@lru_cache(maxsize=2)  # tensors are hashed, and so topologies are found again, by identity
def _chart(topology: Topology, size: tuple[int, int], rasterise: Rasteriser) -> _Chart:
    height, width = size
    columns = width if topology.mirror is None else (width + 1) // 2
    flat = torch.nn.functional.pad(topology.uv * torch.tensor([width, height]), (0, 2))
    flat[:, 3] = 1
    drawn = rasterise(flat, topology.uv_faces, (height, columns))
    if topology.mirror is None:
        source, source_faces, middle = drawn, topology.faces, None
        triangle, barycentrics = drawn.triangle, drawn.barycentrics
    else:
        source, triangle, barycentrics = _mirrored(drawn, topology.faces, topology.mirror, width)
        source_faces = torch.cat([topology.faces, topology.mirror[topology.faces]])
        middle = None
        if width % 2:
            last = drawn.triangle[:, -1:]
            last = torch.where(last >= 0, last + len(topology.faces), -1)
            middle = Fragments(last, drawn.barycentrics[:, -1:], drawn.depth[:, -1:])
    paintable = topology.paintable[topology.faces].all(dim=1)
    inside = (triangle >= 0) & paintable[triangle.clamp(min=0)]
    return _Chart(inside, triangle, barycentrics, source, source_faces, middle)


def _mirrored(left: Fragments, faces: Tensor, mirror: Tensor, width: int) -> tuple[Fragments, Tensor, Tensor]:
    """The complete chart from its left half: the source fragments of `_Chart`, triangle and barycentrics.

    In the source, triangle F + f is `mirror[faces[f]]`: the mirrored triangle with its corners in the order of f's.
    """
    partner, corners = _mirror_triangles(faces, mirror)
    right = left.triangle[:, : width // 2].flip(1)
    shares = left.barycentrics[:, : width // 2].flip(1)
    triangle = torch.where(right >= 0, partner[right.clamp(min=0)], -1)
    barycentrics = shares.gather(2, corners[right.clamp(min=0)])
    source = Fragments(
        torch.cat([left.triangle, torch.where(right >= 0, right + len(faces), -1)], dim=1),
        torch.cat([left.barycentrics, shares], dim=1),
        torch.cat([left.depth, left.depth[:, : width // 2].flip(1)], dim=1),
    )
    triangle = torch.cat([left.triangle, triangle], dim=1)
    barycentrics = torch.cat([left.barycentrics, barycentrics], dim=1)
    return source, triangle, barycentrics


def _mirror_triangles(faces: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
    """([F], [F, 3]): each triangle's mirrored one, and for that one's corners which corner of the triangle mirrors.

    Vertex indices are below 2 million. Raises `BadGeometry` where a triangle has no mirrored one.
    """
    ordered, order = faces.sort(dim=1)
    reflected, reflected_order = mirror[faces].sort(dim=1)
    count, (a, b, c) = int(faces.max()) + 1, torch.cat([ordered, reflected]).unbind(dim=1)
    _, group = ((a * count + b) * count + c).unique(return_inverse=True)  # many times as fast to sort as rows
    owner = torch.full((int(group.max()) + 1,), -1)
    owner[group[: len(faces)]] = torch.arange(len(faces))
    partner = owner[group[len(faces) :]]
    if bool((partner < 0).any()):
        raise BadGeometry(f"triangle {int((partner < 0).nonzero()[0])} has no mirrored one; mend Topology.mirror.")
    rank = order.argsort(dim=1)[partner]
    return partner, reflected_order.gather(1, rank)
