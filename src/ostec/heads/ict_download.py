"""ICT-FaceKit from its public OBJ files, one per shape, packed into one file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ostec.errors import BadWeights, CannotWrite
from ostec.files.obj import parse_obj
from ostec.heads.ict_files import EXPRESSIONS, IDENTITIES, VERTICES
from ostec.weights.catalogue import WeightFile
from ostec.weights.download import fetch, sha256

NEUTRAL = "generic_neutral_mesh"
SHAPES = (NEUTRAL, *(f"identity{k:03d}" for k in range(IDENTITIES)), *EXPRESSIONS)
"""The OBJ files of `FaceXModel` that are used, without their suffix."""
_LARGEST_BYTES = 1 << 25


def download_ict(
    entry: WeightFile,
    folder: Path,
    progress: Callable[[int, int], object] = lambda done, total: None,
    pause_s: float = 2.0,
) -> Path:
    """Bring `entry`, whose address is that of the OBJ files' folder, into `folder`, unless it is there.

    `progress(bytes so far, 0)` is called as they come. Shapes are kept in the folder `FILE.part` until all are
    there, so that the next call continues. Raises `CannotDownload`, `CannotWrite`; `BadWeights` where an OBJ file is
    not one of ICT-FaceKit's.
    """
    target, parts = folder / entry.file, folder / f"{entry.file}.part"
    if target.is_file():
        return target
    try:
        parts.mkdir(parents=True, exist_ok=True)
        before = 0
        for name in SHAPES:
            before += _fetch(
                f"{entry.url}/{name}.obj", parts, name, lambda done, _, had=before: progress(had + done, 0), pause_s
            )
        _pack(parts)
        (folder / f"{entry.file}.sha256").write_text(f"{sha256(parts / 'all.npz')}  {entry.file}\n")
        os.replace(parts / "all.npz", target)
        shutil.rmtree(parts)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot write {entry.file} ({error.strerror or error}).") from error
    return target


def obj_vertices(text: bytes, name: str) -> NDArray[np.float32]:
    """[V, 3]: the vertices of an OBJ file. Raises `BadWeights` where they are not as many as ICT-FaceKit's."""
    try:
        vertices = parse_obj(text).vertices
    except ValueError as error:
        raise BadWeights(f"{name} is damaged ({error}).") from error
    if len(vertices) != VERTICES or not np.isfinite(vertices).all():
        raise BadWeights(f"{name} has {len(vertices)} vertices; ICT-FaceKit's meshes have {VERTICES}, all finite.")
    return vertices.astype(np.float32)


def _fetch(url: str, parts: Path, name: str, progress: Callable[[int, int], object], pause_s: float) -> int:
    """The vertices of one OBJ file as `NAME.npy`, unless they are there; how many bytes came."""
    target, part = parts / f"{name}.npy", parts / f"{name}.obj"
    if target.is_file():
        return 0
    fetch(url, part, progress, pause_s)
    size = part.stat().st_size
    try:
        if size > _LARGEST_BYTES:
            raise BadWeights(f"{url} is {size >> 20} MB, more than any mesh of ICT-FaceKit.")
        vertices = obj_vertices(part.read_bytes(), url)
    finally:
        part.unlink()
    np.save(parts / "last.npy", vertices)
    os.replace(parts / "last.npy", target)
    return size


def _pack(parts: Path) -> None:
    """`all.npz` as `ict_files.read_shapes` wants it."""
    neutral, *others = (np.load(parts / f"{name}.npy", allow_pickle=False) for name in SHAPES)
    deltas = np.stack([vertices - neutral for vertices in others]).astype(np.float16)
    np.savez_compressed(
        parts / "all.npz",
        neutral_vertices=neutral,
        identity_deltas=deltas[:IDENTITIES],
        expression_deltas=deltas[IDENTITIES:],
        expression_names=np.array(EXPRESSIONS),
    )
