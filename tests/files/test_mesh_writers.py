"""OBJ and GLB: what other programs read back is what went in."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from synthetic import SHAPE, head, paint

from ostec.files.glb import encode_glb, split_at_seams
from ostec.files.obj import encode_mtl, encode_obj
from ostec.files.photos import encode_png, to_8_bit
from ostec.geometry.mesh import vertex_normals
from ostec.types import Reconstruction, Shape, Topology

NAMES = ("plain", "two words", "Größe 写真 №1")


def tube(columns: int = 12, rows: int = 5) -> Topology:
    """A closed tube on a flat texture: the column at the seam has one vertex and two places in the texture."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns + 1), indexing="ij")
    uv = torch.stack([column / columns, row / (rows - 1)], dim=-1).reshape(-1, 2)

    def triangles(index: torch.Tensor) -> torch.Tensor:
        a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
        return torch.stack([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)], dim=2).reshape(-1, 3)

    faces = triangles(row * columns + column % columns)
    uv_faces = triangles(row * (columns + 1) + column)
    nobody = torch.zeros(68, dtype=torch.int64)
    return Topology(faces, uv, uv_faces, nobody, torch.ones(rows * columns, dtype=torch.bool), None)


def tube_face() -> Reconstruction:
    shape = tube()
    row, column = torch.arange(60) // 12, torch.arange(60) % 12
    angle = column * (2 * torch.pi / 12)
    points = torch.stack([0.1 * angle.sin(), 0.1 - 0.05 * row, 0.1 * angle.cos()], dim=-1)
    return Reconstruction(points, shape, head().camera, head().landmarks, 0.0, 0.0, 0.0)


FACE = tube_face()
TEXTURE = paint(64)


def corner_values(values: torch.Tensor, faces: torch.Tensor) -> np.ndarray:
    """[F, 3, C]: whatever the numbering, what stands at each corner of each triangle."""
    return values[faces].numpy()


def chunks(glb: bytes) -> tuple[dict, bytes]:
    """A GLB taken apart by hand, with what its header promises."""
    magic, version, length = struct.unpack_from("<4sII", glb)
    assert (magic, version, length) == (b"glTF", 2, len(glb))
    json_length, json_type = struct.unpack_from("<I4s", glb, 12)
    assert json_type == b"JSON"
    bin_length, bin_type = struct.unpack_from("<I4s", glb, 20 + json_length)
    assert bin_type == b"BIN\0"
    assert json_length % 4 == bin_length % 4 == 0
    assert 28 + json_length + bin_length == length
    return json.loads(glb[20 : 20 + json_length]), glb[28 + json_length :]


def write_obj(folder: Path, name: str, face: Reconstruction = FACE) -> Path:
    (folder / f"{name}.png").write_bytes(encode_png(TEXTURE))
    (folder / f"{name}.mtl").write_bytes(encode_mtl(f"{name}.png"))
    (folder / f"{name}.obj").write_bytes(encode_obj(face, f"{name}.mtl"))
    return folder / f"{name}.obj"


def check_loaded(mesh: Any, face: Reconstruction) -> None:
    """Geometry, uv and texture as trimesh has them; its v points up."""
    shape = face.topology
    assert np.allclose(mesh.vertices[mesh.faces], corner_values(face.vertices, shape.faces), atol=1e-7)
    uv = np.asarray(mesh.visual.uv)[mesh.faces] * [1, -1] + [0, 1]
    assert np.allclose(uv, corner_values(shape.uv, shape.uv_faces), atol=1e-6)
    material: Any = mesh.visual.material
    image = material.baseColorTexture if hasattr(material, "baseColorTexture") else material.image
    assert np.array_equal(np.asarray(image.convert("RGB")), to_8_bit(TEXTURE))


@pytest.mark.parametrize("name", NAMES)
def test_obj_loads_with_its_texture(tmp_path: Path, name: str) -> None:
    mesh = trimesh.load(write_obj(tmp_path, name), process=False)
    assert isinstance(mesh, trimesh.Trimesh)
    check_loaded(mesh, FACE)


def test_obj_has_separate_indices_and_v_upwards() -> None:
    lines = [line.split() for line in encode_obj(FACE, "x.mtl").decode().splitlines()]
    table = {kind: [line[1:] for line in lines if line[0] == kind] for kind in ("v", "vt", "vn", "f")}
    shape = FACE.topology
    assert np.allclose(np.array(table["v"], float), FACE.vertices, atol=6e-8)
    assert np.allclose(np.array(table["vt"], float), shape.uv.numpy() * [1, -1] + [0, 1], atol=6e-8)
    corners = np.array([[corner.split("/") for corner in line] for line in table["f"]], int) - 1
    assert np.array_equal(corners[..., 0], shape.faces)
    assert np.array_equal(corners[..., 1], shape.uv_faces)
    assert np.array_equal(corners[..., 2], shape.faces)
    assert ["mtllib", "x.mtl"] in lines and ["usemtl", "head"] in lines


