"""Photograph the texture as known so far: the picture a completer is asked to finish."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.geometry.camera import to_pixels
from ostec.geometry.render import portrait_camera, render
from ostec.interfaces import Rasteriser
from ostec.types import Reconstruction, Shot, View


def shoot(face: Reconstruction, rgb: Tensor, known: Tensor, view: View, size_px: int, rasterise: Rasteriser) -> Shot:
    """Render `rgb` [3, Hu, Wu] in `view`; `known` [Hu, Wu] in 0..1 becomes the shot's trust."""
    camera = portrait_camera(face, view.pitch_deg, view.yaw_deg, view.roll_deg, size_px)
    picture, _ = render(face, torch.cat([rgb, known[None]]), camera, rasterise)
    landmarks_px = to_pixels(face.vertices[face.topology.landmark_vertices], camera)
    return Shot(view, picture[:3], picture[3], landmarks_px, camera)
