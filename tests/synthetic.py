"""A painted synthetic head with a known camera: half an ellipsoid with a nose, exactly mirror-symmetric."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ostec.geometry.camera import angles_deg, rotation, to_pixels
from ostec.geometry.raster import rasterise
from ostec.geometry.render import render
from ostec.types import Camera, Landmarks, Photo, Reconstruction, SkinMask, Topology

COLUMNS, ROWS = 61, 61


def topology() -> Topology:
    """A grid with u -> 1-u as its mirror."""
    column = torch.arange(COLUMNS)
    half = COLUMNS // 2
    u = torch.where(column <= half, 0.02 + column * (0.48 / half), 0.0)
    u = torch.where(column > half, 1 - u.flip(0), u)
    u[half] = 0.5
    v = torch.linspace(0.02, 0.98, ROWS)
    uv = torch.stack([u.expand(ROWS, -1), v[:, None].expand(-1, COLUMNS)], dim=-1).reshape(-1, 2)
    index = torch.arange(ROWS * COLUMNS).view(ROWS, COLUMNS)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    left = torch.stack([torch.stack([a, c, d], -1), torch.stack([a, d, b], -1)], -2)
    right = torch.stack([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)], -2)
    faces = torch.where((column[:-1] < half)[:, None, None], left, right).reshape(-1, 3)
    mirror = index.flip(1).reshape(-1)
    return Topology(
        faces, uv, faces.clone(), landmark_vertices(), torch.ones(len(uv), dtype=torch.bool), mirror, "synthetic"
    )


def landmark_vertices() -> Tensor:
    """[68]: where iBUG's points lie on the grid, as (across, down) in -1..1 about the nose."""
    jaw = [(math.sin(a) * 0.6, 0.02 + math.cos(a) * 0.62) for a in torch.linspace(-1.5, 1.5, 17).tolist()]
    brow = [(-0.42 + 0.07 * i, -0.42 - 0.02 * math.sin(i * 0.8)) for i in range(5)]
    brow += [(-x, y) for x, y in reversed(brow)]
    nose = [(0, -0.28 + 0.08 * i) for i in range(4)] + [(-0.1 + 0.05 * i, 0.06) for i in range(5)]
    eye = [(-0.34, -0.25), (-0.3, -0.28), (-0.22, -0.28), (-0.18, -0.25), (-0.22, -0.22), (-0.3, -0.22)]
    eyes = eye + [(-x, y) for x, y in (eye[3], eye[2], eye[1], eye[0], eye[5], eye[4])]
    mouth = [(0.2 * math.sin(a), 0.28 - 0.06 * math.cos(a)) for a in torch.linspace(-1.57, 1.57, 7).tolist()]
    mouth += [(0.2 * math.sin(a), 0.28 + 0.06 * math.cos(a)) for a in torch.linspace(1.05, -1.05, 5).tolist()]
    inner = [(-0.15, 0.28), (-0.06, 0.26), (0, 0.26), (0.06, 0.26), (0.15, 0.28), (0.06, 0.3), (0, 0.3), (-0.06, 0.3)]
    points = torch.tensor(jaw + brow + nose + eyes + mouth + inner, dtype=torch.float32)
    column = ((points[:, 0] + 1) / 2 * (COLUMNS - 1)).round().long()
    row = ((points[:, 1] + 1) / 2 * (ROWS - 1)).round().long()
    return row * COLUMNS + column


def vertices(shape: Topology) -> Tensor:
    """[V, 3]: exactly mirror-symmetric, metres."""
    across, down = (shape.uv * 2 - 1).unbind(-1)
    longitude, latitude = across * 1.75, -down * 1.25
    nose = 0.035 * torch.exp(-((longitude / 0.16) ** 2) - ((latitude + 0.05) / 0.25) ** 2)
    points = torch.stack(
        [
            0.075 * longitude.sin() * latitude.cos(),
            0.11 * latitude.sin(),
            0.09 * longitude.cos() * latitude.cos() + nose,
        ],
        dim=-1,
    )
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert shape.mirror is not None
    return (points + points[shape.mirror] * flip) / 2


SHAPE = topology()


def head(yaw_deg: float = 0.0, pitch_deg: float = 0.0, size: int = 256, perspective: bool = False) -> Reconstruction:
    """The head before a camera that sees it whole."""
    R = rotation(pitch_deg, yaw_deg, 0.0)
    centre = torch.tensor([0.0, 0.0, 0.03])
    distance = 0.8 if perspective else 1.0
    t = torch.tensor([0.0, 0.0, distance]) - R @ centre
    focal = size * 3.4 * (distance if perspective else 1.0)
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    camera = Camera(K, R, t, (size, size), "perspective" if perspective else "orthographic")
    points = vertices(SHAPE)
    landmarks = Landmarks(to_pixels(points[SHAPE.landmark_vertices], camera), 1.0)
    pitch, yaw, roll = angles_deg(R)
    return Reconstruction(points, SHAPE, camera, landmarks, yaw, pitch, roll)


def paint(size: int = 256, symmetric: bool = False) -> Tensor:
    """[3, size, size]: smooth skin-like paint with features; asymmetric unless asked."""
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    if symmetric:
        x = x.abs()
    red = 0.62 + 0.12 * torch.cos(5 * x + 1) + 0.08 * torch.sin(7 * y)
    green = 0.45 + 0.1 * torch.cos(6 * y + 2 * x) + 0.05 * x
    blue = 0.38 + 0.1 * torch.sin(4 * x + 3 * y)
    return torch.stack([red, green, blue])


def mirrored_head(face: Reconstruction) -> Reconstruction:
    """What a fit of the flipped photo gives."""
    mirror = face.topology.mirror
    assert mirror is not None
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    camera, width = face.camera, face.camera.size[1]
    K = camera.K.clone()
    K[0, 2] = width - K[0, 2]
    turned = replace(camera, K=K, R=flip @ camera.R @ flip, t=flip @ camera.t)
    points = face.vertices[mirror] @ flip
    landmarks = Landmarks(to_pixels(points[face.topology.landmark_vertices], turned), 1.0)
    return replace(face, vertices=points, camera=turned, landmarks=landmarks, yaw_deg=-face.yaw_deg)


def photograph(face: Reconstruction, texture: Tensor, background: float = 0.2) -> Photo:
    """What the head's camera sees, rendered at twice the size and averaged."""
    camera = face.camera
    double = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 0, 1]])
    size = (camera.size[0] * 2, camera.size[1] * 2)
    image, covered = render(face, texture, replace(camera, K=double @ camera.K, size=size), rasterise)
    image = image + background * ~covered
    return Photo(torch.nn.functional.avg_pool2d(image[None], 2)[0], "synthetic")


def all_skin() -> SkinMask:
    """A mask that hides nothing."""
    return SkinMask(torch.ones(8, 8), torch.tensor([[0.03, 0, 0], [0, 0.03, 0]]))
