"""Deep3DFaceRecon says what its definition says, and its camera sees vertices where arithmetic puts them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_bfm import FRONT, KEPT, TRIM, Numbers, Regressor, checkpoint, known_answer_net, write_all
from synthetic import SHAPE, head
from torch import Tensor

import ostec
from ostec.errors import BadGeometry, BadWeights, MissingWeights
from ostec.geometry.align import apply_affine
from ostec.geometry.camera import rotation, to_pixels
from ostec.original.deep3d import (
    Coefficients,
    Deep3DNet,
    Deep3DReconstructor,
    face_crop,
    five_points,
    load_deep3d_net,
    photo_camera,
)
from ostec.registry.components import build, select_parts
from ostec.registry.table import row
from ostec.types import Detection, Landmarks, Photo, Reconstruction

IDENTITIES, EXPRESSIONS = 4, 3
ANGLES, TRANSLATION = (0.1, -0.3, 0.05), (0.2, -0.1, 0.4)
COEFFICIENTS = [0.5, -1.0, 0.25, 2.0, 1.0, -0.5, 0.75, *[0.0] * 80, *ANGLES, *[0.0] * 27, *TRANSLATION]
LEVEL = torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=torch.float64)
SIZE = (480, 640)
STILL = Coefficients(torch.zeros(80), torch.zeros(64), torch.zeros(80), torch.zeros(3), torch.zeros(27), torch.zeros(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Numbers]:
    path = tmp_path_factory.mktemp("weights")
    return path, write_all(path, known_answer_net(COEFFICIENTS, IDENTITIES, EXPRESSIONS))


def landmarks_in_photo(angle: float = 0.0, scale: float = 300.0) -> Tensor:
    """The standard face as a photo shows it, y down, turned clockwise."""
    flat = head().vertices[SHAPE.landmark_vertices][:, :2] * torch.tensor([10.0, -10.0])
    cos, sin = math.cos(angle), math.sin(angle)
    return flat @ torch.tensor([[cos, sin], [-sin, cos]]) * scale + torch.tensor([310.0, 250.0])


def stub(points_px: Tensor):
    def find(photo: Photo, detection: Detection) -> Reconstruction:
        return replace(head(), landmarks=Landmarks(points_px, 0.9))

    return find


def fitted(folder: Path, points_px: Tensor) -> Reconstruction:
    reconstructor = build("reconstructor", "deep3d", folder)
    reconstructor._find_landmarks = stub(points_px)
    photo = Photo(torch.rand(3, *SIZE), "photo")
    return reconstructor(photo, Detection(torch.zeros(4), torch.zeros(6, 2), 1.0))


def test_coefficients_are_those_of_the_definition() -> None:
    net = Regressor(4, 80, 64).eval()
    crops = torch.rand(2, 3, 224, 224)
    ours = Deep3DNet(net.state_dict())
    theirs = net(crops)
    assert ours(crops).shape == (2, 257)
    assert (ours(crops) - theirs).abs().max() < 1e-4 * theirs.abs().max()
    assert theirs.std(dim=0).max() > 1e-4, "the picture makes a difference"
    parts = ours.split(theirs[0])
    assert torch.equal(parts.angles, theirs[0, 224:227]) and torch.equal(parts.translation, theirs[0, 254:257])
    assert torch.equal(parts.expression, theirs[0, 80:144])


def vertices_the_slow_way(numbers: Numbers, vertex: int) -> list[float]:
    """One vertex, coordinate by coordinate, in metres."""
    middle = [sum(float(numbers.mean[3 * TRIM[v] + axis, 0]) for v in FRONT) / len(FRONT) for axis in range(3)]
    found = []
    for axis in range(3):
        row = 3 * int(TRIM[vertex]) + axis
        value = float(numbers.mean[row, 0]) - middle[axis]
        for i in range(IDENTITIES):
            value += float(numbers.components[row, i]) * float(numbers.deviations[i, 0]) * COEFFICIENTS[i]
        for e in range(EXPRESSIONS):
            share = float(numbers.expression_deviations[e]) * COEFFICIENTS[IDENTITIES + e]
            value += float(numbers.expressions[e, 3 * vertex + axis]) * share
        found.append(value * 1e-6)
    return found


def test_vertices_are_those_of_the_formula(folder: tuple[Path, Numbers]) -> None:
    path, numbers = folder
    fit = fitted(path, landmarks_in_photo())
    assert fit.vertices.shape == (KEPT, 3)
    size = float(fit.vertices.norm(dim=1).max())
    for vertex in (0, 1, 2, 777, KEPT - 1):
        expected = torch.tensor(vertices_the_slow_way(numbers, vertex))
        assert (fit.vertices[vertex] - expected).abs().max() < 1e-5 * size


def where_deep3d_sees(vertex: Tensor, crop_from_photo: Tensor) -> Tensor:
    """Photo px of a vertex in metres, as Deep3DFaceRecon's own arithmetic has it: decimetres, y up, focal 1015 px."""
    (cx, cy, cz), (sx, sy, sz) = ([f(angle) for angle in ANGLES] for f in (math.cos, math.sin))
    x, y, z = (10 * vertex).tolist()
    y, z = cx * y - sx * z, sx * y + cx * z
    x, z = cy * x + sy * z, -sy * x + cy * z
    x, y = cz * x - sz * y, sz * x + cz * y
    x, y, z = x + TRANSLATION[0], y + TRANSLATION[1], z + TRANSLATION[2]
    crop_px = torch.tensor([1015 * x / (10 - z) + 112, 224 - (1015 * y / (10 - z) + 112)], dtype=torch.float64)
    linear, shift = crop_from_photo[:, :2], crop_from_photo[:, 2]
    return torch.linalg.solve(linear, crop_px - shift)


