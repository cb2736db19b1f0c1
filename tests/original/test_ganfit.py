"""GANFit's fits, of the structure that the original reads, about the synthetic head."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_bfm import KEPT, menpo_object, pickled, write_topology
from synthetic import SHAPE, head

from ostec.errors import BadWeights, MissingWeights, NoFace
from ostec.geometry.camera import to_pixels
from ostec.original.ganfit import GanfitReconstructor
from ostec.registry.components import build
from ostec.types import Detection, Photo

UNITS = 7.0
"""Of GANFit's to the metre, here."""
SIZE = (400, 500)
EYE = np.array([1.5, 0.4, 6.2])


def seen(vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(before the camera: x right, y up, z backwards; px of the photo, pixel centres at whole numbers)."""
    forward = -EYE / np.linalg.norm(EYE)
    right = np.cross(forward, [0, 1, 0])
    right /= np.linalg.norm(right)
    rows = np.stack([right, np.cross(right, forward), -forward])
    before = (vertices - EYE) @ rows.T
    focal = 256 / math.tan(math.radians(20) / 2)
    crop = np.stack([256 + focal * before[:, 0] / -before[:, 2], 256 - focal * before[:, 1] / -before[:, 2]], axis=1)
    turn = 0.8 * np.array([[math.cos(0.2), -math.sin(0.2)], [math.sin(0.2), math.cos(0.2)]])
    return before, crop @ turn.T + [75.0, 10.0] - 0.5


def fit(**changes: Any) -> dict[str, Any]:
    vertices = head().vertices.numpy().astype(np.float64) * UNITS
    before, places = seen(vertices)
    zero = np.zeros((1, 3), dtype=np.float32)
    offsets = [(EYE[None] - [0, 0, 6]).astype(np.float32), zero, zero, np.zeros(1, dtype=np.float32)]
    mesh = menpo_object("menpo.shape.mesh.textured", "TexturedTriMesh", points=vertices, trilist=SHAPE.faces.numpy())
    known = {"tmesh": mesh, "camera_params": offsets, "dense_lms": places}
    known |= {"vertices": vertices, "vertices_rotated": before}
    wanted = {"tmesh": True, "camera_params": True, "dense_lms": True} | changes
    return {name: known[name] if value is True else value for name, value in wanted.items() if value is not None}


@pytest.fixture
def reconstructor(tmp_path: Path) -> GanfitReconstructor:
    write_topology(tmp_path)
    return build("reconstructor", "ganfit", tmp_path)


def photo_beside(folder: Path, data: bytes | None) -> Photo:
    (folder / "face.one.jpg").write_bytes(b"")
    if data is not None:
        (folder / "face.one.pkl").write_bytes(data)
    return Photo(torch.zeros(3, *SIZE), str(folder / "face.one.jpg"))


def detection() -> Detection:
    low, high = seen(head().vertices.numpy().astype(np.float64) * UNITS)[1][[0, -1]]
    middle = torch.from_numpy((low + high) / 2)
    return Detection(torch.cat([middle - 120, middle + 120]).float(), torch.zeros(6, 2), 0.8)


@pytest.mark.parametrize("kind", ["GANFit's", "the original's", "both"])
def test_vertices_land_where_the_fit_says(reconstructor: GanfitReconstructor, tmp_path: Path, kind: str) -> None:
    changes = {
        "GANFit's": {},
        "the original's": {"vertices": True, "vertices_rotated": True, "camera_params": None, "tmesh": None},
        "both": {"vertices": True, "vertices_rotated": True},
    }[kind]
    found = reconstructor(photo_beside(tmp_path, pickled(fit(**changes))), detection())
    expected = torch.from_numpy(fit()["dense_lms"]).float() + 0.5
    assert (to_pixels(found.vertices, found.camera) - expected).abs().max() < 0.02
    assert found.camera.K[0, 1].abs() < 0.01 * found.camera.K[0, 0]
    assert found.yaw_deg < -5, "the camera stands at the subject's left, so the nose points to the picture's left"
    eyes = found.vertices[found.topology.landmark_vertices[36:48]].view(2, 6, 3).mean(dim=1)
    assert (eyes[1] - eyes[0]).norm() == pytest.approx(0.063)
    ratio = found.vertices / head().vertices
    assert ratio[head().vertices.abs() > 0.01].std() < 1e-4
    assert found.topology is reconstructor.topology and found.landmarks.score == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"dense_lms": None}, "lacks 'dense_lms'"),
        ({"tmesh": None}, "lacks 'tmesh'"),
        ({"camera_params": None}, "lacks 'camera_params'"),
        ({"camera_params": [np.zeros((1, 2))] * 4}, "shape|size|view"),
        (
            {"vertices": np.zeros((KEPT - 1, 3)), "vertices_rotated": np.zeros((KEPT - 1, 3))},
            f"original's mesh.*{KEPT}",
        ),
        ({"dense_lms": np.zeros((KEPT, 3))}, "dense_lms is"),
        ({"dense_lms": np.random.default_rng(0).normal(size=(KEPT, 2))}, "dense_lms are not what a camera sees"),
        ({"vertices_rotated": np.random.default_rng(0).normal(size=(KEPT, 3))}, "not the vertices, turned"),
        ({"dense_lms": np.full((KEPT, 2), np.nan)}, "not finite"),
    ],
)
def test_what_is_wrong_is_named(
    reconstructor: GanfitReconstructor, tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    photo = photo_beside(tmp_path, pickled(fit(**changes)))
    with pytest.raises(BadWeights, match=complaint) as refused:
        reconstructor(photo, detection())
    assert "face.one.pkl" in str(refused.value) and "--reconstructor mediapipe" in str(refused.value)


def test_other_files_are_refused(reconstructor: GanfitReconstructor, tmp_path: Path) -> None:
    for data in (b"", b"<html>", pickled([1, 2]), pickled(fit())[:-100]):
        with pytest.raises(BadWeights, match=r"face\.one\.pkl"):
            reconstructor(photo_beside(tmp_path, data), detection())


def test_no_fit_and_no_file(reconstructor: GanfitReconstructor, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"face\.one\.pkl is missing"):
        reconstructor(photo_beside(tmp_path, None), detection())
    with pytest.raises(MissingWeights, match="Give the path of the photo"):
        reconstructor(Photo(torch.zeros(3, *SIZE), "array"), detection())


def test_another_face_is_not_fitted(reconstructor: GanfitReconstructor, tmp_path: Path) -> None:
    elsewhere = Detection(torch.tensor([0.0, 0, 40, 40]), torch.zeros(6, 2), 0.9)
    with pytest.raises(NoFace, match="not on the face that was found"):
        reconstructor(photo_beside(tmp_path, pickled(fit())), elsewhere)


def test_without_the_mesh_each_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights) as refused:
        build("reconstructor", "ganfit", tmp_path)
    for name in ("trilist_full.pkl", "tcoords_alex.pkl", "mask_full2crop.pkl", "all_all_all_lands_ids.pkl"):
        assert name in str(refused.value)
    assert "01_MorphableModel" not in str(refused.value)
