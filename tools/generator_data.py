"""Crops the portraits that a face generator learns from as FFHQ does, and writes them to one small file.

python tools/generator_data.py FACES --out FACES.zip [--size 128] [--sheet FOLDER]

FACES holds `index.csv` and the photos it names. The file is an ordinary archive of JPEG pictures with `faces.csv`,
which names each one's origin and licence. `--sheet` shows what was kept and what was left out. Which and why:
`docs/models/face-generator.md`.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from generator_archive import sheet, write_faces
from generator_faces import LUMA, FaceCrop, cut_faces
from prior_textures import training_photos
from torch import Tensor
from torch.nn import functional as F

_SHEET_COLUMNS, _SHEET_PX = 20, 64
_LARGEST_YAW_DEG, _LARGEST_PITCH_DEG = 60.0, 25.0
_MOST_OUTSIDE = 0.18
_LEAST_SHARP, _LEAST_LUMA = 150.0, 0.12
_MOST_DARK_EYES = 0.7
_LEAST_RED_OVER_BLUE = 1.05
"""Of cheeks in any light but a cold one; there is no upper bound, which would fall on brown skin in warm light."""


def why_not(face: FaceCrop) -> str:
    """What a generator should not learn from a portrait for, or nothing."""
    red, _, blue = face.cheeks
    reasons = {
        "turned too far": abs(face.yaw_deg) > _LARGEST_YAW_DEG or abs(face.pitch_deg) > _LARGEST_PITCH_DEG,
        "too near the photo's border": face.outside > _MOST_OUTSIDE,
        "blurred": face.sharpness < _LEAST_SHARP,
        "too dark": float(torch.tensor(face.cheeks) @ LUMA) < _LEAST_LUMA,
        "dark glasses": face.dark_eyes > _MOST_DARK_EYES,
        "painted or in cold light": red < _LEAST_RED_OVER_BLUE * blue,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--sheet", type=Path, default=None)
    options = parser.parse_args()
    with (options.faces / "index.csv").open(newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    kept: list[tuple[Mapping[str, str], Tensor]] = []
    left_out: dict[str, list[Tensor]] = {}
    counts: Counter[str] = Counter()
    for path, found in cut_faces(training_photos(options.faces), options.size):
        reason = "no face found" if isinstance(found, str) else why_not(found)
        counts[reason or "kept"] += 1
        if not isinstance(found, str) and not reason:
            kept.append((rows[path.name], found.picture))
        elif not isinstance(found, str):
            left_out.setdefault(reason, []).append(found.picture)
    write_faces(options.out, kept)
    print(", ".join(f"{name}: {count}" for name, count in counts.most_common()))
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB")
    if options.sheet:
        options.sheet.mkdir(parents=True, exist_ok=True)
        for name, pictures in {**left_out, "kept": [picture for _, picture in kept]}.items():
            small = [F.interpolate(p[None], _SHEET_PX, mode="area")[0] for p in pictures]
            sheet(small, _SHEET_COLUMNS).save(options.sheet / f"{name.replace(' ', '_')}.jpg")


if __name__ == "__main__":
    main()
