"""Is completion as good on dark skin as on light skin?

python benchmarks/fairness.py FOLDER JSON [--yaw 45]

FOLDER holds the photos and JSON what `ostec bench completion --protocol hold-out` wrote about them. Groups the faces
by the individual typology angle of their seen skin (Chardon et al., 1991: arctan((L* - 50) / b*)), and prints each
group's mean figures by method. Light on the photo changes the angle: it tells tone in the picture, not of the person.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import ostec
from ostec.bench.scores import lab
from ostec.files.photos import load_photo
from ostec.geometry.texels import bake_texels
from ostec.texture.unwrap import TRUSTED, unwrap

_GROUPS = {"very light or light": 41.0, "intermediate": 28.0, "tan": 10.0, "brown": -30.0, "dark": -90.0}
"""Name -> least angle, degrees."""


def skin_angle_deg(path: Path, parts: ostec.Parts) -> float:
    """Individual typology angle of the median colour of what the photo shows of the face."""
    photo = load_photo(path)
    face = parts.reconstructor(photo, parts.detector(photo)[0])
    texels = bake_texels(face, (128, 128), parts.rasterise)
    seen = unwrap(photo.rgb, face.camera, face, texels, parts.rasterise, parts.segmenter(photo, face))
    colour: Tensor = seen.rgb[:, seen.confidence >= TRUSTED].median(dim=1).values
    lightness, _, yellow = lab(colour[:, None])[:, 0].tolist()
    return math.degrees(math.atan2(lightness - 50, yellow))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("json", type=Path)
    parser.add_argument("--yaw", type=float, default=45.0)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    scores = json.loads(options.json.read_text())["per_face"]
    scores = [s for s in scores if s["yaw_deg"] == options.yaw and s["variant"] == "plain"]
    parts = ostec.load_parts()
    angles = {name: skin_angle_deg(options.folder / name, parts) for name in sorted({s["photo"] for s in scores})}
    table = Table("skin", "method", "faces", "PSNR dB", "SSIM", "ΔE")
    above = math.inf
    for group, least in _GROUPS.items():
        for method in dict.fromkeys(s["method"] for s in scores):
            rows = [s for s in scores if s["method"] == method and least <= angles[s["photo"]] < above]
            if rows:
                means = [statistics.fmean(row[key] for row in rows) for key in ("psnr_db", "ssim", "delta_e")]
                table.add_row(group, method, str(len(rows)), f"{means[0]:.2f}", f"{means[1]:.3f}", f"{means[2]:.2f}")
        above = least
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
