"""Does the completed mesh give the photo back, without seams and holes?

python benchmarks/consistency.py FOLDER [--limit N] [--mode soft|hard|auto] [--json FILE]

For each photo: PSNR between the photo and the completed mesh rendered at the photo's camera, over pixels that show
trusted texels; the mean step across ownership borders over the mean step in the 12 texels around them; texels of the
chart left unfilled. Prints medians and the worst photos.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import ostec
from ostec.files.photos import find_photos
from ostec.geometry.raster import rasterise
from ostec.geometry.render import render
from ostec.geometry.texels import bake_texels
from ostec.types import Result

_BAND_PX = 12


def consistency_db(result: Result) -> float:
    """PSNR, dB, of the mesh rendered at the photo's camera, where it shows texels the photo was trusted for."""
    trusted = ((result.seen.confidence >= 0.4) & (result.texture.confidence == result.seen.confidence)).float()
    camera = result.reconstruction.camera
    image, _ = render(result.reconstruction, torch.cat([result.texture.rgb, trusted[None]]), camera, rasterise)
    shown = image[3] > 0.99
    error = (image[:3] - result.photo.rgb)[:, shown].square().mean()
    return float(-10 * error.clamp(min=1e-10).log10())


def seam_ratio(result: Result, inside: Tensor) -> float:
    """Mean step across the border between photo and completion, over the mean step around it."""
    photo = (result.texture.confidence == result.seen.confidence) & (result.seen.confidence > -1)
    across, around = [], []
    for dim in (0, 1):
        size = inside.shape[dim] - 1
        first, second = photo.narrow(dim, 0, size), photo.narrow(dim, 1, size)
        both = inside.narrow(dim, 0, size) & inside.narrow(dim, 1, size)
        step = result.texture.rgb.diff(dim=dim + 1).abs().mean(dim=0)
        border = (first != second) & both
        near = F.max_pool2d(border.float()[None, None], 2 * _BAND_PX + 1, 1, _BAND_PX)[0, 0] > 0
        across.append(step[border])
        around.append(step[near & both & ~border])
    return float(torch.cat(across).mean() / torch.cat(around).mean())


def measure(path: Path, parts: ostec.Parts, mode: Literal["soft", "hard", "auto"]) -> dict[str, float | str]:
    """One photo's row."""
    result = ostec.complete(path, parts=parts, settings=ostec.Settings(mode=mode))
    height, width = result.seen.confidence.shape
    inside = bake_texels(result.reconstruction, (height, width), rasterise).inside
    rgb = result.texture.rgb[:, inside & (result.seen.confidence == -1)]
    return {
        "photo": path.name,
        "mode": result.report["mode"],
        "yaw_deg": result.reconstruction.yaw_deg,
        "consistency_db": consistency_db(result),
        "seam": seam_ratio(result, inside),
        "unfilled": int((~torch.isfinite(rgb).all(dim=0) | (rgb.sum(dim=0) == 0)).sum()),
        "seconds": sum(result.report["seconds"].values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--mode", default="auto", choices=["soft", "hard", "auto"])
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    photos = find_photos(options.folder, recursive=False)
    photos = photos[:: max(1, len(photos) // options.limit)] if options.limit else photos
    parts = ostec.load_parts()
    rows, failed = [], []
    for path in photos:
        try:
            rows.append(measure(path, parts, options.mode))
        except ostec.OstecError as error:
            failed.append(f"{error}")
    for key in ("consistency_db", "seam", "unfilled", "seconds"):
        values = torch.tensor([float(row[key]) for row in rows if row["mode"] == "soft" or key != "consistency_db"])
        low, median, high = torch.quantile(values, torch.tensor([0.05, 0.5, 0.95])).tolist()
        print(f"{key:15} median {median:8.3f}   5 % {low:8.3f}   95 % {high:8.3f}")
    for row in sorted(rows, key=lambda row: -float(row["seam"]))[:5]:
        print("worst seam", row)
    print(f"{len(rows)} photos, {len(failed)} failed", *failed, sep="\n  ")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "failed": failed}, indent=1))


if __name__ == "__main__":
    main()
