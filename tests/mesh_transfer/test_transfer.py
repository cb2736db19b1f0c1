"""Transfer: paint that is a function of the place comes out as that function, on any mesh of the same head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from synthetic import head as small_head
from synthetic import paint
from torch import Tensor

import ostec
from ostec import cli
from ostec.errors import BadGeometry, BadSettings, NoFace
from ostec.files.glb import encode_glb
from ostec.files.meshes import plain_shape
from ostec.files.obj import encode_mtl, encode_obj
from ostec.files.photos import encode_png
from ostec.geometry.camera import rotation
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.mesh_transfer.find import POINTS, find_points
from ostec.mesh_transfer.result import TransferResult
from ostec.mesh_transfer.texture_transfer import Pairs, transfer_texture
from ostec.registry.components import build, neutral_head
from ostec.types import Mesh

HEAD = neutral_head("mediapipe")
TURN = rotation(10.0, 160.0, 80.0)
BLENDER = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""Head frame -> z up, looking along -y."""


def colours(points: Tensor) -> Tensor:
    """[..., 3]: no two places of the head look alike."""
    x, y, z = (30 * points).unbind(dim=-1)
    return torch.stack([0.5 + 0.4 * torch.sin(x), 0.5 + 0.4 * torch.sin(y), 0.5 + 0.4 * torch.sin(z + x + 1)], dim=-1)


def painted(mesh: Mesh, size: int = 512) -> Mesh:
    """With `colours` in its own frame, and black beside its chart."""
    texels = bake_texels(mesh.shape, (size, size), rasterise)
    return replace(mesh, rgb=colours(texels.points).permute(2, 0, 1) * texels.inside)


SOURCE = painted(HEAD)


def moved(points: Tensor) -> Tensor:
    """Turned, in millimetres, elsewhere."""
    return 1000 * points @ TURN.T + torch.tensor([10.0, 2000, -30])


def put_back(points: Tensor) -> Tensor:
    return (points - torch.tensor([10.0, 2000, -30])) @ TURN / 1000


def other() -> Mesh:
    """The head in four times the triangles, in another order, with other UVs, `moved`."""
    points, triangles, *_ = trimesh.remesh.subdivide(HEAD.shape.vertices.numpy(), HEAD.shape.topology.faces.numpy())
    order = np.random.default_rng(0).permutation(len(points))
    faces, places = torch.from_numpy(np.argsort(order)[triangles]), torch.from_numpy(points[order]).float()
    uv = torch.stack([0.5 + torch.atan2(places[:, 0], places[:, 2] + 0.05) / 7, 0.5 + 2 * places[:, 1]], dim=1)
    return Mesh(plain_shape(moved(places), faces, uv, faces), None, "other.obj")


MARKS = HEAD.shape.vertices[HEAD.shape.topology.landmark_vertices]
PAIRS = Pairs(MARKS.double(), moved(MARKS).double(), torch.ones(68).double(), MARKS.double(), MARKS.double())


def carried_over(source: Mesh, target: Mesh, pairs: Pairs = PAIRS, size: int = 256) -> TransferResult:
    return transfer_texture(source, target, pairs, size)


def errors(result: TransferResult) -> Tensor:
    """[N]: how far off the colours are, of texels with a counterpart."""
    texels = bake_texels(result.target.shape, (256, 256), rasterise)
    expected = colours(put_back(texels.points)).permute(2, 0, 1)
    return (result.rgb - expected)[:, result.coverage].abs().amax(dim=0)


def test_paint_is_where_it_was_on_other_triangles() -> None:
    result = carried_over(SOURCE, other())
    texels = bake_texels(result.target.shape, (256, 256), rasterise)
    assert float(result.coverage.sum()) > 0.97 * float(texels.inside.sum())
    off = errors(result)
    assert float(off.mean()) < 0.01
    assert float(off.quantile(0.98)) < 0.03
    assert torch.allclose(put_back(result.target.shape.vertices), result.fitted, atol=0.001)
    assert torch.allclose(result.upright_target, result.fitted, atol=0.001)


def test_clockwise_triangles_are_turned_round() -> None:
    target = other()
    shape = replace(
        target.shape.topology,
        faces=target.shape.topology.faces.flip(1),
        uv_faces=target.shape.topology.uv_faces.flip(1),
    )
    result, expected = (
        carried_over(SOURCE, replace(target, shape=replace(target.shape, topology=shape))),
        carried_over(SOURCE, target),
    )
    assert torch.equal(result.coverage, expected.coverage)
    assert torch.allclose(result.rgb, expected.rgb, atol=1e-3)


