"""Texels lie where the texture coordinates say, and a mirrored face bakes to the mirrored texels, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from synthetic import SHAPE, head, mirrored_head
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.mesh import vertex_normals
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Rasteriser
from ostec.types import Fragments, Reconstruction, Texels

FLIP = torch.tensor([-1.0, 1.0, 1.0])
WITHOUT_MIRROR = replace(SHAPE, mirror=None)


def uneven_head() -> Reconstruction:
    face = head(20.0)
    generator = torch.Generator().manual_seed(4)
    return replace(face, vertices=face.vertices + 1e-3 * torch.randn(face.vertices.shape, generator=generator))


def carried(texels: Texels, values: Tensor, faces: Tensor) -> Tensor:
    """What `values` [V, C] are at each texel by its triangle and barycentrics, 0 off the chart."""
    corners = values[faces[texels.triangle.clamp(min=0)]]
    return (corners * texels.barycentrics[..., None]).sum(dim=2) * (texels.triangle >= 0)[..., None]


@pytest.mark.parametrize("topology", [SHAPE, WITHOUT_MIRROR], ids=["mirror", "no mirror"])
@pytest.mark.parametrize("size", [(64, 96), (70, 63)])
def test_texture_coordinates_of_a_texel_are_its_centre(size: tuple[int, int], topology) -> None:
    texels = bake_texels(replace(head(), topology=topology), size, rasterise)
    uv = carried(texels, topology.uv, topology.uv_faces)
    i, j = texels.inside.nonzero().T
    expected = torch.stack([(j + 0.5) / size[1], (i + 0.5) / size[0]], dim=1)
    assert len(i) > 0.85 * size[0] * size[1]
    assert (uv[texels.inside] - expected).abs().max() < 1e-4


@pytest.mark.parametrize("topology", [SHAPE, WITHOUT_MIRROR], ids=["mirror", "no mirror"])
@pytest.mark.parametrize("size", [(64, 96), (70, 63)])
def test_points_and_normals_lie_on_the_triangle(size: tuple[int, int], topology) -> None:
    face = replace(uneven_head(), topology=topology)
    texels = bake_texels(face, size, rasterise)
    normals = carried(texels, vertex_normals(face.vertices, topology.faces), topology.faces)
    on = texels.triangle >= 0
    off_middle = on.clone()
    if size[1] % 2 and topology.mirror is not None:
        off_middle[:, size[1] // 2] = False
    assert torch.allclose(
        texels.points[off_middle], carried(texels, face.vertices, topology.faces)[off_middle], atol=1e-6
    )
    assert torch.allclose(
        texels.normals[off_middle], torch.nn.functional.normalize(normals, dim=-1)[off_middle], atol=1e-5
    )
    assert torch.allclose(texels.normals[on].norm(dim=-1), torch.ones(int(on.sum())), atol=1e-5)
    assert torch.allclose(texels.barycentrics[on].sum(dim=-1), torch.ones(int(on.sum())), atol=1e-5)
    assert (texels.points[~on] == 0).all() and (texels.normals[~on] == 0).all()


@pytest.mark.parametrize("size", [(64, 96), (70, 63)])
def test_a_mirrored_face_bakes_to_mirrored_texels(size: tuple[int, int]) -> None:
    face = uneven_head()
    texels, mirrored = (bake_texels(f, size, rasterise) for f in (face, mirrored_head(face)))
    assert torch.equal(texels.inside.flip(1), texels.inside)
    assert torch.equal(mirrored.points, texels.points.flip(1) * FLIP)
    assert torch.equal(mirrored.normals, texels.normals.flip(1) * FLIP)


def test_the_chart_is_mirror_symmetric() -> None:
    texels = bake_texels(head(), (64, 96), rasterise)
    faces, mirror = SHAPE.faces, SHAPE.mirror
    assert mirror is not None
    on = texels.triangle >= 0
    assert torch.equal(on, on.flip(1))
    weights = torch.zeros(int(on.sum()), len(SHAPE.paintable))
    weights.scatter_add_(1, faces[texels.triangle[on]], texels.barycentrics[on])
    there = on.flip(1)
    mirrored = torch.zeros_like(weights)
    mirrored.scatter_add_(1, mirror[faces[texels.triangle.flip(1)[there]]], texels.barycentrics.flip(1)[there])
    assert torch.equal(weights, mirrored)


def test_inside_is_where_all_corners_are_paintable() -> None:
    paintable = torch.ones_like(SHAPE.paintable)
    paintable[SHAPE.uv[:, 1] < 0.4] = False
    texels = bake_texels(replace(head(), topology=replace(SHAPE, paintable=paintable)), (64, 64), rasterise)
    rows = texels.inside.any(dim=1).nonzero()[:, 0]
    assert 0.38 < float(rows.min()) / 64 < 0.44
    assert (texels.triangle[10:20, 20:40] >= 0).all() and not texels.inside[10:20].any()


def test_the_chart_is_drawn_once_per_topology() -> None:
    class Counting:
        calls = 0

        def __call__(self, points_clip: Tensor, faces: Tensor, size: tuple[int, int]) -> Fragments:
            self.calls += 1
            return rasterise(points_clip, faces, size)

    draw, face = Counting(), head()
    counted: Rasteriser = draw
    first = bake_texels(face, (32, 32), counted)
    second = bake_texels(replace(face, vertices=face.vertices * 2), (32, 32), counted)
    assert draw.calls == 1 and torch.allclose(second.points, 2 * first.points, atol=1e-6)
    bake_texels(replace(face, topology=replace(face.topology, uv=face.topology.uv.clone())), (32, 32), counted)
    assert draw.calls == 2


def test_a_mirror_map_that_does_not_fit_is_named() -> None:
    wrong = replace(SHAPE, mirror=torch.arange(len(SHAPE.paintable)).roll(1))
    with pytest.raises(BadGeometry, match="mirror"):
        bake_texels(replace(head(), topology=wrong), (32, 32), rasterise)