@pytest.mark.parametrize("face", [FACE, head()], ids=["with seams", "without"])
def test_glb_loads_with_its_texture(tmp_path: Path, face: Reconstruction) -> None:
    path = tmp_path / "x y.glb"
    path.write_bytes(encode_glb(face, encode_png(TEXTURE)))
    scene = trimesh.load(path, process=False)
    assert isinstance(scene, trimesh.Scene)
    (mesh,) = scene.geometry.values()
    assert isinstance(mesh, trimesh.Trimesh)
    check_loaded(mesh, face)
    normals = vertex_normals(face.vertices, face.topology.faces)
    assert np.allclose(mesh.vertex_normals[mesh.faces], normals[face.topology.faces], atol=1e-6)


def test_glb_by_hand() -> None:
    png = encode_png(TEXTURE)
    document, binary = chunks(encode_glb(FACE, png, "Größe", {"licences": {"w": "MIT"}}))
    assert document["asset"]["extras"] == {"licences": {"w": "MIT"}}
    assert document["nodes"][0]["name"] == "Größe"
    views = document["bufferViews"]
    assert all(view["byteOffset"] % 4 == 0 for view in views)
    picture = views[document["images"][0]["bufferView"]]
    assert binary[picture["byteOffset"] :][: picture["byteLength"]] == png
    primitive = document["meshes"][0]["primitives"][0]
    position = document["accessors"][primitive["attributes"]["POSITION"]]
    start = views[position["bufferView"]]["byteOffset"]
    points = np.frombuffer(binary, "<f4", position["count"] * 3, start).reshape(-1, 3)
    assert position["count"] == len(FACE.topology.uv)
    assert position["min"] == points.min(0).tolist() and position["max"] == points.max(0).tolist()
    assert "KHR_materials_unlit" in document["materials"][0]["extensions"]


def test_split_at_seams_doubles_no_more_than_it_must() -> None:
    for shape, count in ((tube(), 65), (SHAPE, len(SHAPE.uv))):
        vertex_of, uv_of, triangles = split_at_seams(shape)
        assert len(vertex_of) == count
        assert len(set(zip(vertex_of.tolist(), uv_of.tolist(), strict=True))) == count
        assert np.array_equal(vertex_of[triangles], shape.faces)
        assert np.array_equal(uv_of[triangles], shape.uv_faces)


def test_normals_are_unit_even_where_no_triangle_has_an_area() -> None:
    """The glTF validator wants it."""
    topology = replace(FACE.topology, faces=torch.cat([FACE.topology.faces, torch.tensor([[60, 60, 60]])]))
    topology = replace(topology, uv_faces=torch.cat([topology.uv_faces, torch.tensor([[0, 0, 0]])]))
    document, binary = chunks(encode_glb(Shape(torch.cat([FACE.vertices, torch.zeros(1, 3)]), topology), b""))
    view = document["bufferViews"][1]
    normals = np.frombuffer(binary, np.float32, view["byteLength"] // 4, view["byteOffset"]).reshape(-1, 3)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    assert len(normals) and [0, 0, 1] in normals.tolist()


def test_many_vertices_get_wide_indices() -> None:
    columns, rows = 299, 220
    shape = tube(columns, rows)
    face = Reconstruction(
        torch.rand(columns * rows, 3), shape, FACE.camera, FACE.landmarks, yaw_deg=0, pitch_deg=0, roll_deg=0
    )
    document, _ = chunks(encode_glb(face, b""))
    indices = document["accessors"][document["meshes"][0]["primitives"][0]["indices"]]
    assert (indices["componentType"], indices["count"]) == (5125, shape.faces.numel())


VALIDATE = """
const bytes = new Uint8Array(require('fs').readFileSync(process.argv[1]));
require('gltf-validator').validateBytes(bytes).then(report => console.log(JSON.stringify(report)));
"""


@pytest.mark.parametrize("face", [FACE, head()], ids=["with seams", "without"])
def test_khronos_validator_finds_nothing(tmp_path: Path, face: Reconstruction) -> None:
    node = shutil.which("node")
    if not node or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("needs node and `npm install gltf-validator` here or in a folder that NODE_PATH names")
    path = tmp_path / "head.glb"
    path.write_bytes(encode_glb(face, encode_png(TEXTURE), "head", {"licences": {"weights": "Apache-2.0"}}))
    said = subprocess.run([node, "-e", VALIDATE, str(path)], capture_output=True, check=True, timeout=60).stdout
    issues = json.loads(said)["issues"]
    assert (issues["numErrors"], issues["numWarnings"], issues["numInfos"]) == (0, 0, 0), issues["messages"]


def test_the_picture_in_a_glb_is_upright(tmp_path: Path) -> None:
    """(0, 0) of a uv is the top left of the picture, in glTF as here."""
    document, binary = chunks(encode_glb(head(), encode_png(TEXTURE)))
    view = document["bufferViews"][4]
    (tmp_path / "x.png").write_bytes(binary[view["byteOffset"] :][: view["byteLength"]])
    assert np.array_equal(np.asarray(Image.open(tmp_path / "x.png")), to_8_bit(TEXTURE))
    uv_accessor = document["accessors"][2]
    start = document["bufferViews"][uv_accessor["bufferView"]]["byteOffset"]
    uv = np.frombuffer(binary, "<f4", uv_accessor["count"] * 2, start).reshape(-1, 2)
    assert np.allclose(uv[split_at_seams(SHAPE)[2]], SHAPE.uv[SHAPE.uv_faces], atol=0)
