"""Affines and their inverses, and the two standard crops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from synthetic import head, paint
from torch import Tensor

from ostec.errors import BadGeometry
from ostec.geometry.align import (
    ARCFACE_POINTS_PX,
    apply_affine,
    arcface_crop,
    ffhq_crop,
    fit_similarity_2d,
    invert_affine,
)
from ostec.geometry.camera import cropped
from ostec.geometry.raster import rasterise
from ostec.geometry.render import render
from ostec.geometry.sampling import warp

IDENTITY = torch.eye(2, 3)


def compose_affine(second: Tensor, first: Tensor) -> Tensor:
    """[2, 3] float64 affine that applies `first`, then `second`."""
    linear, shift = second[:, :2].double(), second[:, 2:].double()
    return torch.cat([linear @ first[:, :2].double(), linear @ first[:, 2:].double() + shift], dim=1)


def similarity(scale: float, angle_deg: float, x: float, y: float) -> Tensor:
    cos, sin = scale * math.cos(math.radians(angle_deg)), scale * math.sin(math.radians(angle_deg))
    return torch.tensor([[cos, -sin, x], [sin, cos, y]])


similarities = st.builds(
    similarity, st.floats(0.2, 5), st.floats(-180, 180), st.floats(-500, 500), st.floats(-500, 500)
)


def landmarks(eye_left: Tensor, eye_right: Tensor, mouth_left: Tensor, mouth_right: Tensor) -> Tensor:
    """[68, 2] of which only what the FFHQ crop looks at means anything."""
    points = torch.full((68, 2), -1e3)
    points[36:42], points[42:48], points[48], points[54] = eye_left, eye_right, mouth_left, mouth_right
    return points


@given(similarities)
def test_an_affine_and_its_inverse_compose_to_identity(affine: Tensor) -> None:
    inverse = invert_affine(affine)
    for both in (compose_affine(affine, inverse), compose_affine(inverse, affine)):
        assert torch.allclose(both, IDENTITY.double(), atol=1e-3)
    points = torch.rand(20, 2) * 1000
    assert torch.allclose(apply_affine(inverse, apply_affine(affine, points)), points, atol=1e-2)


@given(similarities, similarities)
def test_composition_applies_the_first_first(first: Tensor, second: Tensor) -> None:
    points = torch.rand(20, 2, dtype=torch.float64) * 100
    expected = apply_affine(second, apply_affine(first, points))
    assert torch.allclose(apply_affine(compose_affine(second, first), points), expected, atol=1e-6)


@given(similarities, st.integers(0, 1000))
def test_a_similarity_is_found_again(affine: Tensor, seed: int) -> None:
    points = torch.rand(7, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 100
    assert torch.allclose(fit_similarity_2d(points, apply_affine(affine, points)), affine.double(), atol=1e-4)


def test_the_fit_is_a_least_squares_optimum() -> None:
    source, target, weights = torch.rand(9, 2) * 50, torch.rand(9, 2) * 50, torch.rand(9)
    best = fit_similarity_2d(source, target, weights)

    def misfit(affine: Tensor) -> float:
        return float((weights[:, None] * (apply_affine(affine, source) - target) ** 2).sum())

    assert best[0, 0] == best[1, 1] and best[0, 1] == -best[1, 0]
    for change in (
        similarity(1, 1, 0, 0),
        similarity(1.01, 0, 0, 0),
        similarity(1, 0, 0.3, 0),
        similarity(1, 0, 0, -0.3),
    ):
        assert misfit(compose_affine(change, best)) > misfit(best)


def test_points_without_weight_do_not_count() -> None:
    source = torch.rand(6, 2) * 10
    target = apply_affine(similarity(2, 30, 5, 6), source)
    target[5] = 1e4
    weights = torch.tensor([1.0, 2, 3, 1, 1, 0])
    assert torch.allclose(fit_similarity_2d(source, target, weights), similarity(2, 30, 5, 6), atol=1e-3)


@pytest.mark.parametrize("bad", [torch.zeros(5, 2), torch.full((5, 2), torch.nan)])
def test_points_that_coincide_are_named(bad: Tensor) -> None:
    with pytest.raises(BadGeometry, match="coincide"):
        fit_similarity_2d(bad, torch.rand(5, 2))
    with pytest.raises(BadGeometry, match="coincide"):
        ffhq_crop(landmarks(bad[0], bad[0], bad[0], bad[0]), 256)


@given(similarities)
def test_the_ffhq_crop_puts_eyes_and_mouth_where_the_formula_says(pose: Tensor) -> None:
    eyes_px, mouth_px = 60.0, 66.0  # mouth 66 px under the eyes: 2.0 · 60 > 1.8 · 66, so half the side is 120 px
    upright = torch.tensor([[170.0, 200.0], [230.0, 200.0], [175.0, 266.0], [225.0, 266.0]])
    left, right, mouth_left, mouth_right = apply_affine(pose, upright)
    crop = ffhq_crop(landmarks(left, right, mouth_left, mouth_right), 1024)
    centre, scale = torch.tensor([200.0, 200.0 + 0.1 * mouth_px]), 1024 / (4 * eyes_px)
    expected = (upright - centre) * scale + 512
    assert torch.allclose(apply_affine(crop, apply_affine(pose, upright)), expected, atol=0.05)


def test_the_ffhq_crop_measures_by_the_mouth_of_a_turned_face() -> None:
    points = landmarks(*torch.tensor([[190.0, 200.0], [210.0, 200.0], [195.0, 300.0], [205.0, 300.0]]))
    corners = apply_affine(invert_affine(ffhq_crop(points, 512)), torch.tensor([[0.0, 0.0], [512.0, 512.0]]))
    assert torch.allclose(corners, torch.tensor([[20.0, 30.0], [380.0, 390.0]]), atol=1e-3)


@given(similarities)
def test_the_arcface_crop_undoes_any_pose(pose: Tensor) -> None:
    crop = arcface_crop(apply_affine(pose, ARCFACE_POINTS_PX))
    assert torch.allclose(compose_affine(crop, pose), IDENTITY.double(), atol=2e-2)


def test_a_crop_folded_into_the_camera_is_the_warped_picture() -> None:
    face, texture = head(25.0, size=512), paint(256)
    crop = ffhq_crop(face.landmarks.points_px, 200)
    picture, covered = render(face, texture, face.camera, rasterise)
    direct, direct_covered = render(face, texture, cropped(face.camera, crop, (200, 200)), rasterise)
    warped = warp(torch.cat([picture, covered[None].float()]), crop, (200, 200))
    both = direct_covered & (warped[3] > 0.999)
    assert both.float().mean() > 0.35
    error = (direct - warped[:3])[:, both].abs()  # large only where a silhouette crosses the face
    assert error.mean() < 0.002 and error.quantile(0.99) < 0.01
    assert (direct_covered.float() - warped[3]).abs().mean() < 0.005
