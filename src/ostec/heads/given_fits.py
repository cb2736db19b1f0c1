"""Shared by readers of fits made elsewhere: the file beside the photo, the face it fits, units, axes and cameras."""

from __future__ import annotations

import glob
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import rq
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights, NoFace
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import angles_deg, to_camera, to_pixels
from ostec.heads.facemesh import DEPTH_M, load_facemesh_model
from ostec.types import Camera, Detection, Landmarks, Photo, Reconstruction, Topology

EYE_DISTANCE_M = 0.063
"""Mean distance between adults' pupils (Dodgson, "Variation and extrema of human interpupillary distance", 2004)."""
_MOST_TURNED_DEG = 45.0
_LARGEST_LIKENESS_ERROR = 0.5


def fits_beside(photo: Photo, ending: str) -> list[Path]:
    """`NAME.ending` beside a photo, and `NAME_face2.ending`, `NAME_face3.ending`, ... where they exist.

    Raises `MissingWeights` where the photo is not a file or has no fit.
    """
    path = Path(photo.name)
    if not path.is_file():
        raise MissingWeights(
            f"{photo.name}: the fit is read from beside the photo's file, but this photo is not a file. Give the path "
            "of the photo, or fit it here: --reconstructor mediapipe."
        )
    first = path.with_suffix(ending)
    if not first.is_file():
        raise MissingWeights(
            f"{first} is missing: the fit of {path.name} is read from there. Put it there, or fit the photo here: "
            "--reconstructor mediapipe."
        )
    others = sorted(path.parent.glob(f"{glob.escape(path.stem)}_face[0-9]*{ending}"))
    return [first, *others]


def fit_of_face(fits: Sequence[Reconstruction], photo: Photo, detection: Detection) -> Reconstruction:
    """The fit whose landmarks are centred on the detected face. Raises `NoFace` where none is."""
    low, high = detection.box_px[:2], detection.box_px[2:]
    middles = [fit.landmarks.points_px.mean(dim=0) for fit in fits]
    off = [float(((middle - (low + high) / 2) / (high - low)).abs().max()) for middle in middles]
    best = min(range(len(fits)), key=off.__getitem__)
    if not off[best] < 0.5:
        where = ", ".join(f"({float(x):.0f}, {float(y):.0f})" for x, y in middles)
        box = ", ".join(f"{float(edge):.0f}" for edge in detection.box_px)
        raise NoFace(
            f"{photo.name}: the fit's landmarks are centred at {where} px, not on the face that was found in {box}. "
            "Check that the fit's camera gives pixels of this photo, upright, y down."
        )
    return replace(fits[best], landmarks=replace(fits[best].landmarks, score=detection.score))


def checked_reconstruction(
    vertices: Tensor, topology: Topology, camera: Camera, source: str, unit_m: float | None = None
) -> Reconstruction:
    """The fit in metres, after a check of its axes. Raises `BadWeights` naming `source`.

    Vertices [V, 3] and camera are in units of `unit_m` metres; without it, the eyes are taken to be `EYE_DISTANCE_M`
    apart.
    """
    if unit_m is None:
        eyes = [vertices[topology.landmark_vertices[part]].mean(dim=0) for part in (slice(36, 42), slice(42, 48))]
        unit_m = EYE_DISTANCE_M / max(float((eyes[0] - eyes[1]).norm()), 1e-12)
    vertices, camera = (vertices * unit_m).float(), _in_metres(camera, unit_m)
    check_head_frame(vertices[topology.landmark_vertices], source)
    depth = to_camera(vertices, camera)[:, 2]
    if camera.model == "perspective" and not bool((depth > 0).all()):
        raise BadWeights(f"{source}: vertices lie behind the camera. The camera's axes are x right, y down, z forward.")
    landmarks = Landmarks(to_pixels(vertices[topology.landmark_vertices], camera), 1.0)
    pitch_deg, yaw_deg, roll_deg = angles_deg(camera.R)
    return Reconstruction(vertices, topology, camera, landmarks, yaw_deg, pitch_deg, roll_deg)


def check_head_frame(landmarks: Tensor, source: str) -> None:
    """Raises `BadWeights` where landmarks [68, 3], metres, are not those of an upright head in the head frame."""
    model = load_facemesh_model()
    known = model.head(model.face_mean)[model.topology.landmark_vertices]
    scale, R, shift = fit_similarity_3d(known, landmarks.double(), torch.ones(68, dtype=torch.float64))
    turned_deg = math.degrees(math.acos(max(-1.0, min(1.0, (float(R.trace()) - 1) / 2))))
    error = (landmarks.double() - (scale * known @ R.T + shift)).norm(dim=1).mean()
    size = (landmarks.double() - landmarks.double().mean(dim=0)).norm(dim=1).mean()
    if not float(error / size) < _LARGEST_LIKENESS_ERROR or turned_deg > _MOST_TURNED_DEG:
        raise BadWeights(
            f"{source}: the landmarks are not those of a head in the head frame (turned by {turned_deg:.0f}°). "
            "Vertices have x to the subject's left, y up and z out of the face, and the camera's R turns them into the "
            "photo; landmarks are in iBUG order, from the picture's left."
        )


def _in_metres(camera: Camera, scale: float) -> Camera:
    """The camera for vertices in metres, from one for vertices in units of `scale` metres."""
    if camera.model == "perspective":
        return replace(camera, t=camera.t * scale)
    K = camera.K.clone()
    K[:2, :2] /= scale
    t = camera.t * scale
    return replace(camera, K=K, t=torch.cat([t[:2], torch.tensor([DEPTH_M], dtype=t.dtype)]))


def camera_of_projection(projection: Tensor, size: tuple[int, int]) -> Camera:
    """The camera K [R | t] of a projection [3, 4] to homogeneous px of a photo of (height, width) `size`.

    Orthographic where the last row is (0, 0, 0, w). K has positive scales and may have a skew. Raises `ValueError`
    where the projection is not of full rank.
    """
    P = projection.double().numpy()
    if np.linalg.matrix_rank(P) < 3:
        raise ValueError("the projection is not of full rank")
    model = "perspective"
    if np.abs(P[2, :3]).max() <= 1e-8 * np.abs(P[:2, :3]).max():
        model, P = "orthographic", P / P[2, 3]
        K2, axes = rq(P[:2, :3], mode="economic")
        K, R = np.eye(3), np.stack([*axes, np.zeros(3)])
        K[:2, :2], K[:2, 2], t = K2, P[:2, 3], np.zeros(3)
    else:
        P = P * np.sign(np.linalg.det(P[:, :3]))
        K, R = rq(P[:, :3])
        t = np.linalg.solve(K, P[:, 3])
    signs = np.where(np.diag(K) < 0, -1.0, 1.0)
    K, R, t = K * signs, signs[:, None] * R, signs * t
    if model == "orthographic":
        R[2] = np.cross(R[0], R[1])
    K, R, t = (torch.from_numpy(matrix).float() for matrix in (K / K[2, 2], R, t))
    return Camera(K, R, t, size, model)
