"""A textured mesh seen by a camera, and the cameras that frame a face as FFHQ portraits do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry import camera as cameras
from ostec.geometry.align import ffhq_crop
from ostec.geometry.raster import interpolate
from ostec.geometry.sampling import sample
from ostec.interfaces import Rasteriser
from ostec.types import Camera, Shape

FOCAL_PX_AT_1024 = 4550.0
DISTANCE_M = 1.0
"""The released code's lens, 2048 px at 0.45 m, moved back with the size of the face unchanged."""


def portrait_camera(shape: Shape, pitch_deg: float, yaw_deg: float, roll_deg: float, size_px: int) -> Camera:
    """A perspective camera that sees the head turned by these angles, cropped as FFHQ crops."""
    R = cameras.rotation(pitch_deg, yaw_deg, roll_deg)
    centre = shape.vertices.mean(dim=0)
    t = torch.tensor([0.0, 0.0, DISTANCE_M]) - R @ centre
    scale = FOCAL_PX_AT_1024 * size_px / 1024
    K = torch.tensor([[scale, 0, size_px / 2], [0, scale, size_px / 2], [0, 0, 1]])
    camera = Camera(K, R, t, (size_px, size_px))
    landmarks_px = cameras.to_pixels(shape.vertices[shape.topology.landmark_vertices], camera)
    return cameras.cropped(camera, ffhq_crop(landmarks_px, size_px), (size_px, size_px))


def render(shape: Shape, texture: Tensor, camera: Camera, rasterise: Rasteriser) -> tuple[Tensor, Tensor]:
    """([C, H, W], [H, W] bool): the texture [C, Hu, Wu] on the mesh, and which pixels the mesh covers."""
    topology = shape.topology
    fragments = rasterise(cameras.to_clip(shape.vertices, camera), topology.faces, camera.size)
    uv = interpolate(fragments, topology.uv, topology.uv_faces)
    image = sample(texture, uv.mul_(2).sub_(1))
    covered = fragments.triangle >= 0
    return image * covered, covered


def over_background(image: Tensor, covered: Tensor, grey: float = 0.93, feather: float = 1 / 40) -> Tensor:
    """[3, H, W]: `image` where `covered` [H, W], fading to grey over the last `feather` of its width."""
    reach = max(3, int(image.shape[1] * feather) | 1)
    soft = covered.float()[None, None]
    for _ in range(2):
        soft = F.avg_pool2d(soft, reach, 1, reach // 2)
    alpha = ((soft - 0.5) * 2).clamp(0, 1)[0] * covered
    alpha = alpha * alpha * (3 - 2 * alpha)
    return image * alpha + grey * (1 - alpha)
