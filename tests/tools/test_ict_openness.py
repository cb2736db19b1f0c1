"""How much light reaches a vertex, on shapes for which the answer is known."""

from __future__ import annotations

import math

import pytest
import torch
import trimesh
from ict_openness import directions, seen_share


def test_directions_are_even() -> None:
    toward = directions()
    assert torch.allclose(toward.norm(dim=1), torch.ones(len(toward)))
    assert torch.allclose(toward.T @ toward / len(toward), torch.eye(3) / 3, atol=1e-3)


def test_a_ball_is_open_outside_and_dark_inside() -> None:
    ball = trimesh.creation.icosphere(3, radius=0.1)
    vertices, faces = torch.tensor(ball.vertices).float(), torch.tensor(ball.faces)
    assert float(seen_share(vertices, faces).min()) > 0.95
    assert float(seen_share(vertices, faces.flip(1)).max()) < 0.05


@pytest.mark.parametrize("depth", [0.5, 1.0, 2.0])
def test_the_bottom_of_a_pit_sees_its_mouth(depth: float) -> None:
    """A disc of radius r, h away and in front: r² / (r² + h²) of a cosine-weighted sky."""
    count, radius = 64, 0.05
    angle = torch.arange(count) * (2 * math.pi / count)
    ring = radius * torch.stack([angle.cos(), angle.sin(), torch.zeros(count)], dim=1)
    rim = ring + torch.tensor([0.0, 0.0, depth * radius])
    at, after = torch.arange(count), torch.arange(count).roll(-1)
    floor = torch.stack([torch.full((count,), 2 * count), at, after], dim=1)
    wall = torch.cat([torch.stack([at, at + count, after], 1), torch.stack([after, at + count, after + count], 1)])
    share = seen_share(torch.cat([ring, rim, torch.zeros(1, 3)]), torch.cat([floor, wall]))
    assert float(share[-1]) == pytest.approx(1 / (1 + depth**2), abs=0.04)
