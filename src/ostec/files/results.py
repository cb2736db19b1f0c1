"""The files of one result: their names, their content, and the order in which they appear."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadSettings, CannotWrite
from ostec.files.glb import encode_glb
from ostec.files.obj import encode_mtl, encode_obj
from ostec.files.photos import encode_gif, encode_png, encode_sheet, remove, to_8_bit, write_atomically
from ostec.files.sheet import Panel, draw_sheet
from ostec.settings import FORMATS
from ostec.types import Result

Files = dict[str, tuple[str, bytes]]
"""Kind of file -> (name, content)."""


@dataclass(frozen=True)
class FileWriter:
    """Makes the files of a result (`types.Writer`)."""

    draw_sheet: Callable[[Result], Sequence[Sequence[Panel]]] = draw_sheet

    def encode(self, result: Result, name: str, formats: Sequence[str]) -> dict[str, bytes]:
        """File name -> content, the report last. Raises `BadSettings`, `CannotWrite`."""
        return dict(self._files(result, name, formats).values())

    def save(self, result: Result, save_dir: Path, name: str, formats: Sequence[str]) -> dict[str, Path]:
        """Write the files and give their paths by kind: png, obj, mtl, glb, frontal, sheet, npz, film, json.

        Each file appears complete or not at all, and `NAME.json` comes last, after an older one was removed: where it
        is, the others are. Raises `BadSettings`, `CannotWrite`.
        """
        files = self._files(result, name, formats)
        remove(save_dir / f"{name}.json")
        return write_files(files, save_dir)

    def _files(self, result: Result, name: str, formats: Sequence[str]) -> Files:
        """OBJ needs its texture beside it, so it brings the PNG along."""
        if unknown := [format for format in formats if format not in FORMATS]:
            raise BadSettings(f"no format is called {unknown[0]!r}; there is {', '.join(FORMATS)}.")
        check_name(name)
        texture_png = encode_png(result.texture.rgb)
        files: Files = {}
        if {"png", "obj"} & set(formats):
            files["png"] = (f"{name}.png", texture_png)
        if "obj" in formats:
            files |= obj_files(name, encode_obj(result.reconstruction, f"{name}.mtl"))
        if "glb" in formats:
            licences = result.report.get("licences")
            extras = {"licences": _plain(licences)} if licences else None
            files["glb"] = (f"{name}.glb", encode_glb(result.reconstruction, texture_png, printable(name), extras))
        if result.frontal is not None:
            files["frontal"] = (f"{name}_frontal.png", encode_png(result.frontal))
        files["sheet"] = (f"{name}_sheet.jpg", encode_sheet(self.draw_sheet(result)))
        if result.report.get("settings", {}).get("keep_intermediate"):
            files["npz"] = (f"{name}.npz", _encode_intermediate(result))
        if any(completion.film is not None for completion in result.completions):
            files["film"] = (f"{name}_search.gif", encode_gif(_film(result)))
        report = _plain({**result.report, "files": {kind: file for kind, (file, _) in files.items()}})
        files["json"] = (f"{name}.json", (json.dumps(report, allow_nan=False, indent=1) + "\n").encode("ascii"))
        return files


def obj_files(name: str, obj: bytes) -> Files:
    """OBJ text with its MTL."""
    return {"obj": (f"{name}.obj", obj), "mtl": (f"{name}.mtl", encode_mtl(f"{name}.png"))}


def write_files(files: Files, save_dir: Path) -> dict[str, Path]:
    """Write them in order and give their paths by kind. Raises `CannotWrite`."""
    for file, data in files.values():
        write_atomically(save_dir / file, data)
    return {kind: save_dir / file for kind, (file, _) in files.items()}


def _film(result: Result) -> Iterator[Tensor]:
    """[3, S, 2 S] frames: what was known of a view, and beside it the search's picture of it."""
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


def check_name(name: str) -> None:
    """Raise `CannotWrite` for a name that leads out of the folder, or that breaks the line in which an OBJ file names
    its material."""
    if name in ("", ".", "..") or any(letter in "/\\" or ord(letter) < 32 for letter in name):
        raise CannotWrite(
            f"{name!r} cannot be used as a file name. "
            "Give one without slashes, line breaks and other control characters."
        )


def printable(name: str) -> str:
    """The name in valid UTF-8."""
    return name.encode("utf-8", "replace").decode()