def test_a_mirrored_texture_would_be_noticed() -> None:
    """The head is symmetric, so that only the paint tells its sides apart."""
    assert SOURCE.rgb is not None
    assert float(errors(carried_over(replace(SOURCE, rgb=SOURCE.rgb.flip(2)), other())).mean()) > 0.2


def test_a_bent_head_gets_each_paint_at_its_feature() -> None:
    def wide(points: Tensor) -> Tensor:
        x, y, z = points.unbind(dim=-1)
        return torch.stack([1.15 * x, 0.95 * y, z + 0.004 * torch.sin(40 * y)], dim=-1)

    target = Mesh(replace(HEAD.shape, vertices=wide(HEAD.shape.vertices)), None, "wide.obj")
    result = carried_over(SOURCE, target, PAIRS._replace(target=wide(MARKS).double()))
    texels = bake_texels(HEAD.shape, (256, 256), rasterise)
    off = (result.rgb - colours(texels.points).permute(2, 0, 1))[:, result.coverage].abs().amax(dim=0)
    assert float(off.median()) < 0.05
    assert float(off.quantile(0.9)) < 0.15


def test_what_has_no_counterpart_is_filled_in_and_marked() -> None:
    """A source that is a half head, and a ball behind the face."""
    half = HEAD.shape.vertices[HEAD.shape.topology.faces][..., 0].amax(dim=1) < 0
    shape = replace(
        HEAD.shape.topology, faces=HEAD.shape.topology.faces[half], uv_faces=HEAD.shape.topology.uv_faces[half]
    )
    source = replace(SOURCE, shape=replace(SOURCE.shape, topology=shape))
    result = carried_over(source, other())
    texels = bake_texels(result.target.shape, (256, 256), rasterise)
    x = put_back(texels.points)[..., 0]
    assert not bool(result.coverage[texels.inside & (x > 0.004)].any())
    assert float(result.coverage[texels.inside & (x < -0.004)].float().mean()) > 0.95
    assert not bool(result.coverage[~texels.inside].any())
    assert bool(((result.rgb >= 0) & (result.rgb <= 1)).all()) and float(result.rgb.amin()) > 0.02


def test_an_eyeball_takes_no_colour_from_its_back() -> None:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.012)
    centre = MARKS[36:42].mean(dim=0) - torch.tensor([0.0, 0, 0.012])
    places = torch.from_numpy(ball.vertices).float() + centre
    count, uv_count = len(HEAD.shape.vertices), len(HEAD.shape.topology.uv)
    faces = torch.from_numpy(ball.faces.astype(np.int64))
    uv = 0.5 + torch.stack([places[:, 0] - centre[0], places[:, 1] - centre[1]], dim=1) / 0.03
    apart = torch.cat([HEAD.shape.topology.uv + 2, uv])
    shape = plain_shape(
        torch.cat([HEAD.shape.vertices, places]),
        torch.cat([HEAD.shape.topology.faces, faces + count]),
        apart,
        torch.cat([HEAD.shape.topology.uv_faces, faces + uv_count]),
    )
    front = places[faces].mean(dim=1)[:, 2] > float(centre[2])
    for side, seen in ((front, True), (~front, False)):
        keep = torch.cat([torch.ones(len(HEAD.shape.topology.faces), dtype=torch.bool), side])
        topology = replace(shape.topology, faces=shape.topology.faces[keep], uv_faces=shape.topology.uv_faces[keep])
        target = Mesh(replace(shape, topology=topology), None, "eye.obj")
        if not seen:
            with pytest.raises(BadGeometry, match="hardly any"):
                carried_over(SOURCE, target, PAIRS._replace(target=MARKS.double()))
            continue
        result = carried_over(SOURCE, target, PAIRS._replace(target=MARKS.double()))
        assert bool(result.coverage[128, 128])


@pytest.mark.parametrize("turn", [torch.eye(3), BLENDER], ids=["y up", "z up"])
def test_the_face_is_found_on_bare_plaster_in_any_unit(turn: Tensor) -> None:
    """FaceMesh's points, to the accuracy that a network has on plaster."""
    finders = build("detector", "mediapipe"), build("reconstructor", "mediapipe")
    mesh = replace(HEAD, shape=replace(HEAD.shape, vertices=100 * HEAD.shape.vertices @ turn.T + 7))
    found = find_points(mesh, *finders)
    seen = found.weights > 0
    assert int(seen.sum()) > 350
    off = (found.points - mesh.shape.vertices[:POINTS]).norm(dim=1)[seen] / 100
    assert float(off.median()) < 0.006
    upright = (found.shape - HEAD.shape.vertices[:POINTS]).norm(dim=1)
    assert float(upright.median()) < 0.02


