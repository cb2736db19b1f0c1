"""Fits of other programs, `NAME.npz` beside the photo."""

from __future__ import annotations

import math
import os
import runpy
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_bfm import write_topology
from synthetic import SHAPE, head

from ostec.cli.commands import main
from ostec.errors import BadWeights, MissingWeights, NoFace
from ostec.geometry.camera import clip_matrix, to_pixels
from ostec.heads import npz_fit
from ostec.registry.components import build, demo_photo
from ostec.types import Detection, Photo, Reconstruction

ROOT = Path(__file__).parents[2]
FACE = head(yaw_deg=20, pitch_deg=5, perspective=True)
ORTHOGRAPHIC = head(yaw_deg=20, pitch_deg=5)
BOX = Detection(torch.tensor([28.0, 28, 228, 228]), torch.zeros(6, 2), 0.7)


def fit(face: Reconstruction = FACE, **changes: Any) -> dict[str, Any]:
    """What a careful program writes, in millimetres."""
    camera = face.camera
    known: dict[str, Any] = {
        "vertices": face.vertices.numpy() * 1000,
        "faces": SHAPE.faces.numpy().astype(np.int32),
        "uv": SHAPE.uv.numpy(),
        "landmark_vertices": SHAPE.landmark_vertices.numpy(),
        "K": camera.K.numpy(),
        "R": camera.R.numpy(),
        "t": camera.t.numpy() * 1000,
        "units_per_metre": 1000,
    }
    return {name: value for name, value in (known | changes).items() if value is not None}


def beside(folder: Path, arrays: dict[str, Any], name: str = "a") -> Photo:
    (folder / "a.jpg").write_bytes(b"")
    np.savez(folder / f"{name}.npz", **arrays)
    return Photo(torch.zeros(3, *FACE.camera.size), str(folder / "a.jpg"))


def read(folder: Path, arrays: dict[str, Any]) -> Reconstruction:
    return build("reconstructor", "file", folder)(beside(folder, arrays), BOX)


def require_same_fit(found: Reconstruction, face: Reconstruction) -> None:
    assert torch.allclose(found.vertices, face.vertices, atol=1e-6)
    assert (to_pixels(found.vertices, found.camera) - to_pixels(face.vertices, face.camera)).abs().max() < 0.01
    assert torch.allclose(found.camera.R, face.camera.R, atol=1e-4)
    angles = found.yaw_deg, found.pitch_deg, found.roll_deg
    assert angles == pytest.approx((face.yaw_deg, face.pitch_deg, face.roll_deg), abs=0.02)
    assert found.camera.model == face.camera.model and found.camera.size == face.camera.size


def in_millimetres(matrix: torch.Tensor) -> np.ndarray:
    return (matrix.double() @ torch.diag(torch.tensor([0.001] * 3 + [1.0])).double()).numpy()


def test_a_fit_comes_back(tmp_path: Path) -> None:
    found = read(tmp_path, fit())
    require_same_fit(found, FACE)
    assert torch.equal(found.topology.faces, SHAPE.faces) and torch.equal(found.topology.uv_faces, SHAPE.faces)
    assert found.topology.mirror is None and bool(found.topology.paintable.all())
    assert found.landmarks.score == pytest.approx(0.7)


@pytest.mark.parametrize("face", [FACE, ORTHOGRAPHIC], ids=["perspective", "orthographic"])
@pytest.mark.parametrize("rows", [[0, 1, 3], [0, 1, 2, 3]], ids=["3x4", "4x4"])
@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_a_projection_will_do(tmp_path: Path, face: Reconstruction, rows: list[int], factor: float) -> None:
    projection = factor * in_millimetres(clip_matrix(face.camera))[rows]
    arrays = fit(face, projection=projection, K=None, R=None, t=None)
    require_same_fit(read(tmp_path, arrays), face)


def test_orthographic_by_name(tmp_path: Path) -> None:
    per_millimetre = ORTHOGRAPHIC.camera.K.numpy() * [[0.001, 0, 1], [0, 0.001, 1], [0, 0, 1]]
    arrays = fit(ORTHOGRAPHIC, K=per_millimetre, camera_model="orthographic")
    require_same_fit(read(tmp_path, arrays), ORTHOGRAPHIC)


def test_without_units_the_eyes_are_63_mm_apart(tmp_path: Path) -> None:
    found = read(tmp_path, fit(units_per_metre=None))
    eyes = found.vertices[SHAPE.landmark_vertices[36:48]].view(2, 6, 3).mean(dim=1)
    assert (eyes[1] - eyes[0]).norm() == pytest.approx(0.063)
    assert (to_pixels(found.vertices, found.camera) - to_pixels(FACE.vertices, FACE.camera)).abs().max() < 0.01


def test_texture_coordinates_per_corner(tmp_path: Path) -> None:
    by_corner = SHAPE.uv[SHAPE.faces].numpy()
    shuffle = torch.randperm(len(SHAPE.uv))
    indexed = {"uv": SHAPE.uv[shuffle].numpy(), "uv_faces": shuffle.argsort()[SHAPE.faces].numpy()}
    for changes in ({"uv": by_corner}, indexed):
        found = read(tmp_path, fit() | changes).topology
        assert np.array_equal(found.uv[found.uv_faces].numpy(), by_corner)


