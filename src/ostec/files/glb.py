"""Meshes as binary glTF 2.0 (Khronos, ISO/IEC 12113)."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ostec._version import __version__
from ostec.geometry.mesh import vertex_normals
from ostec.types import Shape, Topology

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_CLAMP, _LINEAR, _LINEAR_MIPMAP_LINEAR = 33071, 9729, 9987
_GLB_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942


def encode_glb(shape: Shape, texture_png: bytes, name: str = "head", extras: Mapping[str, Any] | None = None) -> bytes:
    """The textured mesh as one binary glTF file; the head frame is glTF's (metres, +y up, the face looks along +z).

    The material is unlit where the viewer knows KHR_materials_unlit, else rough and non-metallic. A vertex is doubled
    where the texture has a seam. `extras` is stored with the asset, for example licences.
    """
    vertex_of, uv_of, triangles = split_at_seams(shape.topology)
    normals = vertex_normals(shape.vertices, shape.topology.faces)
    normals = torch.where(normals.any(dim=1, keepdim=True), normals, torch.tensor([0.0, 0.0, 1.0]))
    index_type = (_UINT16, np.uint16) if len(vertex_of) < 65536 else (_UINT32, np.uint32)
    positions = shape.vertices.numpy()[vertex_of]
    blobs = [
        positions.tobytes(),
        normals.numpy()[vertex_of].tobytes(),
        shape.topology.uv.numpy()[uv_of].tobytes(),
        triangles.astype(index_type[1]).tobytes(),
        texture_png,
    ]
    box = {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    accessors = [
        _accessor(0, _FLOAT, len(positions), "VEC3") | box,
        _accessor(1, _FLOAT, len(positions), "VEC3"),
        _accessor(2, _FLOAT, len(positions), "VEC2"),
        _accessor(3, index_type[0], triangles.size, "SCALAR"),
    ]
    views, binary = _buffer_views(blobs)
    attributes = {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 2}
    document = {
        "asset": {"version": "2.0", "generator": f"ostec {__version__}", **({"extras": extras} if extras else {})},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [{"name": name, "primitives": [{"attributes": attributes, "indices": 3, "material": 0}]}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
        **_MATERIAL,
    }
    return _container(json.dumps(document, allow_nan=False).encode("ascii"), binary)


def split_at_seams(topology: Topology) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One index per corner instead of two: vertex [P] and uv [P] of each distinct pair, and triangles [F, 3]."""
    count = len(topology.uv)
    pairs, triangles = np.unique(topology.faces.numpy() * count + topology.uv_faces.numpy(), return_inverse=True)
    return pairs // count, pairs % count, triangles.reshape(-1, 3)


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
    "samplers": [{"magFilter": _LINEAR, "minFilter": _LINEAR_MIPMAP_LINEAR, "wrapS": _CLAMP, "wrapT": _CLAMP}],
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
        views.append(view if target is None else view | {"target": target})
        offset += len(_padded(blob))
    return views, b"".join(map(_padded, blobs))


def _container(document: bytes, binary: bytes) -> bytes:
    document, binary = _padded(document, b" "), _padded(binary)
    length = 12 + 8 + len(document) + 8 + len(binary)
    header = struct.pack("<IIIII", _GLB_MAGIC, 2, length, len(document), _JSON_CHUNK)
    return b"".join([header, document, struct.pack("<II", len(binary), _BIN_CHUNK), binary])


def _padded(blob: bytes, filler: bytes = b"\0") -> bytes:
    return blob + filler * (-len(blob) % 4)
