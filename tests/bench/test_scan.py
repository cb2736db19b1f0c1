"""Scan on the painted head: alignment undoes a known fit, truth is looked up where it lies, figures are of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import trimesh
from fakes import FakeWriter, complete, segment
from PIL import Image
from scipy.spatial import KDTree
from synthetic import head, paint
from torch import Tensor
from torch.nn import functional as F
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from ostec.bench import scan
from ostec.bench.gallery import Gallery, Setup
from ostec.bench.metric_networks import MetricNetworks
from ostec.bench.record import Score
from ostec.bench.scan import LIGHTS, POSES_DEG, Scan, alignment, load_scan, score_scan, true_colours
from ostec.errors import BadGeometry
from ostec.files.meshes import plain_shape
from ostec.geometry.camera import rotation, to_camera, to_pixels
from ostec.geometry.raster import rasterise
from ostec.geometry.render import render
from ostec.interfaces import Parts, Progress
from ostec.settings import Settings
from ostec.types import Atlas, Camera, Completed, Detection, Face, Photo, Reconstruction, UVTexture

SETTINGS = Settings(mode="soft", texture_size=64)
FACE = head()
SCAN = Scan(plain_shape(FACE.vertices, FACE.topology.faces, FACE.topology.uv, FACE.topology.uv_faces), paint(256))


def find(photo: Photo) -> list[Detection]:
    return [Detection(torch.tensor([0.0, 0, 64, 64]), torch.zeros(6, 2), 1.0)]


def fit(photo: Photo, detection: Detection) -> Reconstruction:
    """The head's true shape, taken for one that faces the camera."""
    vertices, camera = as_fitted(SCAN.camera(0.0, 0.0), 1.0, torch.eye(3))
    return replace(FACE, vertices=vertices, camera=camera)


PARTS = Parts(find, fit, segment, rasterise, complete, FakeWriter())


def as_fitted(camera: Camera, scale: float, turn: Tensor) -> tuple[Tensor, Camera]:
    """The scan's vertices in a fit's own frame and size, and the scaled-orthographic camera of that fit."""
    middle = SCAN.head.vertices.mean(dim=0)
    vertices = (SCAN.head.vertices - middle) @ turn.T * scale
    depth = float(to_camera(middle[None], camera)[0, 2])
    per_m = float(camera.K[0, 0]) / depth / scale
    centre = to_pixels(middle[None], camera)[0]
    K = torch.tensor([[per_m, 0, centre[0]], [0, per_m, centre[1]], [0, 0, 1]])
    return vertices, Camera(K, camera.R @ turn.T, torch.tensor([0.0, 0.0, 1.0]), camera.size, "orthographic")


@pytest.mark.parametrize("yaw_deg", [0.0, 30.0])
def test_a_fit_in_another_frame_and_size_is_placed_upon_the_scan(yaw_deg: float) -> None:
    camera = SCAN.camera(yaw_deg, 0.0)
    vertices, fit = as_fitted(camera, 1.3, rotation(5.0, -8.0, 3.0))
    place = alignment(fit, vertices[facing(camera)], *SCAN.pictured(camera, PARTS))
    assert float((place(vertices) - SCAN.head.vertices).norm(dim=1).max()) < 0.006


def facing(camera: Camera) -> Tensor:
    """[V] bool: which vertices the camera sees."""
    points, covered = SCAN.pictured(camera, PARTS)
    x, y = to_pixels(SCAN.head.vertices, camera).long().unbind(dim=1)
    return covered[y, x] & ((points[:, y, x].T - SCAN.head.vertices).norm(dim=1) < 0.002)


def test_a_fit_beside_the_head_is_refused() -> None:
    camera = SCAN.camera(0.0, 0.0)
    vertices, fitted = as_fitted(camera, 1.0, torch.eye(3))
    with pytest.raises(BadGeometry, match="does not lie on the head"):
        alignment(fitted, vertices + 1, *SCAN.pictured(camera, PARTS))


def test_a_texels_truth_is_the_colour_at_its_place() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]])
    asked = torch.tensor([[[0.001, 0, 0], [0.1, 0.002, 0]], [[0, 0.1, 0.001], [0.05, 0.05, 0.05]]])
    colours, near = true_colours(asked, KDTree(points.numpy()), torch.eye(3))
    assert near.tolist() == [[True, True], [True, False]]
    assert torch.equal(colours[:, 0, 0], torch.eye(3)[0]) and torch.equal(colours[:, 1, 0], torch.eye(3)[2])


