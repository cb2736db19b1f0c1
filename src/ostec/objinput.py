"""Wavefront OBJ and MTL in, each index as the file has it: trimesh splits vertices at seams, and takes some for others."""

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
    corners: list[tuple[int, int]] = []
    libraries: list[Path] = []
    used: dict[bytes, None] = {}
    material = b""
    for word, rest in _lines(path):
        if word == b"v":
            vertices.append(rest.split()[:3])
        elif word == b"vt":
            uv.append([*rest.split()[:2], b"0"][:2])
        elif word == b"f":
            polygon = [_corner(text, len(vertices), len(uv)) for text in rest.split()]
            for k in range(1, len(polygon) - 1):
                corners += (polygon[0], polygon[k], polygon[k + 1])
            used[material] = None
        elif word == b"usemtl":
            material = rest
        elif word == b"mtllib":
            libraries.append(path.parent / _text(rest))
    index = np.array(corners, dtype=np.int64).reshape(-1, 3, 2)
    at = np.array(vertices, dtype=np.float64).reshape(-1, 3)
    chart = np.array([*uv, [OFF_CHART, OFF_CHART]], dtype=np.float64)
    if len(index) and not (0 <= index[..., 0].min() and index[..., 0].max() < len(at) and index[..., 1].max() < len(uv)):
        raise ValueError("a face names a vertex that is not there")
    uv_faces = np.where(index[..., 1] < 0, len(uv), index[..., 1])
    return ObjFile(at, chart, index[..., 0], uv_faces, _textures(libraries, used))


def _lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(first word, the rest) of each line; a backslash continues it."""
    for line in path.read_bytes().replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        word, _, rest = line.strip().partition(b" ")
        yield word, rest.strip()


def _corner(text: bytes, vertices: int, uv: int) -> tuple[int, int]:
    """(vertex, uv or -1) from "7", "7/3", "7//5" or "7/3/5"; negative numbers count back from the last so far."""
    words = text.split(b"/")
    vertex = int(words[0])
    chart = int(words[1]) if len(words) > 1 and words[1] else 0
    return vertex + vertices if vertex < 0 else vertex - 1, chart + uv if chart < 0 else chart - 1


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
