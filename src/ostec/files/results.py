"""The files of one result: what they are called, what is in them, and in which order they appear."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadSettings, CannotWrite
from ostec.files.mesh_writers import encode_glb, encode_mtl, encode_obj, with_material
from ostec.files.photos import cannot_write, encode_gif, encode_png, encode_sheet, to_8_bit, write_atomically
from ostec.types import Result, TransferResult

Sheet = Sequence[Sequence[tuple[str, Tensor]]]
"""Rows of (caption, [3, h, w])."""


def make_writer(draw_sheet: Callable[[Result], Sheet]) -> Callable[..., Mapping[str, Path]]:
    """The writer (`interfaces.Writer`) that puts `draw_sheet`'s pictures into `NAME_sheet.jpg`."""
    return partial(save_result, draw_sheet=draw_sheet)


def save_result(
    result: Result, save_dir: Path, name: str, formats: Sequence[str], *, draw_sheet: Callable[[Result], Sheet]
) -> dict[str, Path]:
    """Write a result's files and give their paths by kind: png, obj, mtl, glb, frontal, sheet, npz, film, json.

    OBJ needs its texture beside it, so it brings the PNG along. Each file appears whole or not at all, and `NAME.json`
    comes last, after an older one was removed: where it is, the others are. Raises `BadSettings` for an unknown
    format and `CannotWrite`.
    """
    if unknown := [format for format in formats if format not in FORMATS]:
        raise BadSettings(f"no format is called {unknown[0]!r}; there is {', '.join(FORMATS)}.")
    _check_name(name, save_dir)
    texture_png = encode_png(result.texture.rgb)
    files: dict[str, tuple[str, bytes]] = {}
    for format in dict.fromkeys(formats):
        files |= FORMATS[format](result, name, texture_png)
    if result.frontal is not None:
        files["frontal"] = (f"{name}_frontal.png", encode_png(result.frontal))
    files["sheet"] = (f"{name}_sheet.jpg", encode_sheet(draw_sheet(result)))
    if result.report.get("settings", {}).get("keep_intermediate"):
        files["npz"] = (f"{name}.npz", _encode_intermediate(result))
    if any(completion.film is not None for completion in result.completions):
        files["film"] = (f"{name}_search.gif", encode_gif(_film(result)))
    report = {**result.report, "files": {kind: file for kind, (file, _) in files.items()}}
    files["json"] = (f"{name}.json", (json.dumps(_plain(report), allow_nan=False, indent=1) + "\n").encode("ascii"))

    _remove(save_dir / f"{name}.json")
    for file, data in files.values():
        write_atomically(save_dir / file, data)
    return {kind: save_dir / file for kind, (file, _) in files.items()}


def save_transfer(
    result: TransferResult, save_dir: Path, name: str, *, draw_sheet: Callable[[TransferResult], Sheet]
) -> dict[str, Path]:
    """Write a transfer's files and give their paths by kind: png, coverage, obj, mtl, glb, sheet.

    The mesh is the target's own, in its axes and unit; an OBJ keeps its polygons. Raises `CannotWrite`.
    """
    _check_name(name, save_dir)
    target, texture_png = result.target, encode_png(result.rgb)
    own = Path(target.name)
    as_it_was = own.suffix.lower() == ".obj" and own.is_file()
    files = {
        "png": (f"{name}.png", texture_png),
        "coverage": (f"{name}_coverage.png", encode_png(result.coverage.float().expand(3, -1, -1))),
        "obj": (
            f"{name}.obj",
            with_material(own.read_bytes(), f"{name}.mtl") if as_it_was else encode_obj(target.head, f"{name}.mtl"),
        ),
        "mtl": (f"{name}.mtl", encode_mtl(f"{name}.png")),
        "glb": (f"{name}.glb", encode_glb(target.head, texture_png, name.encode("utf-8", "replace").decode())),
        "sheet": (f"{name}_sheet.jpg", encode_sheet(draw_sheet(result))),
    }
    for file, data in files.values():
        write_atomically(save_dir / file, data)
    return {kind: save_dir / file for kind, (file, _) in files.items()}


