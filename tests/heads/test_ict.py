"""The ICT head: its file, what is known about it, and fits. The public model is wanted for the last."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import ostec.files.photos
from ostec.detection.blazeface import load_detector
from ostec.errors import BadWeights, MissingWeights
from ostec.geometry.camera import rotation, to_pixels
from ostec.geometry.mesh import sphere
from ostec.geometry.raster import rasterise
from ostec.heads import ict
from ostec.heads.facemesh import face_points, load_facemesh_model, load_facemesh_reconstructor
from ostec.heads.ict_files import EXPRESSIONS, IDENTITIES, TOPOLOGY_FILE, VERTICES, read_shapes
from ostec.registry.components import build, select_parts
from ostec.types import FacePart
from ostec.weights.catalogue import FILES
from ostec.weights.shipped import read_arrays


def small_arrays() -> dict[str, NDArray]:
    """Of the model's structure: a random head whose shapes move it little."""
    rng = np.random.default_rng(1)
    return {
        "neutral_vertices": (10 * rng.normal(size=(VERTICES, 3))).astype(np.float32),
        "identity_deltas": np.zeros((IDENTITIES, VERTICES, 3), np.float16),
        "expression_deltas": np.zeros((len(EXPRESSIONS), VERTICES, 3), np.float16),
        "expression_names": np.array(EXPRESSIONS),
    }


def write(path: Path, arrays: dict[str, NDArray]) -> Path:
    np.savez_compressed(path, allow_pickle=True, **arrays)
    return path


def test_a_packed_model_is_read_in_its_own_order(tmp_path: Path) -> None:
    arrays = small_arrays()
    arrays["identity_deltas"][7, 100, 1] = 0.5
    arrays["expression_deltas"][3, 200, 2] = -0.25
    shapes = read_shapes(write(tmp_path / "m.npz", arrays))
    assert np.array_equal(shapes.mean, arrays["neutral_vertices"])
    assert shapes.deltas.shape == (IDENTITIES + len(EXPRESSIONS), VERTICES, 3)
    assert shapes.deltas[7, 100, 1] == 0.5 and shapes.deltas[IDENTITIES + 3, 200, 2] == -0.25
    assert shapes.names[3] == "browInnerUp_R"


