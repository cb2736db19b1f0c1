"""Landmarks of portraits: those of the fit, at any size, with a gradient."""

from __future__ import annotations

import pytest
import torch

from ostec.files.photos import load_photo
from ostec.geometry.align import apply_affine, ffhq_crop
from ostec.geometry.sampling import warp
from ostec.heads.facemesh import load_facemesh_model
from ostec.landmarks.facemesh_landmarks import IBUG_POINTS, load_mesh_landmarks
from ostec.registry.components import build, demo_photo


@pytest.mark.parametrize("size", [64, 192, 512])
def test_landmarks_are_those_of_the_fit(size: int) -> None:
    photo = load_photo(demo_photo())
    face = build("reconstructor", "mediapipe")(photo, build("detector", "mediapipe")(photo)[0])
    crop = ffhq_crop(face.landmarks.points_px, size)
    picture = warp(photo.rgb, crop, (size, size))[None].requires_grad_()
    net = load_mesh_landmarks()
    points = net(picture)
    wanted = apply_affine(crop, face.landmarks.points_px)
    assert float((points[0] - wanted).norm(dim=1).mean()) < 0.02 * size
    (gradient,) = torch.autograd.grad((points - wanted).square().sum(), picture)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0
    assert not any(p.requires_grad for p in net.parameters())


def test_the_landmarks_are_those_of_the_head() -> None:
    assert load_facemesh_model().topology.landmark_vertices.tolist() == list(IBUG_POINTS)
