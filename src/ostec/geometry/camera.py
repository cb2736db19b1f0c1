"""Cameras: angles to rotations and back, projection, crops folded into the intrinsics."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ostec.types import Camera

FACING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Head -> camera at zero pose: the head's y is up and z comes out, the camera's y is down and z goes in."""


def rotation(pitch_deg: float, yaw_deg: float, roll_deg: float) -> Tensor:
    """[3, 3] head -> camera rotation: the nose's elevation, its azimuth, then a turn in the picture.

    Positive pitch points the nose down, positive yaw points it to the picture's right edge, positive roll turns
    the head clockwise in the picture.
    """
    pitch, yaw, roll = (math.radians(a) for a in (pitch_deg, -yaw_deg, roll_deg))
    cx, sx, cy, sy, cz, sz = (f(a) for a in (pitch, yaw, roll) for f in (math.cos, math.sin))
    about_x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], dtype=torch.float64)
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64)
    about_z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]], dtype=torch.float64)
    return (about_z @ about_y @ about_x @ FACING.double()).float()


def angles_deg(R: Tensor) -> tuple[float, float, float]:
    """(pitch, yaw, roll) in degrees, the inverse of `rotation`; pitch and roll merge at yaw = ±90°."""
    m = (R.double() @ FACING.double()).tolist()
    yaw = math.degrees(math.asin(max(-1.0, min(1.0, m[2][0]))))
    pitch = math.degrees(math.atan2(m[2][1], m[2][2]))
    roll = math.degrees(math.atan2(m[1][0], m[0][0]))
    return pitch, yaw, roll


def to_camera(points: Tensor, camera: Camera) -> Tensor:
    """[..., 3] head frame -> camera frame, metres."""
    return points @ camera.R.T + camera.t


def to_clip(points: Tensor, camera: Camera) -> Tensor:
    """[..., 3] head frame -> [..., 4]: (x·w, y·w, depth·w, w), x and y in px; depth as in `clip_matrix`."""
    matrix = clip_matrix(camera)
    return torch.nn.functional.linear(points, matrix[:, :3], matrix[:, 3])


def clip_matrix(camera: Camera) -> Tensor:
    """[4, 4] that `to_clip` multiplies by; smaller depth is nearer.

    Depth is camera z in metres for an orthographic camera and 1 - 1/z for a perspective one: a projective map keeps
    only that linear in the picture.
    """
    extrinsics = torch.eye(4, dtype=camera.R.dtype, device=camera.R.device)
    extrinsics[:3, :3], extrinsics[:3, 3] = camera.R, camera.t
    project = torch.zeros_like(extrinsics)
    if camera.model == "perspective":
        project[:2, :3] = camera.K[:2]
        project[2, 2], project[2, 3], project[3, 2] = 1.0, -1.0, 1.0
    else:
        project[:2, :2], project[:2, 3] = camera.K[:2, :2], camera.K[:2, 2]
        project[2, 2] = project[3, 3] = 1.0
    return project @ extrinsics


def to_pixels(points: Tensor, camera: Camera) -> Tensor:
    """[..., 3] head frame -> [..., 2] px."""
    clip = to_clip(points, camera)
    return clip[..., :2] / clip[..., 3:]


def toward_camera(points: Tensor, camera: Camera) -> Tensor:
    """[..., 3] unit directions from head-frame points to the camera, in the head frame."""
    if camera.model == "orthographic":
        return -camera.R[2].expand_as(points)
    centre = -camera.R.T @ camera.t
    return torch.nn.functional.normalize(centre - points, dim=-1)


def cropped(camera: Camera, crop_from_picture: Tensor, size: tuple[int, int]) -> Camera:
    """The camera that renders straight into a crop; `crop_from_picture` [2, 3] is an affine in pixels."""
    affine = torch.eye(3, dtype=camera.K.dtype, device=camera.K.device)
    affine[:2] = crop_from_picture
    return replace(camera, K=affine @ camera.K, size=size)


def zoomed(camera: Camera, points: Tensor, size_px: int) -> tuple[Camera, Tensor, float]:
    """The camera cropped and scaled so that head-frame points [N, 3] fill a picture of `size_px`², with a margin of
    2 px; that crop as an affine [2, 3]; its scale."""
    points_px = to_pixels(points, camera)
    low, high = points_px.amin(dim=0), points_px.amax(dim=0)
    scale = (size_px - 4) / float((high - low).max())
    crop = torch.cat([scale * torch.eye(2), (size_px / 2 - scale * (low + high) / 2)[:, None]], dim=1)
    return cropped(camera, crop, (size_px, size_px)), crop, scale