def test_light_comes_from_the_side_it_is_named_for() -> None:
    """Left and right are the picture's, of a head that faces the camera."""
    grey = replace(SCAN, rgb=torch.full((3, 64, 64), 0.5))
    assert torch.allclose(grey.lit(LIGHTS["flat"], PARTS), torch.tensor(0.5))
    for name, sign in (("left light", 1), ("right light", -1)):
        lit = grey.lit(LIGHTS[name], PARTS)
        picture, covered = render(grey.head, lit, grey.camera(0.0, 0.0), rasterise)
        left, right = picture[0, :, :320], picture[0, :, 320:]
        assert sign * float(left[covered[:, :320]].mean() - right[covered[:, 320:]].mean()) > 0.05


def test_a_positive_yaw_turns_the_nose_to_the_right() -> None:
    nose = SCAN.head.vertices[SCAN.head.vertices[:, 2].argmax()][None]
    middle = SCAN.head.vertices.mean(dim=0, keepdim=True)
    for yaw_deg, sign in ((30.0, 1), (-30.0, -1)):
        camera = SCAN.camera(yaw_deg, 0.0)
        assert sign * float((to_pixels(nose, camera) - to_pixels(middle, camera))[0, 0]) > 20


def test_every_method_is_scored_at_every_pose_in_every_light(monkeypatch: pytest.MonkeyPatch) -> None:
    poses = ((0.0, 0.0), (45.0, 15.0))
    monkeypatch.setattr(scan, "POSES_DEG", poses)
    scores = list(score_scan(SCAN, Setup({"a": complete}, PARTS, MetricNetworks(), SETTINGS, Gallery())))
    textures = [s for s in scores if "unseen view" not in s.variant]
    assert [(s.variant, s.yaw_deg, s.pitch_deg) for s in textures] == [
        (light, yaw, pitch) for light in LIGHTS for yaw, pitch in poses
    ]
    assert all(s.seconds is not None for s in textures)
    assert len(scores) == 2 * len(textures)


def test_what_is_scored_is_the_hidden_half_of_the_scans_own_colours() -> None:
    """A completer that answers with the truth, and one that is off by a tenth."""

    milder = replace(SCAN, rgb=0.2 + 0.6 * SCAN.rgb)

    def scored(off: float) -> Score:
        def answer(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
            rgb = F.interpolate(milder.rgb[None], face.texels.inside.shape, mode="area")[0]
            return Completed(UVTexture(rgb + off, atlas.photo.confidence))

        return next(s for s in score_scan(milder, Setup({"a": answer}, PARTS, MetricNetworks(), SETTINGS, Gallery(0))))

    perfect, off = scored(0.0).psnr_db, scored(0.1).psnr_db
    assert perfect is not None and off is not None
    assert perfect > 30 and off == pytest.approx(20, abs=0.7)


def test_a_picture_without_a_face_costs_only_its_figures() -> None:
    blind = replace(PARTS, detector=lambda photo: [])
    scores = list(score_scan(SCAN, Setup({"a": complete}, blind, MetricNetworks(), SETTINGS, Gallery())))
    assert len(scores) == 2 * len(POSES_DEG) * len(LIGHTS)
    assert all(score.psnr_db is None and score.seconds is None for score in scores)


def test_a_scan_is_read_as_it_was_written(tmp_path: Path) -> None:
    uv = FACE.topology.uv * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 1.0])
    red_above = Image.new("RGB", (64, 64), "blue")
    red_above.paste((255, 0, 0), (0, 0, 64, 32))
    material = PBRMaterial(baseColorTexture=red_above)
    visual = TextureVisuals(uv=uv.numpy(), material=material)
    faces = FACE.topology.faces.numpy()
    mesh = trimesh.Trimesh((FACE.vertices / 0.055).numpy(), faces, visual=visual, process=False)
    mesh.export(tmp_path / "head.glb")
    read = load_scan(tmp_path / "head.glb")
    assert torch.allclose(read.head.vertices, FACE.vertices, atol=1e-6)
    assert torch.allclose(read.head.topology.uv, FACE.topology.uv, atol=1e-6)
    assert torch.equal(read.rgb[:, 0, 0], torch.tensor([1.0, 0, 0]))


def test_what_is_no_scan_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "noise.glb").write_bytes(b"not a head")
    with pytest.raises(BadGeometry, match=r"noise\.glb"):
        load_scan(tmp_path / "noise.glb")
    trimesh.creation.box().export(tmp_path / "bare.glb")
    with pytest.raises(BadGeometry, match=r"bare\.glb"):
        load_scan(tmp_path / "bare.glb")
