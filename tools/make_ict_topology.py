"""Make src/ostec/data/ict_topology.npz: parts, triangles, UV atlas and landmarks of ICT-FaceKit's head.

    python tools/make_ict_topology.py --faces FACES --ict ict_face_model.npz

FACES holds index.csv and the portraits it names. The same inputs give the same bits.
"""

from __future__ import annotations

from pathlib import Path

import facemesh_regions as regions
import ict_landmarks
import numpy as np
import torch
import tyro
from ict_layout import Head, atlas, read_head
from ict_openness import openness
from make_facemesh_topology import portrait_fits
from scipy.spatial import KDTree

from ostec.heads.facemesh import FaceMeshModel, load_facemesh_model
from ostec.heads.ict import UNIT_M
from ostec.heads.ict_files import TOPOLOGY_FILE, read_shapes
from ostec.networks.facemesh_net import load_facemesh_net
from ostec.types import FacePart

FACEMESH_POINTS = 468
EVERY = 4
"""Of the portraits, one in this many is enough."""
CAVITY = 0.5
"""Less open skin has no counterpart on FaceMesh's chart, which has no nostrils."""


def outline(model: FaceMeshModel) -> np.ndarray:
    """The FaceMesh points on the face's outline: those that share a triangle of the coarse mesh with the extension."""
    extension = model.regions["extension"].numpy()
    triangles = model.topology.faces.numpy()
    beside = triangles[extension[triangles].any(axis=1)]
    found = np.unique(beside)
    return found[(found < FACEMESH_POINTS) & ~extension[found]]


def make(head: Head, fits: list[np.ndarray], ict: Path) -> dict[str, np.ndarray]:
    """The file's arrays by name; `ostec.heads.ict.read_ict_model` says what they are."""
    shapes, facemesh = read_shapes(ict), load_facemesh_model()
    deltas = shapes.deltas[:, head.kept] * np.float32(UNIT_M)
    skin, half = np.flatnonzero(head.part == FacePart.SKIN), len(head.faces) // 2
    surface = ict_landmarks.Surface(head.shape * UNIT_M, head.faces, skin)
    places = ict_landmarks.first_guess(head, facemesh.face_mean.double().numpy(), surface)
    mirror = load_facemesh_net().mirror.numpy()
    places = ict_landmarks.refined(head, places, surface, fits, mirror, deltas, list(shapes.names))
    points = places.on(head.shape * UNIT_M, head.faces)
    uv, uv_faces = atlas(head)
    landmarks = np.asarray(KDTree(head.shape * UNIT_M).query(points[regions.LANDMARKS])[1])
    on_skin = np.zeros(len(head.shape), dtype=bool)
    on_skin[head.faces[skin]] = True
    light = openness(head, head.shape * UNIT_M, landmarks)
    chart = ict_landmarks.facemesh_uv(head, facemesh, points)
    chart[light < CAVITY] = np.nan
    return {
        "kept": head.kept.astype(np.uint16),
        "right_faces": head.faces[:half].astype(np.uint16),
        "right_parts": head.part[:half].astype(np.uint8),
        "mirror": head.mirror.astype(np.uint16),
        "right_uv": uv.astype(np.float32),
        "right_uv_faces": uv_faces.astype(np.uint16),
        "paintable": on_skin,
        "landmark_vertices": landmarks.astype(np.uint16),
        "facemesh_uv": chart.astype(np.float16),
        "openness": np.round(255 * light).astype(np.uint8),
        "point_corners": head.faces[places.faces].astype(np.uint16),
        "point_shares": places.barycentrics.astype(np.float32),
        "contours": ict_landmarks.contours(head, points, outline(facemesh)).astype(np.uint16),
    }


def main(faces: Path, ict: Path, out: Path = TOPOLOGY_FILE) -> None:
    """Make the file at `out`."""
    torch.set_num_threads(1)
    fits = [fit * [1.0, -1.0, -1.0] for fit in portrait_fits(faces)][::EVERY]
    arrays = make(read_head(ict), fits, ict)
    np.savez_compressed(out, **arrays)
    triangles = 2 * len(arrays["right_faces"])
    print(f"{out}: {len(arrays['kept'])} vertices, {triangles} triangles, {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    tyro.cli(main)
