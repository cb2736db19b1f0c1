"""Renders heads from portraits as a face generator has to complete them.

python tools/generator_views.py FACES FACES.zip --out VIEWS.zip

FACES.zip is what `tools/generator_data.py` kept of FACES. Every portrait is completed by the built-in prior and
rendered as the package renders a view, from near each of the planned directions; views of which the photo itself shows
less than a third are left out. So a generator need not learn hair, clothes and rooms, which no view shows.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch
from generator_archive import listed, write_faces
from torch import Tensor

import ostec
from ostec.files.photos import load_photo
from ostec.geometry.raster import rasterise
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.texture.views import plan_views, shoot
from ostec.types import Shot

_TEXTURE_PX, _WORKERS, _CHUNK = 256, 2, 10
_PITCH_STD_DEG, _YAW_STD_DEG = 4.0, 5.0
_LEAST_SEEN = 0.35


@torch.no_grad()
def views_of(path: Path, parts: ostec.Parts, size_px: int) -> list[Shot]:
    """Pictures of the head in a photo, with what the photo shows of each as their trust; from where, follows from the
    photo's name."""
    result = ostec.complete(load_photo(path), parts, Settings(texture_size=_TEXTURE_PX, mode="soft"))
    known = (result.seen.confidence >= TRUSTED).float()
    draw = torch.Generator().manual_seed(zlib.crc32(path.name.encode()))
    shots = []
    for view in plan_views("hard"):
        pitch, yaw = torch.randn(2, generator=draw).tolist()
        turned = replace(
            view, pitch_deg=view.pitch_deg + _PITCH_STD_DEG * pitch, yaw_deg=view.yaw_deg + _YAW_STD_DEG * yaw
        )
        shot = shoot(result.reconstruction, result.texture.rgb, known, turned, size_px, rasterise)
        covered = (shot.image > 0).any(dim=0)
        if float(shot.trust[covered].mean()) >= _LEAST_SEEN:
            shots.append(shot)
    return shots


def _views_of_all(paths: Sequence[Path], size_px: int) -> list[list[Tensor]]:
    torch.set_num_threads(1)
    parts = ostec.load_parts(completer="prior", reconstructor="mediapipe")
    found = []
    for path in paths:
        try:
            found.append([shot.image for shot in views_of(path, parts, size_px)])
        except ostec.OstecError as error:
            print(f"left out: {error}", flush=True)
            found.append([])
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    options = parser.parse_args(arguments)
    rows = listed(options.kept)
    paths = [options.faces / "train" / row["file"] for row in rows]
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    found: list[tuple[Mapping[str, str], Tensor]] = []
    with ProcessPoolExecutor(_WORKERS) as pool:
        for k, faces in enumerate(pool.map(_views_of_all, chunks, [options.size] * len(chunks))):
            for row, pictures in zip(rows[k * _CHUNK :], faces, strict=False):
                stem = Path(row["file"]).stem
                found += [({**row, "file": f"{stem}_{i}.jpg"}, picture) for i, picture in enumerate(pictures)]
            print(f"{min((k + 1) * _CHUNK, len(rows))} of {len(rows)} portraits, {len(found)} views", flush=True)
    write_faces(options.out, found)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
