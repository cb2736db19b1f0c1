"""Nearest points: the tree agrees with looking at every triangle, and knows limits and rims."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ostec.geometry.closest import Surface
from ostec.geometry.mesh import face_normals, vertex_normals, welded

SQUARE = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
HALVES = torch.tensor([[0, 1, 2], [0, 2, 3]])
UP, ANY = torch.tensor([[0.0, 0, 1]]), -1.0


def soup(triangles: int) -> tuple[Tensor, Tensor]:
    """Triangles of all sizes, some of them needles, one without an area."""
    centres, size = torch.rand(triangles, 1, 3), 10 ** -(3 * torch.rand(triangles, 1, 1))
    corners = centres + size * torch.randn(triangles, 3, 3)
    corners[0] = corners[0, :1]
    corners[1, 2] = (corners[1, 0] + corners[1, 1]) / 2 + 1e-6
    return corners.reshape(-1, 3), torch.arange(3 * triangles).view(-1, 3)


def slowly(points: Tensor, normals: Tensor, surface: Surface, reach: float, least_cosine: float) -> list[float]:
    """Distance by distance: by projection onto each triangle's plane where that lies within, else onto its sides."""
    nearest = []
    for p, n in zip(points.double().numpy(), normals.double().numpy(), strict=True):
        best = np.inf
        triangles = surface.vertices[surface.faces].numpy()
        for corners, facing in zip(triangles, surface.normals.numpy(), strict=True):
            if facing @ n < least_cosine:
                continue
            sides = [(corners[k], corners[(k + 1) % 3]) for k in range(3)]
            flat = p - ((p - corners[0]) @ facing) * facing
            within = facing.any() and all(np.cross(b - a, flat - a) @ facing >= 0 for a, b in sides)
            feet = [flat] if within else []
            for a, b in sides:
                along = b - a
                length = along @ along
                feet.append(a + along * (np.clip((p - a) @ along / length, 0, 1) if length else 0))
            best = min(best, *(float(np.linalg.norm(p - foot)) for foot in feet))
        nearest.append(best if best < reach else np.inf)
    return nearest


@pytest.mark.parametrize(("reach", "least_cosine"), [(10.0, ANY), (0.2, ANY), (10.0, 0.5), (0.15, 0.3)])
def test_the_tree_finds_what_looking_at_every_triangle_finds(reach: float, least_cosine: float) -> None:
    vertices, faces = soup(60)
    surface = Surface(vertices, faces)
    points, normals = 1.5 * torch.rand(80, 3), torch.nn.functional.normalize(torch.randn(80, 3), dim=1)
    hits = surface.nearest(points, normals, reach, least_cosine)
    expected = torch.tensor(slowly(points, normals, surface, reach, least_cosine), dtype=torch.float64)
    assert torch.equal(hits.found, expected.isfinite())
    assert int(hits.found.sum()) > 0
    assert torch.allclose(hits.distance, expected, atol=1e-9)
    at = hits.interpolate(surface.vertices, surface.faces)[hits.found]
    assert torch.allclose((at - points[hits.found]).norm(dim=1), hits.distance[hits.found], atol=1e-9)
    facing = (surface.normals[hits.triangle] * normals).sum(dim=1)[hits.found]
    assert bool((facing >= least_cosine - 1e-12).all())


def test_the_answer_does_not_depend_on_the_number_of_threads() -> None:
    vertices, faces = soup(200)
    surface = Surface(vertices, faces)
    points, normals = torch.rand(5000, 3), torch.zeros(5000, 3)
    threads = torch.get_num_threads()
    answers = []
    for count in (1, 3):
        torch.set_num_threads(count)
        answers.append(surface.nearest(points, normals, 1.0, ANY))
    torch.set_num_threads(threads)
    for field in ("triangle", "barycentrics", "distance"):
        assert torch.equal(getattr(answers[0], field), getattr(answers[1], field))


def test_known_answers_on_a_square() -> None:
    surface = Surface(SQUARE, HALVES)
    points = torch.tensor([[0.75, 0.25, 0.1], [0.25, 0.75, -0.2], [2.0, 0.5, 0.0], [-1.0, -1.0, 0.0]])
    hits = surface.nearest(points, UP.expand(4, 3), 5.0, ANY)
    assert hits.triangle[:2].tolist() == [0, 1]
    at = torch.tensor([[0.75, 0.25, 0], [0.25, 0.75, 0], [1, 0.5, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(hits.interpolate(surface.vertices, surface.faces), at, atol=1e-12)
    assert surface.at_rim(hits).tolist() == [False, False, True, True]
    assert not bool(surface.nearest(points, -UP.expand(4, 3), 5.0, 0.1).found.any())


def test_an_inner_edge_is_no_rim_and_a_seam_no_edge() -> None:
    doubled = torch.cat([SQUARE, SQUARE[[0, 2]]])
    split = torch.tensor([[0, 1, 2], [4, 5, 3]])
    middle, beside = torch.tensor([[0.5, 0.5, 0.3]]), torch.tensor([[0.5, -0.2, 0]])
    for faces, is_rim in ((welded(doubled, split), False), (split, True)):
        surface = Surface(doubled, faces)
        assert bool(surface.at_rim(surface.nearest(middle, UP, 1.0, ANY))) is is_rim
        assert bool(surface.at_rim(surface.nearest(beside, UP, 1.0, ANY)))
    assert torch.equal(welded(doubled, split), HALVES)


def test_welded_vertices_carry_the_normals_of_the_whole() -> None:
    vertices, faces = soup(4)
    once = vertex_normals(torch.cat([SQUARE, SQUARE]), welded(torch.cat([SQUARE, SQUARE]), HALVES + 4))
    assert torch.equal(once[:4], UP.expand(4, 3)) and not bool(once[4:].any())
    assert torch.equal(face_normals(vertices, welded(vertices, faces)), face_normals(vertices, faces))