def _png(result: Result, name: str, texture_png: bytes) -> dict[str, tuple[str, bytes]]:
    return {"png": (f"{name}.png", texture_png)}


def _obj(result: Result, name: str, texture_png: bytes) -> dict[str, tuple[str, bytes]]:
    return {
        **_png(result, name, texture_png),
        "obj": (f"{name}.obj", encode_obj(result.reconstruction, f"{name}.mtl")),
        "mtl": (f"{name}.mtl", encode_mtl(f"{name}.png")),
    }


def _glb(result: Result, name: str, texture_png: bytes) -> dict[str, tuple[str, bytes]]:
    licences = result.report.get("licences")
    extras = {"licences": _plain(licences)} if licences else None
    shown = name.encode("utf-8", "replace").decode()
    return {"glb": (f"{name}.glb", encode_glb(result.reconstruction, texture_png, shown, extras))}


FORMATS: Mapping[str, Callable[[Result, str, bytes], dict[str, tuple[str, bytes]]]] = {
    "png": _png,
    "obj": _obj,
    "glb": _glb,
}
"""Format -> function from (result, name, texture as PNG) to kind -> (file, content)."""


def _film(result: Result) -> Iterator[Tensor]:
    """Frame by frame [3, S, 2 S]: what was known of a view, and beside it what the search made of it."""
    for completion in result.completions:
        if completion.film is not None:
            known = completion.shot.image * completion.shot.trust
            known = F.interpolate(known[None], completion.film.shape[2:], mode="bilinear", antialias=True)[0]
            yield from (torch.cat([known, frame / 255], dim=2) for frame in completion.film)


def _encode_intermediate(result: Result) -> bytes:
    """`NAME.npz`, read with `np.load(..., allow_pickle=False)`.

    `seen_rgb` uint8 [Hu, Wu, 3], `seen_confidence` and `confidence` [Hu, Wu], `vertices` [V, 3]; for each view in
    `views`: `VIEW_known` and `VIEW_completed` uint8 [R, R, 3], `VIEW_mask` uint8 [R, R] 0..255, `VIEW_K`, `VIEW_R`,
    `VIEW_t`, `VIEW_loss` by step and, where one was searched, `VIEW_latent` [L, W].
    """
    arrays = {
        "seen_rgb": to_8_bit(result.seen.rgb),
        "seen_confidence": result.seen.confidence.cpu().numpy(),
        "confidence": result.texture.confidence.cpu().numpy(),
        "vertices": result.reconstruction.vertices.cpu().numpy(),
        "views": np.array([completion.shot.view.name for completion in result.completions], dtype=np.str_),
    }
    for completion in result.completions:
        shot, view = completion.shot, completion.shot.view.name
        arrays[f"{view}_known"] = to_8_bit(shot.image)
        arrays[f"{view}_completed"] = to_8_bit(completion.image)
        arrays[f"{view}_mask"] = to_8_bit(shot.trust[None])[..., 0]
        for matrix in ("K", "R", "t"):
            arrays[f"{view}_{matrix}"] = getattr(shot.camera, matrix).cpu().numpy()
        arrays[f"{view}_loss"] = np.array(completion.history, dtype=np.float32)
        if completion.latent is not None:
            arrays[f"{view}_latent"] = completion.latent.detach().cpu().numpy()
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _plain(value: Any) -> Any:
    """What JSON can hold: tensors and arrays as lists, NaN and infinity as null, anything else unknown as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _check_name(name: str, save_dir: Path) -> None:
    """A name must not lead out of the folder, nor break the line in which an OBJ file names its material."""
    if name in ("", ".", "..") or any(letter in "/\\" or ord(letter) < 32 for letter in name):
        raise CannotWrite(
            f"{str(save_dir / 'NAME')!r}: {name!r} cannot be used as a file name. "
            "Give one without slashes, line breaks and other control characters."
        )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