def test_landmarks_in_the_photo_will_do(tmp_path: Path) -> None:
    """Of the vertices there, those that the camera sees."""
    points = to_pixels(FACE.vertices[SHAPE.landmark_vertices], FACE.camera)
    found = read(tmp_path, fit(landmark_vertices=None, landmarks_px=points.numpy()))
    assert (found.landmarks.points_px - points).norm(dim=1)[17:].max() < 3
    normals = torch.nn.functional.normalize(found.vertices, dim=1)[found.topology.landmark_vertices]
    assert bool((normals @ FACE.camera.R[2] < 0.3).all())


def test_what_is_not_to_be_painted_is_not(tmp_path: Path) -> None:
    paintable = np.arange(len(SHAPE.uv)) % 2 == 0
    assert np.array_equal(read(tmp_path, fit(paintable=paintable)).topology.paintable.numpy(), paintable)


def test_one_mesh_is_one_object(tmp_path: Path) -> None:
    reconstructor = build("reconstructor", "file", tmp_path)
    first, second = (reconstructor(beside(tmp_path, fit(face)), BOX) for face in (FACE, head(perspective=True)))
    other = reconstructor(beside(tmp_path, fit(uv=SHAPE.uv.numpy() / 2)), BOX)
    assert first.topology is second.topology and other.topology is not first.topology


def test_on_the_originals_mesh(tmp_path: Path) -> None:
    bare = fit(faces=None, uv=None, landmark_vertices=None)
    with pytest.raises(MissingWeights, match="trilist_full"):
        read(tmp_path, bare)
    write_topology(tmp_path)
    found = read(tmp_path, bare)
    assert found.topology.name == "ostec" and torch.equal(found.topology.faces, SHAPE.faces)
    with pytest.raises(BadWeights, match="lacks 'faces'.*3,721 vertices"):
        read(tmp_path, bare | {"vertices": bare["vertices"][:-1]})


def test_each_face_has_its_fit(tmp_path: Path) -> None:
    """Whichever order the faces are found in."""
    K = FACE.camera.K.numpy().copy()
    K[0, 2] += 300
    beside(tmp_path, fit(K=K), "a_face2")
    photo = beside(tmp_path, fit())
    reconstructor = build("reconstructor", "file")
    right = Detection(BOX.box_px + torch.tensor([300.0, 0, 300, 0]), BOX.points_px, 0.5)
    for detection, offset in ((right, 300), (BOX, 0)):
        found = reconstructor(photo, detection)
        assert found.camera.K[0, 2] == pytest.approx(128 + offset, abs=0.01)
    with pytest.raises(NoFace, match="not on the face that was found"):
        reconstructor(photo, Detection(BOX.box_px + 600, BOX.points_px, 0.5))


SQUARE, TURNED = np.eye(3), np.diag([1.0, -1.0, -1.0])
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no vertices": ({"vertices": None}, "lacks 'vertices'"),
    "flat vertices": ({"vertices": np.zeros((9, 2))}, r"vertices is float64 \[9, 2\]; numbers \[any, 3\]"),
    "not finite": ({"vertices": np.full((3721, 3), np.nan)}, "not finite"),
    "no camera": ({"K": None}, "lacks 'K'"),
    "no uv": ({"uv": None}, "lacks 'uv'"),
    "uv of another mesh": ({"uv": np.zeros((9, 2))}, r"numbers \[3721, 2\]"),
    "uv in pixels": ({"uv": SHAPE.uv.numpy() * 1024}, "must lie in 0..1"),
    "no landmarks": ({"landmark_vertices": None}, "lacks 'landmark_vertices' or 'landmarks_px'"),
    "landmarks beyond": ({"landmark_vertices": np.full(68, 3721)}, "0..3,720"),
    "five landmarks": ({"landmark_vertices": np.arange(5)}, r"numbers \[68\]"),
    "faces from 1": ({"faces": SHAPE.faces.numpy() + 1}, "0..3,720"),
    "faces of fractions": ({"faces": SHAPE.faces.numpy() + 0.5}, "integers"),
    "text": ({"t": np.array(["a", "b", "c"])}, "t is <U1"),
    "mirroring": ({"R": -SQUARE}, "not a rotation"),
    "transposed K": ({"K": FACE.camera.K.numpy().T}, "K is not"),
    "a wrong model": ({"camera_model": "fisheye"}, "'perspective' or 'orthographic'"),
    "no unit": ({"units_per_metre": 0}, "positive"),
    "flat projection": ({"projection": np.zeros((3, 4))}, "full rank"),
    "large projection": ({"projection": np.zeros((5, 4))}, r"\[3, 4\] or \[4, 4\]"),
    "y down": ({"vertices": FACE.vertices.numpy() @ TURNED * 1000}, "head frame.*1[678]"),
    "x to the right": ({"vertices": FACE.vertices.numpy()[:, [2, 1, 0]] * 1000}, "head frame"),
    "behind the camera": ({"t": -FACE.camera.t.numpy() * 1000}, "behind the camera"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, case: str) -> None:
    changes, complaint = WRONG[case]
    with pytest.raises(BadWeights, match=complaint) as refused:
        read(tmp_path, fit(**changes))
    assert "a.npz" in str(refused.value)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


