"""Meshes as files: Wavefront OBJ with MTL, and binary glTF 2.0 (Khronos, ISO/IEC 12113)."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ostec._version import __version__
from ostec.types import Reconstruction, Topology

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAMP_TO_EDGE, _LINEAR, _LINEAR_MIPMAP_LINEAR = 33071, 9729, 9987
_GLB_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


def encode_obj(face: Reconstruction, mtl_name: str) -> bytes:
    """The mesh as OBJ text: head frame, metres; positions, uv (its v points up) and normals indexed separately.

    `mtl_name` is the material file's name relative to the OBJ's folder; OBJ takes the rest of the line, so that
    spaces are fine and line breaks are not.
    """
    shape = face.topology
    vertices, faces = _array(face.vertices, np.float32), _array(shape.faces, np.int64)
    uv, uv_faces = _array(shape.uv, np.float32), _array(shape.uv_faces, np.int64)
    corners = np.stack([faces, uv_faces, faces], axis=-1) + 1
    text = "".join(
        [
            f"# ostec {__version__}: metres, +y up\nmtllib {mtl_name}\n",
            _lines("v %.7f %.7f %.7f\n", vertices),
            _lines("vt %.7f %.7f\n", np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)),
            _lines("vn %.4f %.4f %.4f\n", vertex_normals(vertices, faces)),
            "usemtl head\n",
            _lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners.reshape(len(faces), 9)),
        ]
    )
    return text.encode("utf-8", "surrogateescape")


def with_material(obj: bytes, mtl_name: str) -> bytes:
    """OBJ text as it was, polygons, groups and all, but for its materials: the one of `encode_mtl` throughout."""
    lines = obj.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines()
    kept = [line for line in lines if line.split(maxsplit=1)[:1] not in ([b"mtllib"], [b"usemtl"])]
    ours = f"mtllib {mtl_name}\nusemtl head".encode("utf-8", "surrogateescape")
    return b"\n".join([ours, *kept, b""])


def encode_mtl(texture_name: str) -> bytes:
    """The material of `encode_obj`: the texture as it is, no highlights. `texture_name` is relative to the folder."""
    lines = ["newmtl head", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "illum 1", f"map_Kd {texture_name}", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def encode_glb(
    face: Reconstruction, texture_png: bytes, name: str = "head", extras: Mapping[str, Any] | None = None
) -> bytes:
    """The textured mesh as one binary glTF file: head frame (glTF's own: metres, +y up, the face looks along +z).

    The material is unlit where the viewer knows KHR_materials_unlit, else rough and non-metallic. A vertex is doubled
    where the texture has a seam. `extras` is stored with the asset, for example licences.
    """
    shape = face.topology
    vertices, faces = _array(face.vertices, np.float32), _array(shape.faces, np.int64)
    vertex_of, uv_of, triangles = split_at_seams(shape)
    normals = vertex_normals(vertices, faces)
    index_type = (_UINT16, np.uint16) if len(vertex_of) < 65536 else (_UINT32, np.uint32)
    positions = vertices[vertex_of]
    blobs = [
        positions.tobytes(),
        normals[vertex_of].tobytes(),
        _array(shape.uv, np.float32)[uv_of].tobytes(),
        triangles.astype(index_type[1]).tobytes(),
        texture_png,
    ]
    accessors = [
        {
            **_accessor(0, _FLOAT, len(positions), "VEC3"),
            "min": positions.min(axis=0).tolist(),
            "max": positions.max(axis=0).tolist(),
        },
        _accessor(1, _FLOAT, len(positions), "VEC3"),
        _accessor(2, _FLOAT, len(positions), "VEC2"),
        _accessor(3, index_type[0], triangles.size, "SCALAR"),
    ]
    views, binary = _buffer_views(blobs)
    document = {
        "asset": {"version": "2.0", "generator": f"ostec {__version__}", **({"extras": extras} if extras else {})},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [_PRIMITIVE]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
        **_MATERIAL,
    }
    return _container(json.dumps(document, allow_nan=False).encode("ascii"), binary)


def split_at_seams(shape: Topology) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One index per corner instead of two: vertex [P] and uv [P] of each distinct pair, and triangles [F, 3]."""
    faces, uv_faces = _array(shape.faces, np.int64), _array(shape.uv_faces, np.int64)
    count = len(shape.uv)
    pairs, triangles = np.unique(faces * count + uv_faces, return_inverse=True)
    return pairs // count, pairs % count, triangles.reshape(faces.shape)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[V, 3] float32 unit normals, weighted by area; (0, 0, 1) where no triangle with an area meets the vertex."""
    a, b, c = (vertices[faces[:, corner]].astype(np.float64) for corner in range(3))
    weighted = np.cross(b - a, c - a)
    corners = faces.ravel()
    sums = [np.bincount(corners, np.repeat(weighted[:, axis], 3), len(vertices)) for axis in range(3)]
    normals = np.stack(sums, axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    known = length > 1e-20
    return np.where(known, normals / np.where(known, length, 1), [0.0, 0.0, 1.0]).astype(np.float32)


_PRIMITIVE = {"attributes": {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}, "indices": 3, "material": 0}
_MATERIAL = {
    "extensionsUsed": ["KHR_materials_unlit"],
    "materials": [
        {
            "name": "head",
            "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}, "metallicFactor": 0, "roughnessFactor": 1},
            "extensions": {"KHR_materials_unlit": {}},
            "doubleSided": True,
        }
    ],
    "textures": [{"sampler": 0, "source": 0}],
    "images": [{"bufferView": 4, "mimeType": "image/png"}],
    "samplers": [
        {
            "magFilter": _LINEAR,
            "minFilter": _LINEAR_MIPMAP_LINEAR,
            "wrapS": _CLAMP_TO_EDGE,
            "wrapT": _CLAMP_TO_EDGE,
        }
    ],
}
"""What is the same in every file; buffer views and accessors are numbered as `encode_glb` lists them."""


def _accessor(view: int, component_type: int, count: int, kind: str) -> dict[str, Any]:
    return {"bufferView": view, "componentType": component_type, "count": count, "type": kind}


def _buffer_views(blobs: list[bytes]) -> tuple[list[dict[str, int]], bytes]:
    """Blobs one after the other, each at a multiple of four bytes: vertices, normals, uv, indices, picture."""
    targets = [_ARRAY_BUFFER] * 3 + [_ELEMENT_ARRAY_BUFFER, None]
    views, offset = [], 0
    for blob, target in zip(blobs, targets, strict=True):
        view = {"buffer": 0, "byteOffset": offset, "byteLength": len(blob)}
        views.append(view if target is None else {**view, "target": target})
        offset += len(_padded(blob))
    return views, b"".join(map(_padded, blobs))


def _container(document: bytes, binary: bytes) -> bytes:
    document, binary = _padded(document, b" "), _padded(binary)
    length = 12 + 8 + len(document) + 8 + len(binary)
    header = struct.pack("<III", _GLB_MAGIC, 2, length)
    json_head = struct.pack("<II", len(document), _JSON_CHUNK)
    return b"".join([header, json_head, document, struct.pack("<II", len(binary), _BIN_CHUNK), binary])


def _padded(blob: bytes, filler: bytes = b"\0") -> bytes:
    return blob + filler * (-len(blob) % 4)


def _lines(template: str, rows: np.ndarray) -> str:
    """The template filled once per row."""
    return (template * len(rows)) % tuple(rows.ravel().tolist())


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype, copy=False)
