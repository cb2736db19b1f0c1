"""The FaceMesh head: its fit to points, its pose, and that mirroring the points mirrors everything."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ostec.files.photos
from ostec.detection.blazeface import load_detector
from ostec.errors import BadWeights, MissingWeights, NoFace
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import FACING, rotation, to_camera, to_pixels
from ostec.heads import facemesh
from ostec.heads.facemesh import fit_head, load_facemesh_model
from ostec.types import Detection, Photo, Reconstruction

SIZE = (480, 640)
FLIP = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
angles = st.floats(-60, 60)


def posed(face: Tensor, pitch: float, yaw: float, roll: float, px_per_m: float = 1700.0) -> Tensor:
    """[468, 3] px: a face seen under a pose in the middle of a picture of SIZE."""
    rotation64 = rotation(pitch, yaw, roll).double()
    return px_per_m * face.double() @ rotation64.T + torch.tensor([SIZE[1] / 2, SIZE[0] / 2, 0.0], dtype=torch.float64)


def crooked(seed: int = 3, spread_m: float = 0.004) -> Tensor:
    """[468, 3] px: an asymmetric face under an asymmetric pose."""
    noise = torch.randn(468, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return posed(load_facemesh_model().face_mean + spread_m * noise, -12.0, 31.0, 8.0)


@settings(max_examples=30, deadline=None)
@given(angles, angles, angles, st.floats(50, 5000))
def test_the_pose_of_the_mean_shape_is_recovered(pitch: float, yaw: float, roll: float, px_per_m: float) -> None:
    model = load_facemesh_model()
    fit = fit_head(model, posed(model.face_mean, pitch, yaw, roll, px_per_m), 1.0, SIZE)
    assert (fit.pitch_deg, fit.yaw_deg, fit.roll_deg) == pytest.approx((pitch, yaw, roll), abs=1e-3)
    assert fit.camera.K[0, 0].item() == pytest.approx(px_per_m, rel=1e-5)
    assert torch.allclose(fit.vertices[:468], model.face_mean, atol=1e-6)


def test_the_points_of_the_network_reproject_exactly() -> None:
    points = crooked()
    fit = fit_head(load_facemesh_model(), points, 1.0, SIZE)
    assert (to_pixels(fit.vertices[:468], fit.camera) - points[:, :2]).abs().max() < 1e-3
    depth_px = to_camera(fit.vertices[:468], fit.camera)[:, 2] * fit.camera.K[0, 0]
    assert (depth_px - points[:, 2]).std() < 1e-3
    assert (to_camera(fit.vertices, fit.camera)[:, 2] > 0).all()


def test_the_landmarks_are_those_of_the_vertices() -> None:
    points, model = crooked(), load_facemesh_model()
    fit = fit_head(model, points, 0.9, SIZE)
    assert torch.allclose(fit.landmarks.points_px.double(), points[model.topology.landmark_vertices, :2], atol=1e-3)
    assert fit.landmarks.score == 0.9
    assert fit.topology is model.topology is load_facemesh_model().topology


def test_mirrored_points_give_the_mirrored_head() -> None:
    model = load_facemesh_model()
    mirror = model.topology.mirror
    assert mirror is not None
    points = crooked()
    mirrored = points[mirror[:468]] * FLIP + torch.tensor([SIZE[1], 0.0, 0.0])
    fit, other = (fit_head(model, p, 1.0, SIZE) for p in (points, mirrored))
    assert torch.allclose(other.vertices[mirror] * FLIP.float(), fit.vertices, rtol=0, atol=2e-7)
    assert (other.pitch_deg, other.yaw_deg, other.roll_deg) == pytest.approx(
        (fit.pitch_deg, -fit.yaw_deg, -fit.roll_deg), abs=1e-9
    )
    assert torch.allclose(other.camera.R, FLIP.float() * fit.camera.R * FLIP.float()[:, None], atol=1e-6)
    assert torch.allclose(other.camera.K, fit.camera.K)


def test_similarity_finds_what_was_done_to_the_points() -> None:
    source = torch.randn(40, 3, dtype=torch.float64)
    R = rotation(20, -35, 70).double() @ FACING.double()
    shift = torch.tensor([4.0, -5.0, 6.0], dtype=torch.float64)
    target = 2.5 * source @ R.T + shift
    target[7] += 100.0
    weights = torch.rand(40, dtype=torch.float64)
    weights[7] = 0.0
    scale, found, t = fit_similarity_3d(source, target, weights)
    assert scale == pytest.approx(2.5)
    assert torch.allclose(found, R)
    assert torch.allclose(t, shift)


def test_similarity_never_mirrors() -> None:
    source = torch.randn(40, 3, dtype=torch.float64)
    _, R, _ = fit_similarity_3d(source, source * FLIP, torch.ones(40, dtype=torch.float64))
    assert torch.linalg.det(R).item() == pytest.approx(1.0)


@pytest.mark.parametrize("presence", [0.2, 0.9])
def test_no_face_where_the_network_sees_none(monkeypatch: pytest.MonkeyPatch, presence: float) -> None:
    model = load_facemesh_model()
    monkeypatch.setattr(facemesh, "mesh_points", lambda *_: (posed(model.face_mean, 0, 0, 0), presence))
    reconstruct = facemesh.FaceMeshReconstructor(None, partial(fit_head, model))  # pyright: ignore[reportArgumentType]
    photo = Photo(torch.zeros(3, *SIZE), "pictures/ann.jpg")
    detection = Detection(torch.zeros(4), torch.zeros(6, 2), 1.0)
    if presence > 0.5:
        assert reconstruct(photo, detection).landmarks.score == presence
        return
    with pytest.raises(NoFace, match=r"pictures/ann\.jpg: .*0\.20.*Give a photo"):
        reconstruct(photo, detection)


def test_bad_model_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(MissingWeights, match="model.npz is missing"):
        load_facemesh_model(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadWeights, match="model.npz cannot be read"):
        load_facemesh_model(path)
    with np.load(facemesh.DATA_DIR / "facemesh_topology.npz") as arrays:
        np.savez(path, **{name: arrays[name] for name in arrays.files if name != "uv"})
    with pytest.raises(BadWeights, match="model.npz does not hold .*uv"):
        load_facemesh_model(path)
    whole = facemesh.DATA_DIR.joinpath("facemesh_topology.npz").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadWeights, match="model.npz cannot be read"):
        load_facemesh_model(path)


@pytest.fixture(scope="module")
def reconstruct_file(assets: Path) -> Callable[..., Reconstruction]:
    """Reconstruct a file of the test faces, its mirror image too where asked for."""
    from ostec.detection.blazeface import load_detector

    detector, reconstructor = load_detector(), facemesh.load_facemesh_reconstructor()

    def reconstruct(name: str, flip: bool = False) -> Reconstruction:
        photo = ostec.files.photos.load_photo(assets / "faces" / name)
        detection = detector(photo)[0]
        if flip:
            width = photo.size[1]
            x0, y0, x1, y1 = detection.box_px.tolist()
            points = detection.points_px[[1, 0, 2, 3, 5, 4]] * torch.tensor([-1.0, 1.0]) + torch.tensor([width, 0.0])
            box = torch.tensor([width - x1, y0, width - x0, y1])
            photo, detection = replace(photo, rgb=photo.rgb.flip(-1)), Detection(box, points, 1.0)
        return reconstructor(photo, detection)

    return reconstruct


def test_a_head_turned_to_the_pictures_right_has_positive_yaw(
    assets: Path, reconstruct_file: Callable[..., Reconstruction]
) -> None:
    with (assets / "faces" / "index.csv").open(newline="") as table:
        turned = [r for r in csv.DictReader(table) if r["file"].startswith("test/") and abs(float(r["yaw_deg"])) > 20]
    assert len(turned) > 20
    for row in turned[::15]:
        fit = reconstruct_file(row["file"])
        assert fit.yaw_deg == pytest.approx(float(row["yaw_deg"]), abs=8), row["file"]
        assert math.copysign(1, fit.yaw_deg) == math.copysign(1, float(row["yaw_deg"]))


def test_the_mirrored_photo_gives_the_mirrored_head(reconstruct_file: Callable[..., Reconstruction]) -> None:
    name = "test/congress_A000368.jpg"
    fit, other = reconstruct_file(name), reconstruct_file(name, flip=True)
    mirrored = other.vertices[fit.topology.mirror] * FLIP.float()
    assert (mirrored - fit.vertices).abs().max() < 1e-5
    assert other.yaw_deg == pytest.approx(-fit.yaw_deg, abs=1e-2)


def test_a_photo_upside_down_gives_the_same_head_turned() -> None:
    """Even though the detector, which knows upright faces, takes the eyes for each other."""
    photo = ostec.files.photos.load_photo(ostec.demo_photo())
    detection, reconstruct = load_detector()(photo)[0], facemesh.load_facemesh_reconstructor()
    size = torch.tensor([photo.size[1], photo.size[0]])
    mistaken = Detection(
        (size - detection.box_px.view(2, 2)).flip(0).flatten(), size - detection.points_px[[1, 0, 2, 3, 5, 4]], 1.0
    )
    upright = reconstruct(photo, detection)
    upended = reconstruct(Photo(photo.rgb.flip(1).flip(2), "upside down"), mistaken)
    assert abs(abs(upended.roll_deg - upright.roll_deg) - 180) < 3
    eyes_apart_px = (upright.landmarks.points_px[36] - upright.landmarks.points_px[45]).norm()
    assert (size - upended.landmarks.points_px - upright.landmarks.points_px).norm(dim=1).max() < 0.06 * eyes_apart_px