def test_a_hostile_file_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile = beside(tmp_path, fit(vertices=np.array([_Runs()], dtype=object)))
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("an array ran something"))
    with pytest.raises(BadWeights, match=r"a\.npz"):
        build("reconstructor", "file")(hostile, BOX)
    photo = beside(tmp_path, fit())
    whole = (tmp_path / "a.npz").read_bytes()
    for data in (b"", b"<html>", whole[:-50], whole[: len(whole) // 2]):
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(BadWeights, match="truncated"):
            build("reconstructor", "file")(photo, BOX)


def test_a_small_file_may_not_unpack_to_a_large_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz_fit, "_LARGEST_BYTES", 1 << 20)
    photo = beside(tmp_path, fit())
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vertices.npy", bytes(1 << 21))
    with pytest.raises(BadWeights, match="unpacks to 2 MB"):
        build("reconstructor", "file")(photo, BOX)


def test_no_fit_and_no_file(tmp_path: Path) -> None:
    photo = beside(tmp_path, fit(), "b")
    with pytest.raises(MissingWeights, match=r"a\.npz is missing"):
        build("reconstructor", "file")(photo, BOX)
    with pytest.raises(MissingWeights, match="Give the path of the photo"):
        build("reconstructor", "file")(Photo(torch.zeros(3, 9, 9), "array"), BOX)
    odd = tmp_path / "[ab]*.jpg"
    odd.write_bytes(b"")
    np.savez(odd.with_suffix(".npz"), **fit())
    assert build("reconstructor", "file")(Photo(photo.rgb, str(odd)), BOX).vertices.shape == FACE.vertices.shape


def test_the_command_line_knows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", "--source_dir", str(demo_photo()), "--save_dir", str(tmp_path)]
    assert main([*run, "-g", "--reconstructor", "file"]) == 2
    assert "choose one" in capsys.readouterr().err
    assert main([*run, "-g"]) == 2
    assert "trilist_full.pkl" in capsys.readouterr().err
    assert main([*run, "--reconstructor", "file"]) == 1
    assert "astronaut.npz is missing" in capsys.readouterr().err


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own fit, written to a file and read again, gives the same mesh."""
    script = ROOT / "examples" / "04_own_fit.py"
    monkeypatch.setattr("sys.argv", [str(script), str(demo_photo()), str(tmp_path)])
    ran = runpy.run_path(str(script))
    assert torch.allclose(ran["again"].vertices, ran["fit"].vertices, atol=1e-6)
    before, after = (to_pixels(face.vertices, face.camera) for face in (ran["fit"], ran["again"]))
    assert (before - after).abs().max() < 0.05
    assert Image.open(tmp_path / "astronaut.png").size == (1024, 1024)


def test_the_worked_flame_example(tmp_path: Path) -> None:
    """The code in the documentation puts vertices where DECA's conventions put them."""
    text = (ROOT / "docs" / "other-fits.md").read_text()
    block = next(part.split("```")[0] for part in text.split("```python\n")[1:] if "def save_flame_fit" in part)
    space: dict[str, Any] = {}
    exec(block, space)
    vertices = head().vertices.numpy()
    joint, camera = np.array([0.0, -0.1, -0.02]), np.array([7.0, 0.01, 0.02])
    pose, crop_from_photo = np.array([0.1, 0.3, -0.05]), np.array([[0.5, 0, -10], [0, 0.5, -20], [0, 0, 1.0]])
    turned = (vertices - joint) @ rotation_vector(pose).T + joint
    x, y = camera[0] * (turned[:, :2] + camera[1:]).T
    crop_px = np.stack([(x + 1) * 112, (1 - y) * 112, np.ones_like(x)])
    expected = np.linalg.solve(crop_from_photo, crop_px)[:2].T
    uv = SHAPE.uv.numpy() * [1, -1] + [0, 1]
    space["save_flame_fit"](
        tmp_path / "a.npz",
        vertices=vertices,
        faces=SHAPE.faces.numpy(),
        uv=uv,
        uv_faces=SHAPE.faces.numpy(),
        landmarks_px=expected[SHAPE.landmark_vertices.numpy()],
        global_pose=pose,
        root_joint=joint,
        camera=camera,
        crop_from_photo=crop_from_photo,
    )
    found = build("reconstructor", "file").read(tmp_path / "a.npz", (480, 480))
    assert np.abs(to_pixels(found.vertices, found.camera).numpy() - expected).max() < 0.05
    assert torch.allclose(found.topology.uv, SHAPE.uv, atol=1e-6)
    assert found.yaw_deg > 10 and found.pitch_deg > 3


def rotation_vector(vector: np.ndarray) -> np.ndarray:
    """Rodrigues' formula."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
