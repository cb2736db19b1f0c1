"""Meshes read from files of any program: Wavefront OBJ with its MTL and texture, and binary glTF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ostec.errors import BadGeometry, BadPhoto
from ostec.files.obj import OFF_CHART, MeshFile, parse_obj
from ostec.files.photos import MIN_SIDE_PX, load_photo
from ostec.types import Mesh, Shape, Topology

MAX_TRIANGLES = 2_000_000
MAX_BYTES = 1 << 29


def read_mesh(path: Path, needs_texture: bool = False) -> Mesh:
    """A mesh from an .obj or .glb file: all its parts as one, vertices in the file's order, its own axes and unit.

    `rgb` is its texture, or None where it has none, or several, or one that cannot be read; with `needs_texture` these
    are errors. Raises `BadGeometry`, and `BadPhoto` for the texture.
    """
    if path.suffix.lower() not in (".obj", ".glb"):
        raise BadGeometry(f"{path}: not an .obj or .glb file. Export the mesh as one of them.")
    if not path.is_file():
        raise BadGeometry(f"{path}: no such file. Check the spelling.")
    if path.stat().st_size > MAX_BYTES:
        raise BadGeometry(f"{path}: {path.stat().st_size >> 20} MB are more than {MAX_BYTES >> 20}. Decimate the mesh.")
    try:
        parts = parse_obj(path.read_bytes(), path.parent) if path.suffix.lower() == ".obj" else _from_glb(path)
    except Exception as error:  # trimesh lets through whatever its parsers meet in a broken file
        raise BadGeometry(
            f"{path}: damaged, or not what its ending says ({type(error).__name__}: {error}). Export the mesh again."
        ) from error
    _check(parts, path)
    uv = np.stack([parts.uv[:, 0], 1 - parts.uv[:, 1]], axis=1)
    arrays = parts.vertices.astype(np.float32), parts.faces, uv.astype(np.float32), parts.uv_faces
    return Mesh(plain_shape(*map(torch.from_numpy, arrays)), _texture(parts.textures, path, needs_texture), str(path))


def plain_shape(vertices: Tensor, faces: Tensor, uv: Tensor, uv_faces: Tensor) -> Shape:
    """A mesh of which no landmarks are known, all of it to be painted."""
    unknown, everywhere = torch.zeros(0, dtype=torch.int64), torch.ones(len(vertices), dtype=torch.bool)
    return Shape(vertices, Topology(faces, uv, uv_faces, unknown, everywhere, None, "mesh"))


def _from_glb(path: Path) -> MeshFile:
    import trimesh

    scene: Any = trimesh.load(path, file_type="glb", force="scene", process=False)
    parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    pairs = list(zip(parts, starts, strict=False))
    empty = np.zeros((0, 3))
    vertices = np.concatenate([empty, *(part.vertices for part in parts)])
    faces = np.concatenate([empty, *(part.faces + start for part, start in pairs)]).astype(np.int64)
    uv = np.concatenate([empty[:, :2], *(_uv(part) for part in parts)])
    pictures = {}
    for part in parts:
        picture = getattr(getattr(part.visual, "material", None), "baseColorTexture", None)
        if picture is not None:
            pictures[picture.tobytes()] = picture
    return MeshFile(vertices, uv, faces, faces, tuple(pictures.values()))


def _uv(part: Any) -> np.ndarray:
    """[V, 2] of a part of a scene."""
    uv = getattr(part.visual, "uv", None)
    return np.full((len(part.vertices), 2), OFF_CHART) if uv is None else np.asarray(uv)[:, :2]


def _check(parts: MeshFile, path: Path) -> None:
    if not len(parts.faces):
        raise BadGeometry(f"{path}: holds no triangles. Give a mesh with faces, not points or curves.")
    if len(parts.faces) > MAX_TRIANGLES:
        raise BadGeometry(f"{path}: {len(parts.faces):,} triangles are more than {MAX_TRIANGLES:,}. Decimate the mesh.")
    if not np.isfinite(parts.vertices).all() or not np.isfinite(parts.uv).all():
        raise BadGeometry(f"{path}: has coordinates that are not finite numbers. Export the mesh again.")
    a, b, c = (parts.vertices[parts.faces[:, corner]] for corner in range(3))
    if not np.cross(b - a, c - a).any():
        raise BadGeometry(f"{path}: none of its triangles has an area. Export the mesh again.")
    if not (parts.uv[parts.uv_faces] != OFF_CHART).any():
        raise BadGeometry(f"{path}: has no texture coordinates (UV). Unwrap the mesh, and export it with them.")


def _texture(textures: tuple[Any, ...], path: Path, needed: bool) -> Tensor | None:
    try:
        if len(textures) == 1:
            return load_photo(textures[0]).rgb
    except BadPhoto as error:
        if needed:
            raise BadPhoto(f"{path}: its texture: {error}") from error
    if needed:
        found = f"has {len(textures)} textures: bake them into one" if textures else "names no texture (map_Kd)"
        raise BadGeometry(f"{path}: {found}. Give an OBJ with its MTL and one picture of {MIN_SIDE_PX} px, or a GLB.")
    return None
