"""Wavefront OBJ and MTL in, vertices in the file's order: trimesh splits them at seams, and mixed up UVs of some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

OFF_CHART = -1.0
"""Both texture coordinates of corners that have none."""
_TAKES = {b"-s": 3, b"-o": 3, b"-t": 3, b"-mm": 2}
"""Options of a map in an MTL file that are followed by more than one word."""


@dataclass(frozen=True)
class ObjFile:
    """Polygons cut into triangles, fan by fan."""

    vertices: NDArray[np.float64]
    """[V, 3], in the file's order."""
    uv: NDArray[np.float64]
    """[T + 1, 2], v up; the last is `OFF_CHART`."""
    faces: NDArray[np.int64]
    """[F, 3]."""
    uv_faces: NDArray[np.int64]
    """[F, 3]."""
    textures: tuple[Path, ...]
    """What the materials in use name as their colour, whether it is there or not."""


def read_obj(path: Path) -> ObjFile:
    """Raises `ValueError` where a line makes no sense, `OSError` where the file cannot be read."""
    vertices: list[list[bytes]] = []
    uv: list[list[bytes]] = []
    polygons: list[bytes] = []
    libraries: list[Path] = []
    used: dict[bytes, None] = {}
    material = b""
    for word, rest in _lines(path):
        if word == b"v":
            vertices.append(rest.split()[:3])
        elif word == b"vt":
            uv.append([*rest.split()[:2], b"0"][:2])
        elif word == b"f":
            polygons.append(_counted_from_the_start(rest, len(vertices), len(uv)) if b"-" in rest else rest)
            used[material] = None
        elif word == b"usemtl":
            material = rest
        elif word == b"mtllib":
            libraries.append(path.parent / _text(rest))
    corners = _corners(polygons)
    at = np.array(vertices, dtype=np.bytes_).astype(np.float64).reshape(-1, 3)
    chart = np.array([*uv, [b"%g" % OFF_CHART] * 2]).astype(np.float64)
    if len(corners) and not (corners[:, 0].min() >= 0 and (corners.max(axis=0) < (len(at), len(uv))).all()):
        raise ValueError("a face names a vertex that is not there")
    corners[corners[:, 1] < 0, 1] = len(uv)
    triangles = corners[_fans(np.array([len(polygon.split()) for polygon in polygons], dtype=np.int64))]
    return ObjFile(at, chart, triangles[..., 0], triangles[..., 1], _textures(libraries, used))


def _lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(first word, the rest) of each line; a backslash continues it."""
    for line in path.read_bytes().replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        word, _, rest = line.strip().partition(b" ")
        yield word, rest.strip()


def _counted_from_the_start(polygon: bytes, vertices: int, uv: int) -> bytes:
    """The corners of a face with negative numbers, which count back from the last so far, as positive ones."""
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
    found: dict[Path, None] = {}
    material = b""
    for library in libraries:
        if not library.is_file():
            continue
        for word, rest in _lines(library):
            if word == b"newmtl":
                material = rest
            elif word == b"map_Kd" and material in used:
                found[library.parent / _text(_without_options(rest)).replace("\\", "/")] = None
    return tuple(found)


def _without_options(rest: bytes) -> bytes:
    while rest.startswith(b"-"):
        option, *others = rest.split()
        rest = b" ".join(others[_TAKES.get(option, 1) :])
    return rest


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