@pytest.mark.parametrize("turn", [0.0, 0.3, math.pi / 2, math.pi])
def test_a_vertex_lands_where_it_should(folder: tuple[Path, Numbers], turn: float) -> None:
    points_px = landmarks_in_photo(turn)
    fit = fitted(folder[0], points_px)
    crop_from_photo = face_crop(points_px, five_points(torch.from_numpy(folder[1].standard)))
    for vertex in (0, 100, 3000):
        expected = where_deep3d_sees(fit.vertices[vertex], crop_from_photo)
        assert (to_pixels(fit.vertices[vertex], fit.camera) - expected).abs().max() < 0.01
    assert fit.camera.K[0, 1] == 0 and fit.camera.K[0, 0] == fit.camera.K[1, 1]
    assert (fit.camera.R @ fit.camera.R.T - torch.eye(3)).abs().max() < 1e-5
    assert torch.equal(fit.landmarks.points_px, to_pixels(fit.vertices[SHAPE.landmark_vertices], fit.camera))


def test_a_known_vertex_lands_on_a_known_pixel() -> None:
    """By hand: no turn, 0.1 m to the subject's left and 0.05 m up, in a crop that is the photo's corner, halved."""
    halved = torch.tensor([[0.5, 0, 0], [0, 0.5, 0]], dtype=torch.float64)
    camera = photo_camera(STILL, halved, SIZE)
    assert to_pixels(torch.tensor([0.1, 0.05, 0.0]), camera).tolist() == pytest.approx([2 * 213.5, 2 * 61.25])
    nearer = replace(STILL, translation=torch.tensor([0.0, 0.0, 5.0]))
    assert to_pixels(torch.tensor([0.1, 0, 0]), photo_camera(nearer, halved, SIZE))[0] == pytest.approx(2 * 315)


def test_angles_have_our_signs() -> None:
    for angles, expected in (
        ((0.2, 0, 0), rotation(math.degrees(0.2), 0, 0)),
        ((0, 0.2, 0), rotation(0, math.degrees(0.2), 0)),
        ((0, 0, 0.2), rotation(0, 0, -math.degrees(0.2))),
    ):
        turned = replace(STILL, angles=torch.tensor(angles))
        assert torch.allclose(photo_camera(turned, LEVEL, SIZE).R, expected, atol=1e-6)


def test_the_crop_is_the_originals() -> None:
    """102 px to the unit of the standard face, its origin in the middle, level with the photo."""
    standard = five_points(head().vertices[SHAPE.landmark_vertices].double() * 10)
    crop = face_crop(landmarks_in_photo(scale=300.0), standard)
    middle = apply_affine(crop, torch.tensor([[310.0, 250.0]]))[0]
    assert middle.tolist() == pytest.approx([112, 112], abs=1e-3)
    assert crop[0, 0] == pytest.approx(102 / 300, rel=1e-4) and crop[0, 1] == 0
    sideways = face_crop(landmarks_in_photo(math.pi / 2), standard)
    upright = apply_affine(sideways, landmarks_in_photo(math.pi / 2))
    assert (upright - apply_affine(crop, landmarks_in_photo())).abs().max() < 1e-2
    with pytest.raises(BadGeometry, match="coincide"):
        face_crop(torch.full((68, 2), 5.0), standard)


