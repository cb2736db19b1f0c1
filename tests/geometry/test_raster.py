"""The rasteriser against its slow twin, against a ray tracer that shares nothing with it, and against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from raster_reference import rasterise_reference
from synthetic import head
from torch import Tensor
from trimesh import Trimesh
from trimesh.creation import icosphere
from trimesh.ray.ray_pyembree import RayMeshIntersector

from ostec.errors import BadGeometry
from ostec.geometry.camera import cropped, rotation, to_camera, to_clip
from ostec.geometry.raster import interpolate, rasterise
from ostec.types import Camera, Fragments


def flat(points_px: Tensor, depth: float | Tensor = 0.0) -> Tensor:
    """[V, 4] clip coordinates of points drawn in the picture."""
    clip = torch.ones(len(points_px), 4)
    clip[:, :2], clip[:, 2] = points_px, depth
    return clip


def soup(count: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Triangles anywhere, with perspective, some of them behind the camera."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(3 * count, 2, generator=generator) * 1.6 * size - 0.3 * size
    w = torch.rand(3 * count, 1, generator=generator) * 2 - 0.05
    depth = torch.rand(3 * count, 1, generator=generator)
    return torch.cat([corners * w, depth * w, w], dim=1), torch.arange(3 * count).view(-1, 3)


@given(st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_agrees_with_the_slow_twin(count: int, seed: int) -> None:
    clip, faces = soup(count, 40, seed)
    fast, slow = rasterise(clip, faces, (40, 48)), rasterise_reference(clip, faces, (40, 48))
    assert torch.equal(fast.triangle, slow.triangle)
    hit = fast.triangle >= 0
    assert torch.allclose(fast.depth[hit], slow.depth[hit], atol=1e-6)
    assert torch.allclose(fast.barycentrics, slow.barycentrics, atol=1e-5)
    assert torch.isinf(fast.depth[~hit]).all() and (fast.barycentrics[~hit] == 0).all()


def test_agrees_with_the_slow_twin_on_a_mesh() -> None:
    face = head(30.0, 10.0, size=96, perspective=True)
    clip = to_clip(face.vertices, face.camera)
    faces = face.topology.faces[::10]  # with gaps, through which the far side shows
    fast, slow = (draw(clip, faces, (96, 96)) for draw in (rasterise, rasterise_reference))
    assert torch.equal(fast.triangle, slow.triangle)


def referee(vertices: Tensor, faces: Tensor, camera: Camera) -> Tensor:
    """[H, W] the triangle that a ray through each pixel centre hits first, by Embree."""
    mesh = Trimesh(to_camera(vertices, camera).double().numpy(), faces.numpy(), process=False)
    y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in camera.size), indexing="ij")
    centres = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ np.linalg.inv(camera.K.double().numpy()).T
    if camera.model == "perspective":
        origins, directions = np.zeros_like(centres), centres
    else:
        origins, directions = centres * [1, 1, 0], np.zeros_like(centres) + [0, 0, 1]
    hit = RayMeshIntersector(mesh).intersects_first(origins, directions)
    return torch.from_numpy(np.asarray(hit)).view(camera.size).long()


@pytest.mark.parametrize("model", ["perspective", "orthographic"])
@pytest.mark.parametrize("shape", ["sphere", "head"])
def test_a_ray_tracer_sees_the_same_triangles(shape: str, model: str) -> None:
    face = head(size=600, perspective=model == "perspective")
    vertices, faces = face.vertices, face.topology.faces
    if shape == "sphere":
        mesh = icosphere(subdivisions=5, radius=0.1)
        vertices, faces = torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces).long()
    camera = replace(face.camera, R=rotation(17, 38, 9))
    seen = rasterise(to_clip(vertices, camera), faces, camera.size).triangle
    expected = referee(vertices, faces, camera)
    assert (expected >= 0).float().mean() > 0.15
    assert (seen == expected).float().mean() >= 0.9999


@given(st.integers(0, 10**6), st.sampled_from([1.0, 0.5, 0.25, 0.01]))
@settings(max_examples=20, deadline=None)
def test_neighbours_leave_no_crack_and_no_overlap(seed: int, grain: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    cells, size = 4, 30
    y, x = torch.meshgrid(*(torch.linspace(-1, size + 1, cells + 1),) * 2, indexing="ij")
    points = torch.stack([x, y], dim=-1)
    points[1:-1, 1:-1] += (torch.rand(cells - 1, cells - 1, 2, generator=generator) - 0.5) * 2
    points = (points / grain).round() * grain  # many vertices and edges fall exactly on pixel centres
    index = torch.arange((cells + 1) ** 2).view(cells + 1, cells + 1)
    a, b, c, d = (t.flatten() for t in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    faces = torch.cat([torch.stack([a, c, b], dim=1), torch.stack([c, b, d], dim=1)])
    clip = flat(points.view(-1, 2))
    layers = torch.stack([rasterise(clip, face[None], (size, size)).triangle >= 0 for face in faces]).sum(dim=0)
    assert torch.equal(layers, torch.ones(size, size, dtype=torch.long))


def test_a_square_covers_the_pixels_whose_centres_it_holds() -> None:
    square = flat(torch.tensor([[1.0, 1.0], [5.0, 1.0], [5.0, 3.0], [1.0, 3.0]]))
    seen = rasterise(square, torch.tensor([[0, 1, 2], [0, 2, 3]]), (5, 7)).triangle >= 0
    expected = torch.zeros(5, 7, dtype=torch.bool)
    expected[1:3, 1:5] = True
    assert torch.equal(seen, expected)


def test_both_sides_are_drawn_and_the_nearer_wins() -> None:
    corners = torch.tensor([[-9.0, -9.0], [40.0, -9.0], [-9.0, 40.0]]).repeat(3, 1)
    depth = torch.tensor([2.0, 1.0, 3.0]).repeat_interleave(3)
    faces = torch.tensor([[0, 1, 2], [3, 5, 4], [6, 7, 8]])
    fragments = rasterise(flat(corners, depth), faces, (8, 8))
    assert (fragments.triangle == 1).all() and (fragments.depth == 1).all()


def test_equally_near_triangles_are_seen_in_their_order() -> None:
    corners = torch.tensor([[-9.0, -9.0], [40.0, -9.0], [-9.0, 40.0]]).repeat(2, 1)
    fragments = rasterise(flat(corners), torch.tensor([[3, 4, 5], [0, 1, 2]]), (8, 8))
    assert (fragments.triangle == 0).all()


def test_interpolation_is_right_in_perspective() -> None:
    face = head(35.0, size=128, perspective=True)
    camera = replace(face.camera, t=face.camera.t * 0.35)  # very near, so that perspective matters
    camera = cropped(camera, torch.tensor([[0.35, 0, 41.0], [0, 0.35, 41.0]]), (128, 128))
    fragments = rasterise(to_clip(face.vertices, camera), face.topology.faces, camera.size)
    points = interpolate(fragments, face.vertices, face.topology.faces)
    hit = fragments.triangle >= 0
    clip = to_clip(points[hit], camera)
    row, column = hit.nonzero().T
    centres = torch.stack([column, row], dim=1) + 0.5
    assert hit.float().mean() > 0.2
    assert (clip[:, :2] / clip[:, 3:] - centres).abs().max() < 2e-3
    assert (clip[:, 2] / clip[:, 3] - fragments.depth[hit]).abs().max() < 2e-5


def test_interpolate_agrees_with_a_gather() -> None:
    clip, faces = soup(30, 40, 5)
    attributes, indices = torch.rand(17, 5), torch.randint(17, (30, 3))
    fragments = rasterise(clip, faces, (40, 48))
    corners = attributes[indices[fragments.triangle.clamp(min=0)]]
    expected = (corners * fragments.barycentrics[..., None]).sum(dim=2)
    assert torch.allclose(interpolate(fragments, attributes, indices), expected, atol=1e-6)


def test_the_number_of_threads_does_not_matter() -> None:
    face = head(30.0, size=256)
    clip = to_clip(face.vertices, face.camera)
    before = torch.get_num_threads()
    answers: list[Fragments] = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        answers.append(rasterise(clip, face.topology.faces, (256, 256)))
    torch.set_num_threads(before)
    for other in answers[1:]:
        assert torch.equal(other.triangle, answers[0].triangle) and torch.equal(other.depth, answers[0].depth)
        assert torch.equal(other.barycentrics, answers[0].barycentrics)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_broken_vertices_cost_only_their_triangles(broken: float, which: int) -> None:
    corners = torch.tensor([[-9.0, -9.0], [40.0, -9.0], [-9.0, 40.0]]).repeat(2, 1)
    clip = flat(corners)
    clip[1, which] = broken
    fragments = rasterise(clip, torch.tensor([[0, 1, 2], [3, 4, 5]]), (8, 8))
    assert (fragments.triangle == 1).all()


def test_far_away_vertices_are_no_problem() -> None:
    clip = flat(torch.tensor([[-1e30, -1e30], [1e30, -1e30], [0.0, 1e30]]))
    assert rasterise(clip, torch.tensor([[0, 1, 2]]), (4, 4)).triangle.shape == (4, 4)


def test_nothing_to_draw() -> None:
    fragments = rasterise(torch.zeros(0, 4), torch.zeros(0, 3, dtype=torch.long), (3, 4))
    assert (fragments.triangle == -1).all() and torch.isinf(fragments.depth).all()


@pytest.mark.parametrize(
    ("clip", "faces", "size", "what"),
    [
        (torch.zeros(3, 3), [[0, 1, 2]], (4, 4), "points_clip"),
        (torch.zeros(3, 4), [[0, 1]], (4, 4), "faces is"),
        (torch.zeros(3, 4), [[0, 1, 3]], (4, 4), "3 vertices"),
        (torch.zeros(3, 4), [[0, 1, -1]], (4, 4), "3 vertices"),
        (torch.zeros(3, 4), [[0, 1, 2]], (0, 4), "0 x 4"),
    ],
)
def test_contradictions_are_named(clip: Tensor, faces: list, size: tuple[int, int], what: str) -> None:
    with pytest.raises(BadGeometry, match=what):
        rasterise(clip, torch.tensor(faces), size)
