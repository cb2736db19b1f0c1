"""Eyeballs painted from a picture of known eyes: gaze, colours, what is hidden, what is shut."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.mesh import sphere
from ostec.texture.eyes import IRIS_RADIUS_M, find_iris, painted_eyes

CENTRE, RADIUS_M = torch.tensor([0.03, 0.035, 0.08]), 0.0155
BLUE, BLACK, WHITE = torch.tensor([0.2, 0.35, 0.6]), torch.tensor([0.05, 0.05, 0.05]), torch.tensor([0.8, 0.78, 0.76])


def ball(count: int = 6000) -> Tensor:
    """[N, 3] directions all around, evenly (a Fibonacci lattice)."""
    index = torch.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + 5**0.5) * index
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], dim=1)


def gaze(across_deg: float, up_deg: float) -> Tensor:
    across, up = math.radians(across_deg), math.radians(up_deg)
    return torch.tensor([math.sin(across) * math.cos(up), math.sin(up), math.cos(across) * math.cos(up)])


def true_colours(directions: Tensor, towards: Tensor) -> Tensor:
    away = torch.acos((directions @ towards).clamp(-1, 1)) * RADIUS_M / IRIS_RADIUS_M
    iris = torch.where(away[:, None] < 0.35, BLACK, BLUE)
    return torch.where(away[:, None] < 1, iris, WHITE)


def between_lids(directions: Tensor) -> Tensor:
    return ((directions[:, 2] > 0.5) & (directions[:, 1].abs() < 0.3)).float()


def test_a_sphere_is_found_through_a_part_of_it() -> None:
    points = CENTRE + RADIUS_M * ball(500)[:60]
    centre, radius = sphere(points)
    assert torch.allclose(centre, CENTRE, atol=1e-5)
    assert radius == pytest.approx(RADIUS_M, abs=1e-5)


@pytest.mark.parametrize(("across", "up"), [(0.0, 0.0), (20.0, 0.0), (-15.0, 8.0), (6.0, -12.0)])
def test_the_gaze_is_found(across: float, up: float) -> None:
    directions = ball()[between_lids(ball()) > 0]
    found = find_iris(directions, true_colours(directions, gaze(across, up)).mean(dim=1), IRIS_RADIUS_M / RADIUS_M)
    assert found is not None
    assert math.degrees(math.acos(min(1.0, float(found[0] @ gaze(across, up))))) < 4.5


def test_lids_hold_no_iris() -> None:
    directions = ball()[between_lids(ball()) > 0]
    skin = 0.6 + 0.02 * torch.randn(len(directions))
    assert find_iris(directions, skin, IRIS_RADIUS_M / RADIUS_M) is None


def paint(trusts: tuple[Tensor, Tensor], colours: tuple[Tensor, Tensor]) -> list[Tensor]:
    centres = CENTRE * torch.tensor([-1.0, 1, 1]), CENTRE
    points = [centre + RADIUS_M * ball() for centre in centres]
    return painted_eyes(points, points, colours, trusts, 1.0)


def test_what_is_seen_stays_and_the_rest_of_iris_and_sclera_matches() -> None:
    towards = gaze(10, 0)
    truth, trust = true_colours(ball(), towards), between_lids(ball())
    photo = torch.where(trust[:, None] > 0, truth, torch.tensor([0.7, 0.5, 0.4]))  # lids elsewhere
    for painted in paint((trust, trust), (photo, photo)):
        assert torch.equal(painted[trust > 0], truth[trust > 0])
        error = (painted - truth).abs().mean(dim=1)
        hidden = (trust == 0) & (ball()[:, 2] > 0.3)
        assert float(error[hidden].median()) < 0.04
        iris = torch.acos((ball() @ towards).clamp(-1, 1)) * RADIUS_M / IRIS_RADIUS_M
        under_lids = hidden & (iris < 0.9) & (iris > 0.5)
        assert under_lids.any()
        assert (painted[under_lids] - BLUE).abs().max() < 0.06
        behind = painted[ball()[:, 2] < -0.5]
        assert behind.min() > 0.7
        assert (behind.amax(dim=1) - behind.amin(dim=1)).max() < 0.1


def test_an_eye_that_is_hidden_takes_after_the_other() -> None:
    towards = gaze(-12, 5)
    truth, trust = true_colours(ball(), towards), between_lids(ball())
    nothing, wrong = torch.zeros_like(trust), torch.zeros_like(truth)
    hidden, seen = paint((nothing, trust), (wrong, truth))
    assert (hidden - seen).abs().mean() < 0.02


def test_shut_eyes_look_like_their_lids() -> None:
    skin = torch.tensor([0.7, 0.5, 0.4]).expand(len(ball()), 3)
    for painted in paint((between_lids(ball()), between_lids(ball())), (skin, skin)):
        assert torch.allclose(painted, skin, atol=1e-6)


def test_eyes_of_which_nothing_is_seen_have_pupil_iris_and_white() -> None:
    nothing = torch.zeros(len(ball()))
    for painted in paint((nothing, nothing), (torch.ones(len(ball()), 3), torch.ones(len(ball()), 3))):
        ahead = (ball() @ torch.tensor([0.0, 0, 1])).argmax()
        side = F.normalize(torch.tensor([1.0, 0, 0.5]), dim=0)
        assert painted[ahead].max() < 0.1
        assert painted[(ball() @ side).argmax()].min() > 0.7
