"""Signs, inverses and projections, stated in words a photographer would use."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ostec.geometry.camera import (
    angles_deg,
    clip_matrix,
    cropped,
    rotation,
    to_camera,
    to_clip,
    to_pixels,
    toward_camera,
)
from ostec.types import Camera

MODELS = ["perspective", "orthographic"]
NOSE = torch.tensor([0.0, 0.0, 0.1])
TOP = torch.tensor([0.0, 0.12, 0.0])
angle = st.floats(-80, 80)


def camera(model: str, pitch_deg: float = 0, yaw_deg: float = 0, roll_deg: float = 0) -> Camera:
    """Looks at the head's centre from 0.6 m and shows it in the middle of 200 x 300 px."""
    focal = 1200.0 if model == "perspective" else 2000.0
    K = torch.tensor([[focal, 0, 150], [0, focal, 100], [0, 0, 1]])
    R = rotation(pitch_deg, yaw_deg, roll_deg)
    return Camera(K, R, torch.tensor([0.0, 0.0, 0.6]), (200, 300), model)  # type: ignore[arg-type]


def random_points(count: int = 50) -> torch.Tensor:
    return (torch.rand(count, 3) - 0.5) * 0.3


@given(angle, angle, st.floats(-179, 179))
def test_angles_undo_rotation(pitch: float, yaw: float, roll: float) -> None:
    R = rotation(pitch, yaw, roll)
    assert angles_deg(R) == pytest.approx((pitch, yaw, roll), abs=2e-3)
    assert torch.allclose(R @ R.T, torch.eye(3), atol=1e-6)
    assert float(torch.linalg.det(R)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_at_zero_pose_left_is_right_and_up_is_up(model: str) -> None:
    middle, subjects_left, up = to_pixels(torch.tensor([[0.0, 0, 0], [0.05, 0, 0], [0, 0.05, 0]]), camera(model))
    assert middle.tolist() == [150, 100]
    assert subjects_left[0] > middle[0] and subjects_left[1] == middle[1]
    assert up[1] < middle[1] and up[0] == middle[0]


@pytest.mark.parametrize("model", MODELS)
def test_signs_of_the_angles(model: str) -> None:
    yawed = to_pixels(NOSE, camera(model, yaw_deg=20))
    assert yawed[0] > 150 and float(yawed[1]) == pytest.approx(100, abs=1e-3)
    pitched = to_pixels(NOSE, camera(model, pitch_deg=20))
    assert pitched[1] > 100 and float(pitched[0]) == pytest.approx(150, abs=1e-3)
    clockwise = to_pixels(TOP, camera(model, roll_deg=20))
    assert clockwise[0] > 150 and clockwise[1] < 100


@given(angle, angle)
def test_yaw_is_the_noses_azimuth_and_pitch_its_elevation(pitch: float, yaw: float) -> None:
    right, down, forward = (rotation(pitch, yaw, 0) @ torch.tensor([0.0, 0.0, 1.0])).tolist()
    assert math.degrees(math.atan2(right, -forward)) == pytest.approx(yaw, abs=1e-3)
    assert math.degrees(math.asin(down)) == pytest.approx(pitch, abs=1e-3)


@given(angle, angle, angle)
def test_mirroring_the_head_negates_yaw_and_roll(pitch: float, yaw: float, roll: float) -> None:
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.allclose(flip @ rotation(pitch, yaw, roll) @ flip, rotation(pitch, -yaw, -roll), atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_clip_coordinates_hold_the_plain_projection(model: str) -> None:
    view, points = camera(model, 10, -30, 5), random_points()
    x, y, z = to_camera(points, view).unbind(-1)
    scale = view.K[0, 0] / (z if model == "perspective" else 1)
    expected = torch.stack([scale * x + 150, scale * y + 100], dim=-1)
    assert torch.allclose(to_pixels(points, view), expected, atol=1e-3)
    clip = to_clip(points, view)
    depth = clip[:, 2] / clip[:, 3]
    assert torch.allclose(depth, 1 - 1 / z if model == "perspective" else z, atol=1e-5)
    homogeneous = torch.cat([points, torch.ones(len(points), 1)], dim=1)
    assert torch.allclose(homogeneous @ clip_matrix(view).T, clip, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_smaller_depth_is_nearer(model: str) -> None:
    view, points = camera(model, 10, -30, 5), random_points()
    clip = to_clip(points, view)
    order = (clip[:, 2] / clip[:, 3]).argsort()
    assert (to_camera(points, view)[order, 2].diff() > -1e-6).all()


@pytest.mark.parametrize("model", MODELS)
def test_depth_is_linear_in_the_picture(model: str) -> None:
    view = camera(model, 10, 40, 0)
    ends = to_clip(torch.tensor([[0.1, 0.0, 0.1], [-0.1, 0.05, -0.1]]), view)
    on_the_line = to_clip(torch.tensor([[0.05, 0.0125, 0.05]]), view)[0]
    (x0, y0, d0), (x1, y1, d1) = (ends[:, :3] / ends[:, 3:]).tolist()
    x, y, depth = (on_the_line[:3] / on_the_line[3]).tolist()
    share = (x - x0) / (x1 - x0)
    assert y == pytest.approx(y0 + share * (y1 - y0), abs=1e-3)
    assert depth == pytest.approx(d0 + share * (d1 - d0), abs=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_toward_camera_points_at_it(model: str) -> None:
    view, points = camera(model, 15, 35, -20), random_points()
    directions = toward_camera(points, view)
    assert torch.allclose(directions.norm(dim=-1), torch.ones(len(points)), atol=1e-5)
    before, after = to_pixels(points, view), to_pixels(points + 0.1 * directions, view)
    assert torch.allclose(before, after, atol=2e-2)
    assert (to_camera(points + 0.1 * directions, view)[:, 2] < to_camera(points, view)[:, 2]).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_crop_moves_the_projection(model: str) -> None:
    view, points = camera(model, 15, 35, -20), random_points()
    crop = torch.tensor([[1.5, -0.4, 20.0], [0.4, 1.5, -70.0]])
    moved = cropped(view, crop, (64, 80))
    assert moved.size == (64, 80)
    assert torch.allclose(to_pixels(points, moved), to_pixels(points, view) @ crop[:, :2].T + crop[:, 2], atol=1e-2)
    assert torch.equal(toward_camera(points, moved), toward_camera(points, view))
