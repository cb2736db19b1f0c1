"""How closely the ICT head follows FaceMesh's landmarks, and how long a fit takes.

    python benchmarks/fit.py FOLDER --weights_dir WEIGHTS [--limit 143]

Error: distance of the 68 landmarks in the picture, their mean over each face, in units of the distance of the outer
corners of the eyes.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import tyro

import ostec.files.photos
from ostec.detection.blazeface import load_detector
from ostec.heads.facemesh import face_points, load_facemesh_model
from ostec.networks.facemesh_net import EYE_CORNERS, load_facemesh_net
from ostec.registry.components import build


def main(folder: tyro.conf.Positional[Path], weights_dir: Path | None = None, limit: int = 143) -> None:
    """Print medians over `limit` photos spread over the folder."""
    detector, net, reconstruct = load_detector(), load_facemesh_net(), build("reconstructor", "ict", weights_dir)
    landmarks = load_facemesh_model().topology.landmark_vertices
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    errors, inner, seconds = [], [], []
    for path in paths[:: max(1, len(paths) // limit)]:
        photo = ostec.files.photos.load_photo(path)
        for detection in detector(photo)[:1]:
            start = time.perf_counter()
            fit = reconstruct(photo, detection)
            seconds.append(time.perf_counter() - start)
            points = face_points(net, photo, detection)[0][:, :2]
            eyes = points[list(EYE_CORNERS)].diff(dim=0).norm()
            each = (fit.landmarks.points_px - points[landmarks]).norm(dim=1) / eyes
            errors.append(float(each.mean()))
            inner.append(float(each[17:].mean()))
    print(f"{len(errors)} faces; landmark error, % of the distance of the outer eye corners:")
    for name, values in (("68 points", errors), ("without the jaw line", inner)):
        print(f"  {name}: median {100 * np.median(values):.2f}, 95 % {100 * np.percentile(values, 95):.2f}")
    print(f"seconds a face, dense landmarks included: median {np.median(seconds):.3f}, most {max(seconds):.3f}")


if __name__ == "__main__":
    tyro.cli(main)
