"""A textured mesh seen by a camera, and the cameras that frame a face as FFHQ portraits do."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.geometry import camera as cameras
from ostec.geometry.align import ffhq_crop
from ostec.geometry.raster import blend
from ostec.geometry.sample import sample
from ostec.interfaces import Rasteriser
from ostec.types import Camera, Reconstruction

FOCAL_PX_AT_1024 = 4550.0
DISTANCE_M = 1.0
"""A portrait lens at arm's length: the original's 2048 px at 0.45 m, moved back at the same size of the face."""


def portrait_camera(face: Reconstruction, pitch_deg: float, yaw_deg: float, roll_deg: float, size_px: int) -> Camera:
    """A perspective camera that sees the head turned by these angles, cropped as FFHQ crops (METHOD section 3)."""
    R = cameras.rotation(pitch_deg, yaw_deg, roll_deg)
    centre = face.vertices.mean(dim=0)
    t = torch.tensor([0.0, 0.0, DISTANCE_M]) - R @ centre
    scale = FOCAL_PX_AT_1024 * size_px / 1024
    K = torch.tensor([[scale, 0, size_px / 2], [0, scale, size_px / 2], [0, 0, 1]])
    camera = Camera(K, R, t, (size_px, size_px))
    landmarks_px = cameras.to_pixels(face.vertices[face.topology.landmark_vertices], camera)
    return cameras.cropped(camera, ffhq_crop(landmarks_px, size_px), (size_px, size_px))


def render(face: Reconstruction, texture: Tensor, camera: Camera, rasterise: Rasteriser) -> tuple[Tensor, Tensor]:
    """([C, H, W], [H, W] bool): the texture [C, Hu, Wu] on the mesh, and which pixels the mesh covers."""
    topology = face.topology
    fragments = rasterise(cameras.to_clip(face.vertices, camera), topology.faces, camera.size)
    uv = blend(fragments, topology.uv, topology.uv_faces)
    image = sample(texture, uv.mul_(2).sub_(1))
    covered = fragments.triangle >= 0
    return image * covered, covered