def test_what_is_no_face_is_named() -> None:
    ball = trimesh.creation.icosphere(subdivisions=2)
    faces = torch.from_numpy(ball.faces.astype(np.int64))
    mesh = Mesh(
        plain_shape(torch.from_numpy(ball.vertices).float(), faces, torch.rand(len(ball.vertices), 2), faces),
        None,
        "ball.obj",
    )
    with pytest.raises(NoFace, match=r"ball\.obj: no face .*--landmarks"):
        find_points(mesh, build("detector", "mediapipe"), build("reconstructor", "mediapipe"))


def test_what_it_takes_is_asked_for() -> None:
    with pytest.raises(BadGeometry, match="has no texture"):
        carried_over(HEAD, other())
    with pytest.raises(BadSettings, match="texture_size is 5"):
        carried_over(SOURCE, other(), size=5)
    target = other()
    shifted = replace(target.shape.topology, uv=target.shape.topology.uv + 3)
    with pytest.raises(BadGeometry, match=r"other\.obj: its UVs lie outside"):
        carried_over(SOURCE, replace(target, shape=replace(target.shape, topology=shifted)))


def write(folder: Path, name: str, mesh: Mesh) -> Path:
    (folder / f"{name}.obj").write_bytes(encode_obj(mesh.shape, f"{name}.mtl"))
    (folder / f"{name}.mtl").write_bytes(encode_mtl(f"{name}.png"))
    if mesh.rgb is not None:
        (folder / f"{name}.png").write_bytes(encode_png(mesh.rgb))
    return folder / f"{name}.obj"


def landmarks(folder: Path) -> Path:
    rows = torch.cat([PAIRS.source, PAIRS.target], dim=1)[::4]
    np.savetxt(folder / "points.txt", rows.numpy(), header="source, target")
    return folder / "points.txt"


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = write(tmp_path, "a", painted(HEAD, 128)), write(tmp_path, "b", other())
    flags = ("--save_dir", str(tmp_path / "out"), "--texture-size", "128", "--landmarks", str(landmarks(tmp_path)))
    assert cli.main(["transfer", str(source), str(target), *flags]) == 0
    assert "a_on_b_sheet.jpg" in capsys.readouterr().out
    endings = (".png", "_coverage.png", ".obj", ".mtl", ".glb", "_sheet.jpg")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"a_on_b{ending}" for ending in endings}
    lines = target.read_text().splitlines()
    written = (tmp_path / "out" / "a_on_b.obj").read_text().splitlines()
    assert [line for line in written if line.startswith(("v ", "vt", "f "))] == [
        line for line in lines if line.startswith(("v ", "vt", "f "))
    ]
    again = ostec.transfer(tmp_path / "out" / "a_on_b.glb", "mediapipe", 64, landmarks=reversed_landmarks(tmp_path))
    texels = bake_texels(HEAD.shape, (64, 64), rasterise)
    off = (again.rgb - colours(texels.points).permute(2, 0, 1)).abs().amax(dim=0)
    assert float(off[again.coverage].median()) < 0.03


def reversed_landmarks(folder: Path) -> Path:
    np.savetxt(folder / "back.txt", np.loadtxt(folder / "points.txt")[:, [3, 4, 5, 0, 1, 2]])
    return folder / "back.txt"


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "six numbers"), ("1 2 3\n", "x y z"), ("1 2 3 4 5 x\n", "x y z"), ("1 2 3 4 5 6\n" * 5, "span the face")],
)
def test_bad_landmarks_are_2_and_named(tmp_path: Path, capsys, text: str, said: str) -> None:
    source = write(tmp_path, "a", Mesh(small_head(), paint(64), "a"))
    (tmp_path / "points.txt").write_text(text)
    flags = ("--save_dir", str(tmp_path / "out"), "--landmarks", str(tmp_path / "points.txt"))
    assert cli.main(["transfer", str(source), str(source), *flags]) == 2
    assert said in capsys.readouterr().err


def test_bad_files_are_2_and_named(tmp_path: Path, capsys) -> None:
    (tmp_path / "c.glb").write_bytes(encode_glb(HEAD.shape, encode_png(paint(64))))
    for source, target, said in (("none.obj", "c.glb", "none.obj"), ("c.glb", "nowhere.obj", "nowhere.obj")):
        assert cli.main(["transfer", str(tmp_path / source), str(tmp_path / target), "--save_dir", str(tmp_path)]) == 2
        assert said in capsys.readouterr().err