class Armed:
    """Would make a file if it were unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return open, ("unpickled.txt", "w")  # type: ignore[return-value]


def spoilt(name: str, arrays: dict[str, NDArray]) -> dict[str, NDArray]:
    if name == "absent":
        del arrays["expression_names"]
    elif name == "shape":
        arrays["identity_deltas"] = arrays["identity_deltas"][:, :-1]
    elif name == "number":
        arrays["neutral_vertices"] = arrays["neutral_vertices"].astype(np.int32)
    elif name == "nan":
        arrays["neutral_vertices"][5, 1] = np.nan
    elif name == "huge":
        arrays["expression_deltas"][0, 0, 0] = 2000.0
    elif name == "names":
        arrays["expression_names"] = np.array(EXPRESSIONS[::-1])
    elif name == "pickle":
        arrays["neutral_vertices"] = np.array([Armed()], dtype=object)
    return arrays


@pytest.mark.parametrize("name", ["absent", "shape", "number", "nan", "huge", "names", "pickle"])
def test_a_model_that_is_not_ict_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadWeights, match=r"m\.npz.*ostec models get ict-facekit"):
        read_shapes(write(tmp_path / "m.npz", spoilt(name, small_arrays())))
    assert not (tmp_path / "unpickled.txt").exists()


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="ostec models get ict-facekit"):
        read_shapes(tmp_path / "nowhere.npz")
    whole = write(tmp_path / "m.npz", small_arrays()).read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2]):
        (tmp_path / "d.npz").write_bytes(damaged)
        with pytest.raises(BadWeights, match=r"d\.npz"):
            read_shapes(tmp_path / "d.npz")


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in small_arrays():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 25,)})
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(1 << 27))
    with pytest.raises(BadWeights, match="unpacks to 128 MB"):
        read_shapes(tmp_path / "b.npz")


def test_the_shipped_topology_is_symmetric_and_whole() -> None:
    topology = ict.ict_topology(read_arrays(TOPOLOGY_FILE))
    assert topology.mirror is not None and topology.parts is not None and topology.facemesh_uv is not None
    count = len(topology.paintable)
    mirror, faces = topology.mirror, topology.faces
    assert torch.equal(mirror[mirror], torch.arange(count))
    assert int(faces.max()) < count and int(topology.uv_faces.max()) < len(topology.uv)
    half = len(faces) // 2
    assert torch.equal(mirror[faces[:half]].flip(1), faces[half:])
    corners = topology.uv[topology.uv_faces]
    assert torch.equal(corners[half:].flip(1) * torch.tensor([-1.0, 1]) + torch.tensor([1.0, 0]), corners[:half])
    assert corners.min() >= 0 and corners.max() <= 1
    assert torch.equal(mirror[topology.landmark_vertices[:17]], topology.landmark_vertices[:17].flip(0))
    occlusion = topology.ambient_occlusion
    assert occlusion is not None and torch.equal(occlusion[mirror], occlusion)
    assert (occlusion[topology.landmark_vertices] == 1).all()
    assert 0.02 < float((occlusion < 0.5).float().mean()) < 0.05
    skin = topology.parts == int(FacePart.SKIN)
    assert topology.paintable[faces[skin]].all()
    assert not topology.paintable[faces[~skin]].all(dim=1).any()
    assert set(topology.parts.unique().tolist()) == {int(part) for part in FacePart}


def test_charts_do_not_overlap() -> None:
    topology = ict.ict_topology(read_arrays(TOPOLOGY_FILE))
    a, b, c = topology.uv[topology.uv_faces].double().unbind(dim=1)
    area = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).abs().sum() / 2
    clip = torch.nn.functional.pad(topology.uv * 1024, (0, 2))
    clip[:, 3] = 1
    covered = (rasterise(clip, topology.uv_faces, (1024, 1024)).triangle >= 0).float().mean()
    assert float(covered) == pytest.approx(float(area), abs=2e-4)
    assert float(area) > 0.7


def test_auto_takes_it_as_soon_as_its_file_is_there(tmp_path: Path) -> None:
    assert select_parts(weights_dir=tmp_path).names["reconstructor"] == "mediapipe"
    (tmp_path / FILES["ict-facekit"].file).touch()
    assert select_parts(weights_dir=tmp_path).names["reconstructor"] == "ict"
    with pytest.raises(MissingWeights, match="ict-facekit"):
        build("reconstructor", "ict")


def test_eyes_of_which_the_network_leaves_a_slit_are_shut() -> None:
    points = load_facemesh_model().face_mean.clone()
    coefficients = np.zeros(IDENTITIES + len(EXPRESSIONS))
    coefficients[IDENTITIES + EXPRESSIONS.index("eyeBlink_L")] = 0.3
    assert np.array_equal(ict.with_shut_eyes(coefficients, points, EXPRESSIONS), coefficients)
    corners, upper, lower = ict._LIDS["eyeBlink_R"]
    middle = (points[upper] + points[lower]) / 2
    width = (points[corners[0]] - points[corners[1]]).norm()
    points[upper], points[lower] = (middle + side * width * torch.tensor([0.0, 0.08, 0.0]) for side in (1, -1))
    shut = ict.with_shut_eyes(coefficients, points, EXPRESSIONS)
    changed = np.flatnonzero(shut != coefficients)
    assert changed.tolist() == [IDENTITIES + EXPRESSIONS.index("eyeBlink_R")]
    assert shut[changed[0]] == 1.0


@pytest.fixture(scope="module")
def model(assets: Path) -> ict.ICTModel:
    path = assets / "ict" / "ict_face_model.npz"
    if not path.is_file():
        pytest.skip(f"needs {path.name}")
    return ict.read_ict_model(path)


def test_lids_rest_on_the_eyeballs(model: ict.ICTModel) -> None:
    coefficients = np.zeros(IDENTITIES + len(EXPRESSIONS))
    coefficients[[IDENTITIES + EXPRESSIONS.index(f"eyeBlink_{side}") for side in "LR"]] = 1.0
    sunk, lifted = model.head(coefficients), ict.lids_on_eyes(model.head(coefficients), model.topology)
    parts, faces = model.topology.parts, model.topology.faces
    assert parts is not None
    eye = faces[parts == int(FacePart.LEFT_EYE)].unique()
    skin = faces[parts == int(FacePart.SKIN)].unique()
    centre, radius = sphere(sunk[eye])
    least = [float((v[skin] - centre).norm(dim=1).min()) for v in (sunk, lifted)]
    assert least[0] < 0.93 * radius < least[1]
    assert torch.equal(lifted[eye], sunk[eye])
    assert (lifted - sunk).norm(dim=1).max() < 0.005


def test_a_known_head_is_found_in_a_photo(model: ict.ICTModel) -> None:
    truth = np.zeros(IDENTITIES + len(EXPRESSIONS))
    truth[:10] = np.random.default_rng(2).normal(size=10)
    truth[IDENTITIES + EXPRESSIONS.index("jawOpen")] = 0.4
    R = rotation(5.0, 20.0, -8.0).double().numpy()
    turned = (model.points.mean + np.tensordot(truth, model.points.basis, 1)) @ R.T
    z = turned[:, 2:] + 1.0
    points = torch.from_numpy(np.c_[1500 * turned[:, :2] / z + [320.0, 240.0], 1500 * turned[:, 2]])
    fit = ict.fit_head(model, points.float(), 0.9, (480, 640))
    assert (fit.pitch_deg, fit.yaw_deg, fit.roll_deg) == pytest.approx((5.0, 20.0, -8.0), abs=1.0)
    assert float((fit.vertices - model.head(truth)).norm(dim=1).median()) < 0.003
    corners = read_arrays(TOPOLOGY_FILE)["point_corners"].astype(np.int64)
    shares = torch.from_numpy(read_arrays(TOPOLOGY_FILE)["point_shares"])
    at = (fit.vertices[torch.from_numpy(corners)] * shares[..., None]).sum(dim=1)
    error_px = (to_pixels(at, fit.camera) - points[:, :2]).norm(dim=1)
    assert float(error_px.median()) < 0.01 * float((points[33] - points[263]).norm())


def test_portraits_are_fitted_closely_and_like_the_other_reconstructor(model: ict.ICTModel, assets: Path) -> None:
    detector, other = load_detector(), load_facemesh_reconstructor()
    with (assets / "faces" / "index.csv").open() as table:
        files = sorted(row["file"] for row in csv.DictReader(table) if row["file"].startswith("test/"))[::24]
    errors = []
    for file in files:
        photo = ostec.files.photos.load_photo(assets / "faces" / file)
        detection = detector(photo)[0]
        points, presence = face_points(other._net, photo, detection)
        fit, peer = ict.fit_head(model, points, presence, photo.size), other(photo, detection)
        eyes = (points[33, :2] - points[263, :2]).norm()
        wanted = points[load_facemesh_model().topology.landmark_vertices, :2]
        errors.append(float(((fit.landmarks.points_px - wanted).norm(dim=1) / eyes)[17:].mean()))
        assert abs(fit.yaw_deg - peer.yaw_deg) < 12 and abs(fit.roll_deg - peer.roll_deg) < 6
    assert np.median(errors) < 0.02
    assert max(errors) < 0.05
