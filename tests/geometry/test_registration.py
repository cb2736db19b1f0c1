"""One head onto another: similarities are undone exactly, bends nearly."""

from __future__ import annotations

import pytest
import torch
from synthetic import SHAPE, head
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.camera import rotation
from ostec.geometry.closest import Surface
from ostec.geometry.registration import register_nonrigidly, similarity_onto

HEAD = head().vertices
MARKS = SHAPE.landmark_vertices


def swollen(points: Tensor) -> Tensor:
    """A smooth bend of up to a centimetre."""
    x, y, z = (20 * points).unbind(dim=1)
    return points + 0.005 * torch.stack([torch.sin(y + 1), torch.sin(x + z), torch.cos(x + 0.5 * y)], dim=1)


def test_a_similarity_is_undone() -> None:
    turned = 7.0 * HEAD @ rotation(20.0, 70.0, -130.0).T + torch.tensor([3.0, -2.0, 5.0])
    move = similarity_onto(turned[MARKS], HEAD[MARKS], torch.ones(68))
    assert torch.allclose(move(turned), HEAD, atol=1e-5)


def test_a_mirrored_head_is_not_mirrored_back() -> None:
    flipped = HEAD * torch.tensor([-1.0, 1, 1])
    move = similarity_onto(flipped[MARKS], HEAD[MARKS], torch.ones(68))
    assert float((move(flipped) - HEAD).norm(dim=1).mean()) > 0.01


@pytest.mark.parametrize(
    "points", [torch.zeros(68, 3), torch.linspace(0, 1, 68)[:, None].expand(68, 3), HEAD[MARKS[:3]]]
)
def test_points_that_fix_no_place_are_refused(points: Tensor) -> None:
    with pytest.raises(BadGeometry, match="span the face"):
        similarity_onto(points, HEAD[MARKS[: len(points)]], torch.ones(len(points)))


def test_a_bent_head_comes_to_lie_on_the_other() -> None:
    other = swollen(HEAD)
    surface = Surface(other, SHAPE.faces)
    fitted = register_nonrigidly(HEAD, SHAPE.faces, HEAD[MARKS], other[MARKS], surface)
    off = surface.nearest(fitted, torch.zeros_like(fitted), 1.0, -1.0).distance
    before = surface.nearest(HEAD, torch.zeros_like(HEAD), 1.0, -1.0).distance
    assert float(before.mean()) > 0.002
    assert float(off.mean()) < 0.0004
    assert float((fitted - other).norm(dim=1).median()) < 0.0015
    assert torch.equal(fitted, register_nonrigidly(HEAD, SHAPE.faces, HEAD[MARKS], other[MARKS], surface))


def test_a_part_that_is_not_connected_stays_in_its_place() -> None:
    """An eyeball behind the face moves as the face before it does."""
    ball = HEAD[MARKS[36:42]].mean(dim=0) + 0.005 * torch.randn(50, 3)
    fitted = register_nonrigidly(
        torch.cat([HEAD, ball]), SHAPE.faces, HEAD[MARKS], swollen(HEAD)[MARKS], Surface(swollen(HEAD), SHAPE.faces)
    )
    assert float((fitted[len(HEAD) :] - swollen(ball)).norm(dim=1).max()) < 0.003


def test_points_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(BadGeometry, match="do not correspond"):
        register_nonrigidly(HEAD, SHAPE.faces, HEAD[MARKS], HEAD[MARKS] + 5, Surface(HEAD, SHAPE.faces))