def test_the_network_sees_the_crop(folder: tuple[Path, Numbers]) -> None:
    """Red, green and blue in their order, 0..1, upright; black outside the photo."""
    seen: list[Tensor] = []
    reconstructor = build("reconstructor", "deep3d", folder[0])
    reconstructor._net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    reconstructor._find_landmarks = stub(landmarks_in_photo(scale=102.0))
    rgb = torch.zeros(3, *SIZE)
    rgb[0], rgb[1, :250], rgb[2, :, :310] = 1.0, 1.0, 1.0
    reconstructor(Photo(rgb, "photo"), Detection(torch.zeros(4), torch.zeros(6, 2), 1.0))
    assert seen[0].shape == (1, 3, 224, 224)
    quarters = [seen[0][0, :, y, x].tolist() for y in (50, 170) for x in (50, 170)]
    assert quarters == [pytest.approx(q, abs=1e-4) for q in ([1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0])]
    far = landmarks_in_photo(scale=102.0) - torch.tensor([310.0, 250.0])
    reconstructor._find_landmarks = stub(far)
    reconstructor(Photo(rgb, "photo"), Detection(torch.zeros(4), torch.zeros(6, 2), 1.0))
    assert seen[1][0, :, 50, 50].tolist() == [0, 0, 0]


def test_it_is_built_by_name_and_never_unasked(folder: tuple[Path, Numbers]) -> None:
    assert isinstance(build("reconstructor", "deep3d", folder[0]), Deep3DReconstructor)
    assert select_parts(weights_dir=folder[0]).names["reconstructor"] == "mediapipe"
    parts = select_parts(reconstructor="deep3d", completer="prior", weights_dir=folder[0]).load()
    assert "research only" in parts.licences["01_MorphableModel.mat"]


def test_a_photo_is_completed_on_it(tmp_path: Path) -> None:
    """All of the texture has a colour, also where it is not completed, and the lack of symmetry is told."""
    write_all(tmp_path, known_answer_net([0.0] * len(COEFFICIENTS), IDENTITIES, EXPRESSIONS))
    parts = ostec.load_parts(reconstructor="deep3d", completer="prior", weights_dir=tmp_path)
    result = ostec.complete(ostec.demo_photo(), parts, ostec.Settings(texture_size=256))
    unpainted = ~result.reconstruction.topology.paintable
    at = (result.reconstruction.topology.uv[unpainted] * 256).long()
    assert bool((result.texture.rgb[:, at[:, 1], at[:, 0]].amax(dim=0) > 0.1).all())
    assert "no mirror map" in " ".join(result.report["warnings"])
    assert result.report["camera"]["model"] == "perspective"


def test_every_absent_file_is_named(tmp_path: Path, folder: tuple[Path, Numbers]) -> None:
    there = {"epoch_latest.pth", "std_exp.txt"}
    for file in there:
        (tmp_path / file).symlink_to(folder[0] / file)
    with pytest.raises(MissingWeights) as refused:
        build("reconstructor", "deep3d", tmp_path)
    for entry in row("reconstructor", "deep3d").files:
        assert (entry.file in str(refused.value)) == (entry.file not in there)
    assert "faces.dmi.unibas.ch" in str(refused.value) and "ostec models get ostec-uv" in str(refused.value)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    net = Regressor(2, IDENTITIES, EXPRESSIONS)
    good = checkpoint(net)["net_recon"]
    path = tmp_path / "epoch_latest.pth"
    lacking = {name: t for name, t in good.items() if name != "backbone.layer3.2.conv3.weight"}
    four_angles = {**good, "final_layers.3.bias": torch.zeros(4), "final_layers.3.weight": torch.zeros(4, 64, 1, 1)}
    last_fc = {name: t for name, t in good.items() if "final_layers" not in name}
    for stored, complaint in (
        (good, "by the name 'net_recon'"),
        ({"net_recon": lacking}, "lacks 'layer3.2.conv3.weight'"),
        ({"net_recon": last_fc}, "lacks 'final_layers.0.weight'"),
        ({"net_recon": four_angles}, "heads of"),
        ({"net_recon": {**good, "backbone.conv1.weight": torch.full((2, 3, 7, 7), math.nan)}}, "not finite"),
        ({"net_recon": [1, 2]}, "by the name 'net_recon'"),
    ):
        torch.save(stored, path)
        with pytest.raises(BadWeights, match="epoch_latest") as refused:
            load_deep3d_net(path)
        assert complaint in str(refused.value)
    torch.save(checkpoint(net), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadWeights, match="truncated"):
        load_deep3d_net(path)
