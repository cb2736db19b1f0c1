"""Meshes in: what OBJ and GLB files mean, and what is wrong with them, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import trimesh
from PIL import Image
from synthetic import head, paint
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from ostec.errors import BadGeometry, BadPhoto
from ostec.files import meshes
from ostec.files.glb import encode_glb
from ostec.files.meshes import read_mesh
from ostec.files.obj import encode_mtl, encode_obj, with_material
from ostec.files.photos import encode_png

FACE, TEXTURE = head(), paint(64)
SQUARE = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"


def obj(folder: Path, text: str) -> Path:
    path = folder / "mesh.obj"
    path.write_text(text)
    return path


def textured(folder: Path, text: str = SQUARE + "usemtl skin\nf 1/1 2/2 3/3 4/4\n") -> Path:
    (folder / "my skin.png").write_bytes(encode_png(TEXTURE))
    (folder / "m.mtl").write_text("newmtl other\nmap_Kd none.png\nnewmtl skin\nmap_Kd -s 1 1 1 -clamp on my skin.png\n")
    return obj(folder, "mtllib m.mtl\n" + text)


def test_what_ostec_writes_is_read_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_bytes(encode_obj(FACE, "a.mtl"))
    (tmp_path / "a.mtl").write_bytes(encode_mtl("a.png"))
    (tmp_path / "a.png").write_bytes(encode_png(TEXTURE))
    (tmp_path / "a.glb").write_bytes(encode_glb(FACE, encode_png(TEXTURE)))
    shape = FACE.topology
    for name in ("a.obj", "a.glb"):
        mesh = read_mesh(tmp_path / name, needs_texture=True)
        read = mesh.shape.topology
        assert torch.allclose(mesh.shape.vertices[read.faces], FACE.vertices[shape.faces], atol=1e-6)
        assert torch.allclose(read.uv[read.uv_faces], shape.uv[shape.uv_faces], atol=1e-6)
        assert mesh.rgb is not None and torch.allclose(mesh.rgb, TEXTURE, atol=0.6 / 255)


@pytest.mark.parametrize(
    "faces",
    [
        "f 1/1 2/2 3/3 4/4",
        "f 1/1/1 2/2/1 3/3/1 4/4/1",
        "f -4/-4 -3/-3 -2/-2 -1/-1",
        "f 1/1 2/2 \\\n 3/3 4/4",
        "f 1/1 2/2 3/3\nf 1/1 3/3 4/4",
    ],
)
def test_faces_in_every_spelling(tmp_path: Path, faces: str) -> None:
    shape = read_mesh(obj(tmp_path, f"{SQUARE}# square\n{faces}\n")).shape.topology
    assert shape.faces.tolist() == shape.uv_faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert shape.uv[:4].tolist() == [[0, 1], [1, 1], [1, 0], [0, 0]]


def test_corners_without_uv_lie_off_the_chart(tmp_path: Path) -> None:
    for bare in ("f 1//1 3//1 4//1", "f 1 3 4"):
        shape = read_mesh(obj(tmp_path, f"{SQUARE}f 1/1 2/2 3/3\n{bare}\n")).shape.topology
        assert shape.uv_faces[1].tolist() == [4, 4, 4]
        assert not bool(((shape.uv[4] >= 0) & (shape.uv[4] <= 1)).all())


def test_only_the_texture_of_the_material_in_use_counts(tmp_path: Path) -> None:
    mesh = read_mesh(textured(tmp_path), needs_texture=True)
    assert mesh.rgb is not None and mesh.rgb.shape == (3, 64, 64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no triangles"),
        (SQUARE, "no triangles"),
        ("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n", r"no texture coordinates.*Unwrap"),
        (SQUARE + "f 1/1 1/1 2/2\n", "none of its triangles has an area"),
        (SQUARE + "f 1/1 2/2 9/3\n", "damaged"),
        (SQUARE + "f 1/1 2/2 3/9\n", "damaged"),
        (SQUARE + "f 0/1 2/2 3/3\n", "damaged"),
        (SQUARE + "f -9/1 2/2 3/3\n", "damaged"),
        (SQUARE + "f 1/1 two 3/3\n", "damaged"),
        ("v 0 nan 0\n" + SQUARE + "f 1/1 2/2 3/3\n", "not finite"),
        ("v 0 0\n" + SQUARE + "f 1/1 2/2 3/3\n", "damaged"),
    ],
)
def test_what_is_no_mesh_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadGeometry, match=rf"mesh\.obj: .*{said}"):
        read_mesh(obj(tmp_path, text))


def test_other_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(b"glTF" + bytes(range(200)))
    (tmp_path / "a.stl").write_bytes(b"solid")
    trimesh.PointCloud([[0, 0, 0.0], [1, 0, 0]]).export(tmp_path / "points.glb")
    for name, said in (
        ("a.glb", "damaged"),
        ("a.stl", "obj"),
        ("none.obj", "no such file"),
        ("points.glb", "triangles"),
    ):
        with pytest.raises(BadGeometry, match=said) as raised:
            read_mesh(tmp_path / name)
        assert name in str(raised.value)


def test_huge_meshes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = textured(tmp_path)
    for limit in ("MAX_TRIANGLES", "MAX_BYTES"):
        with monkeypatch.context() as patch, pytest.raises(BadGeometry, match="Decimate"):
            patch.setattr(meshes, limit, 1)
            read_mesh(path)


def test_a_texture_is_missed_only_where_it_is_needed(tmp_path: Path) -> None:
    path = textured(tmp_path)
    (tmp_path / "my skin.png").unlink()
    assert read_mesh(path).rgb is None
    with pytest.raises(BadPhoto, match=r"mesh\.obj: .*my skin\.png: no such file"):
        read_mesh(path, needs_texture=True)
    with pytest.raises(BadGeometry, match="names no texture"):
        read_mesh(obj(tmp_path, SQUARE + "f 1/1 2/2 3/3\n"), needs_texture=True)


def test_several_textures_are_refused_where_one_is_needed(tmp_path: Path) -> None:
    path = textured(tmp_path, SQUARE + "usemtl skin\nf 1/1 2/2 3/3\nusemtl other\nf 1/1 3/3 4/4\n")
    assert read_mesh(path).rgb is None
    with pytest.raises(BadGeometry, match="2 textures: bake"):
        read_mesh(path, needs_texture=True)


def test_a_glb_of_several_parts_is_one_mesh_in_the_scene_s_frame(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    visual = TextureVisuals(
        uv=box.vertices[:, :2] + 0.5,
        material=PBRMaterial(baseColorTexture=Image.new("RGB", (32, 32), "red")),
    )
    painted = trimesh.Trimesh(box.vertices, box.faces, visual=visual, process=False)
    scene = trimesh.Scene()
    scene.add_geometry(painted, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.add_geometry(trimesh.creation.icosphere(subdivisions=1))
    scene.export(tmp_path / "two.glb")
    mesh = read_mesh(tmp_path / "two.glb", needs_texture=True)
    assert len(mesh.shape.topology.faces) == len(box.faces) + 80
    assert float(mesh.shape.vertices[:, 0].max()) == pytest.approx(5.5)
    assert float(mesh.shape.vertices[:, 0].min()) == pytest.approx(-1.0, abs=0.01)


def test_an_obj_keeps_all_but_its_materials() -> None:
    text = b"mtllib old.mtl\no head\nv 0 0 0\nusemtl a\nf 1 2 3 4\nusemtl b\nf 1 2 3\n"
    assert with_material(text, "new.mtl") == b"mtllib new.mtl\nusemtl head\no head\nv 0 0 0\nf 1 2 3 4\nf 1 2 3\n"
