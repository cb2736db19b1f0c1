"""Make src/ostec/data/facemesh_mirror.safetensors: which of FaceMesh's points mirror each other.

    python tools/make_facemesh_mirror.py --faces FACES

FACES holds index.csv (columns file, source_repo, yaw_deg, face_x0_px .. face_y1_px) and the portraits it names. Each is
shown to the network as it is and mirrored; points that answer each other lie in the same place.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import torch
import tyro
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import ostec.files.photos
from ostec.geometry.align import square_crop
from ostec.geometry.sampling import warp
from ostec.networks.facemesh_net import CROP_PER_BOX, CROP_PX, FaceMeshNet
from ostec.weights.shipped import DATA_DIR, read_tensors

OUT = DATA_DIR / "facemesh_mirror.safetensors"
EXCLUDED_SOURCE = "SelfishGene/SFHQ-dataset"
"""Made with non-commercial weights."""
PORTRAITS = 150
MOST_YAW_DEG = 15.0


def crops(faces: Path) -> Iterator[Tensor]:
    """[3, 192, 192] of nearly frontal training portraits."""
    with (faces / "index.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["source_repo"] != EXCLUDED_SOURCE]
    rows = [row for row in rows if row["file"].startswith("train/") and abs(float(row["yaw_deg"])) < MOST_YAW_DEG]
    rows.sort(key=lambda row: row["file"])
    for row in rows[:: max(1, len(rows) // PORTRAITS)]:
        x0, y0, x1, y1 = (float(row[f"face_{corner}_px"]) for corner in ("x0", "y0", "x1", "y1"))
        centre, side_px = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2]), CROP_PER_BOX * max(x1 - x0, y1 - y0)
        photo = ostec.files.photos.load_photo(faces / row["file"])
        yield warp(photo.rgb, square_crop(centre, side_px, 0.0, CROP_PX), (CROP_PX, CROP_PX))


@torch.inference_mode()
def mirror_map(net: FaceMeshNet, portraits: Iterator[Tensor]) -> Tensor:
    """[468] int64 involution with the least sum of squared distances between mirrored points."""
    distances = torch.zeros(468, 468, dtype=torch.float64)
    for crop in portraits:
        points, _ = net(torch.stack([crop, crop.flip(-1)]))
        points[1, :, 0] = CROP_PX - points[1, :, 0]
        distances += torch.cdist(points[0].double(), points[1].double()).square()
    mirror = torch.from_numpy(linear_sum_assignment(distances + distances.T)[1])
    if not torch.equal(mirror[mirror], torch.arange(468)):
        raise SystemExit("The assignment is not an involution; give more portraits.")
    return mirror


def main(faces: Path) -> None:
    """Read portraits, write the file."""
    net = FaceMeshNet(read_tensors(DATA_DIR / "facemesh.safetensors"), torch.arange(468))
    mirror = mirror_map(net, crops(faces))
    save_file({"mirror": mirror}, OUT)
    print(f"{int((mirror == torch.arange(468)).sum())} points on the middle line, {OUT}")


if __name__ == "__main__":
    tyro.cli(main)
