"""The texture of one mesh transferred to another of any topology, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadGeometry, BadSettings
from ostec.geometry.closest import Surface
from ostec.geometry.mesh import inside_out, welded
from ostec.geometry.raster import rasterise
from ostec.geometry.registration import register_nonrigidly, similarity_onto
from ostec.geometry.sampling import sample
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Detector, Reconstructor
from ostec.mesh_transfer.find import find_points
from ostec.mesh_transfer.result import TransferResult
from ostec.texture.fill import push_pull
from ostec.types import Mesh, Shape, Texels, Topology

LEAST_TEXTURE_PX, MOST_TEXTURE_PX = 16, 8192
_REACH_M, _LEAST_COSINE = 0.006, 0.26
"""Largest distance of a texel's counterpart from the registered target, and least cosine between normals (75°)."""
_ON_RIM_M = 0.0005
_LEAST_COVERAGE = 0.01
_SPREAD_M = 0.05
"""Assumed root mean square distance of given points from their mean; about that of FaceMesh's points."""


class Pairs(NamedTuple):
    """Corresponding points on both meshes, each in its own frame and unit."""

    source: Tensor
    """[N, 3] float64."""
    target: Tensor
    """[N, 3] float64."""
    weights: Tensor
    """[N] float64 >= 0."""
    upright_source: Tensor
    """[N, 3] float64: the source's in the head frame, metres."""
    upright_target: Tensor
    """[N, 3] float64: the target's in the head frame, metres."""


@torch.no_grad()
def transfer_texture(source: Mesh, target: Mesh, pairs: Pairs, size_px: int) -> TransferResult:
    """The source's texture in the target's UV layout. Raises `BadGeometry`, `BadSettings`."""
    if not LEAST_TEXTURE_PX <= size_px <= MOST_TEXTURE_PX:
        raise BadSettings(f"texture_size is {size_px}; choose {LEAST_TEXTURE_PX} to {MOST_TEXTURE_PX}.")
    if source.rgb is None:
        raise BadGeometry(f"{source.name}: has no texture. Give an OBJ with its MTL and picture, or a GLB.")
    upright = similarity_onto(pairs.source, pairs.upright_source, pairs.weights)
    anchors = upright(pairs.source)
    onto = similarity_onto(pairs.target, anchors, pairs.weights)

    there, here = _moved(source.shape, upright), _moved(target.shape, onto)
    surface = Surface(there.vertices, there.topology.faces)
    used = pairs.weights > 0
    vertices = register_nonrigidly(here.vertices, here.topology.faces, onto(pairs.target)[used], anchors[used], surface)
    texels = bake_texels(Shape(vertices, here.topology), (size_px, size_px), rasterise)
    if not bool(texels.inside.any()):
        raise BadGeometry(f"{target.name}: its UVs lie outside 0..1. Move the face's into the first tile.")
    rgb, coverage = _transferred(there, source.rgb, surface, texels)
    if int(coverage.sum()) < _LEAST_COVERAGE * int(texels.inside.sum()):
        few = f"{target.name}: hardly any of it has a counterpart on {source.name}."
        raise BadGeometry(f"{few} Give corresponding points (--landmarks).")
    painted = replace(target, rgb=push_pull(rgb, coverage.float()))
    upright_target = similarity_onto(pairs.target, pairs.upright_target, pairs.weights)(target.shape.vertices)
    return TransferResult(source, painted, there.vertices, upright_target, coverage, vertices)


def detected_pairs(source: Mesh, target: Mesh, detect: Detector, reconstruct: Reconstructor) -> Pairs:
    """FaceMesh's points on both. Raises `NoFace`."""
    a, b = (find_points(mesh, detect, reconstruct) for mesh in (source, target))
    return Pairs(a.points, b.points, a.weights * b.weights, a.shape, b.shape)


def given_pairs(points: Tensor) -> Pairs:
    """Points [N, 6]: x, y, z on the source, then on the target. They are assumed to be as far apart as those of a
    face, and the source's axes to be the head frame's."""
    source, target = points.double()[:, :3], points.double()[:, 3:]
    off = source - source.mean(dim=0)
    upright = _SPREAD_M * off / off.square().sum(dim=1).mean().sqrt().clamp(min=1e-12)
    return Pairs(source, target, torch.ones(len(points), dtype=torch.float64), upright, upright)


def _moved(shape: Shape, move: Callable[[Tensor], Tensor]) -> Shape:
    """The moved shape, welded at its seams and with its normals outward."""
    topology = replace(shape.topology, faces=welded(shape.vertices, shape.topology.faces))
    if inside_out(shape.vertices, topology.faces):
        topology = replace(topology, faces=topology.faces.flip(1), uv_faces=topology.uv_faces.flip(1))
    return Shape(move(shape.vertices), topology)


def _transferred(shape: Shape, rgb: Tensor, surface: Surface, texels: Texels) -> tuple[Tensor, Tensor]:
    """([3, Hu, Wu] the source's colour at each texel's counterpart, [Hu, Wu] bool whether it has one)."""
    inside, topology = texels.inside, shape.topology
    hits = surface.nearest(texels.points[inside], texels.normals[inside], _REACH_M, _LEAST_COSINE)
    known = hits.found & ~(surface.at_rim(hits) & (hits.distance > _ON_RIM_M))
    uv = hits.interpolate(topology.uv, topology.uv_faces).float()[known]
    uv = torch.where((uv < 0) | (uv > 1), uv - uv.floor(), uv)  # a texture repeats outside 0..1
    coverage = torch.zeros_like(inside)
    coverage[inside] = known
    picture = torch.zeros(3, *inside.shape)
    picture[:, coverage] = sample(_beyond_seams(_reduced(rgb, max(inside.shape)), topology), 2 * uv - 1)
    return picture, coverage


def _beyond_seams(rgb: Tensor, topology: Topology) -> Tensor:
    """Two texels around each chart take the colours on it: files often have black there."""
    height, width = rgb.shape[1:]
    flat = F.pad(topology.uv * torch.tensor([width, height]), (0, 2))
    flat[:, 3] = 1
    known = (rasterise(flat, topology.uv_faces, (height, width)).triangle >= 0).float()[None]
    for _ in range(2):
        mass = F.avg_pool2d(known, 3, 1, 1)
        around = F.avg_pool2d(rgb * known, 3, 1, 1) / mass.clamp(min=1e-6)
        new = (known == 0) & (mass > 0)
        rgb, known = torch.where(new, around, rgb), torch.where(new, 1.0, known)
    return rgb


def _reduced(rgb: Tensor, size_px: int) -> Tensor:
    """Halved until it has less than twice the requested texels across."""
    while min(rgb.shape[1:]) >= 2 * size_px:
        rgb = F.avg_pool2d(rgb, 2)
    return rgb
