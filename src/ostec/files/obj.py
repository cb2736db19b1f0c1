"""Wavefront OBJ and MTL in and out. trimesh's reader splits vertices at seams, so it cannot keep the file's order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ostec._version import __version__
from ostec.geometry.mesh import vertex_normals
from ostec.types import Shape

OFF_CHART = -1.0
"""Both texture coordinates of corners that have none."""
_MAP_OPTION_WORDS = {b"-s": 3, b"-o": 3, b"-t": 3, b"-mm": 2}
"""Options of a map in an MTL file that take more than one word."""


class MeshFile(NamedTuple):
    """The content of a mesh file; polygons are split into triangle fans."""

    vertices: NDArray[Any]
    """[V, 3], in the file's order."""
    uv: NDArray[Any]
    """[T, 2], v up; of an OBJ file the last is `OFF_CHART`."""
    faces: NDArray[np.int64]
    """[F, 3]."""
    uv_faces: NDArray[np.int64]
    """[F, 3]."""
    textures: tuple[Any, ...]
    """Colours of the materials in use: pictures, or of an OBJ file paths, whether they exist or not."""


def encode_obj(shape: Shape, mtl_name: str) -> bytes:
    """The mesh as OBJ text: its own frame and unit; positions, uv (v points up) and normals indexed separately.

    `mtl_name` is the material file's name relative to the OBJ's folder; OBJ takes the rest of the line, so that
    spaces are fine and line breaks are not.
    """
    topology = shape.topology
    uv = topology.uv * topology.uv.new_tensor([1, -1]) + topology.uv.new_tensor([0, 1])
    corners = np.stack([topology.faces, topology.uv_faces, topology.faces], axis=-1) + 1
    text = "".join(
        [
            f"# ostec {__version__}: metres, +y up\nmtllib {mtl_name}\n",
            _rows("v %.7f %.7f %.7f\n", shape.vertices.numpy()),
            _rows("vt %.7f %.7f\n", uv.numpy()),
            _rows("vn %.4f %.4f %.4f\n", vertex_normals(shape.vertices, topology.faces).numpy()),
            "usemtl head\n",
            _rows("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners.reshape(len(corners), 9)),
        ]
    )
    return text.encode("utf-8", "surrogateescape")


def with_material(obj: bytes, mtl_name: str) -> bytes:
    """OBJ text unchanged, polygons and groups included, except that all of it has the material of `encode_mtl`."""
    lines = obj.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines()
    kept = [line for line in lines if line.split(maxsplit=1)[:1] not in ([b"mtllib"], [b"usemtl"])]
    ours = f"mtllib {mtl_name}\nusemtl head".encode("utf-8", "surrogateescape")
    return b"\n".join([ours, *kept, b""])


def encode_mtl(texture_name: str) -> bytes:
    """The material of `encode_obj`: the texture without highlights. `texture_name` is relative to the folder."""
    lines = ["newmtl head", "Ka 1 1 1", "Kd 1 1 1", "Ks 0 0 0", "illum 1", f"map_Kd {texture_name}", ""]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def parse_obj(text: bytes, folder: Path | None = None) -> MeshFile:
    """The mesh in OBJ text; material files are looked for in `folder`. Raises `ValueError` for a line without sense."""
    vertices: list[list[bytes]] = []
    uv: list[list[bytes]] = []
    polygons: list[bytes] = []
    libraries: list[Path] = []
    used: dict[bytes, None] = {}
    material = b""
    for word, rest in _lines(text):
        if word == b"v":
            vertices.append(rest.split()[:3])
        elif word == b"vt":
            uv.append([*rest.split()[:2], b"0"][:2])
        elif word == b"f":
            polygons.append(_absolute(rest, len(vertices), len(uv)) if b"-" in rest else rest)
            used[material] = None
        elif word == b"usemtl":
            material = rest
        elif word == b"mtllib" and folder is not None:
            libraries.append(folder / _text(rest))
    corners = _corners(polygons)
    at = np.array(vertices, dtype=np.bytes_).astype(np.float64).reshape(-1, 3)
    chart = np.array([*uv, [b"%g" % OFF_CHART] * 2]).astype(np.float64)
    if len(corners) and not (corners[:, 0].min() >= 0 and (corners.max(axis=0) < (len(at), len(uv))).all()):
        raise ValueError("a face names a vertex that is not there")
    corners[corners[:, 1] < 0, 1] = len(uv)
    triangles = corners[_fans(np.array([len(polygon.split()) for polygon in polygons], dtype=np.int64))]
    return MeshFile(at, chart, triangles[..., 0], triangles[..., 1], _textures(libraries, used))


def _rows(template: str, rows: np.ndarray) -> str:
    """The template filled once per row."""
    return (template * len(rows)) % tuple(rows.ravel().tolist())


def _lines(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(first word, the rest) of each line; a backslash continues it."""
    for line in text.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        word, _, rest = line.strip().partition(b" ")
        yield word, rest.strip()


def _absolute(polygon: bytes, vertices: int, uv: int) -> bytes:
    """The corners of a face whose negative numbers count back from the last vertex so far, as positive ones."""
    counts = vertices, uv, 0
    corners = []
    for corner in polygon.split():
        numbers = zip(corner.split(b"/"), counts, strict=False)
        corners.append(b"/".join(b"%d" % (count + 1 + int(n)) if n.startswith(b"-") else n for n, count in numbers))
    return b" ".join(corners)


def _corners(polygons: list[bytes]) -> NDArray[np.int64]:
    """[C, 2] vertex and uv (-1: none) of each corner of all faces, from "7", "7/3", "7//5" or "7/3/5"."""
    text = b" ".join(polygons).replace(b"//", b"/0/")
    words = text.split()
    per_corner = text.count(b"/") // max(len(words), 1) + 1
    if all(word.count(b"/") == per_corner - 1 for word in words):
        numbers = np.array(text.replace(b"/", b" ").split(), dtype=np.bytes_).astype(np.int64)
        numbers = numbers.reshape(-1, per_corner)[:, :2]
    else:
        numbers = np.array([[*word.split(b"/"), b"0"][:2] for word in words]).astype(np.int64)
    return np.pad(numbers, ((0, 0), (0, 2 - numbers.shape[1]))) - 1


def _fans(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """[F, 3]: corners of triangles, from polygons of so many corners one after the other."""
    fans = np.maximum(sizes - 2, 0)
    starts = np.repeat(np.cumsum(sizes) - sizes, fans)
    step = np.arange(len(starts)) - np.repeat(np.cumsum(fans) - fans, fans) + 1
    return np.stack([starts, starts + step, starts + step + 1], axis=1)


def _textures(libraries: list[Path], used: dict[bytes, None]) -> tuple[Path, ...]:
    """The colour maps of the materials in use."""
    found: dict[Path, None] = {}
    material = b""
    for library in filter(Path.is_file, libraries):
        for word, rest in _lines(library.read_bytes()):
            if word == b"newmtl":
                material = rest
            elif word == b"map_Kd" and material in used:
                while rest.startswith(b"-"):
                    option, *others = rest.split()
                    rest = b" ".join(others[_MAP_OPTION_WORDS.get(option, 1) :])
                found[library.parent / _text(rest).replace("\\", "/")] = None
    return tuple(found)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
