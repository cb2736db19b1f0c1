"""The views to complete: their directions, order and priorities (paper, section 3.3), and their renders."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ostec.geometry.camera import to_pixels
from ostec.geometry.render import portrait_camera, render
from ostec.interfaces import Rasteriser
from ostec.types import Shape, Shot, View

HARD_ABOVE_YAW_DEG = 30.0
PHOTO_PRIORITY = {"soft": 2.0, "hard": 0.1}

_SIDES = (
    View("bottom", -30.0, 0.0, 0.0, 1.3),
    View("bottom_left", -15.0, -30.0, 0.0, 1.0),
    View("bottom_right", -15.0, 30.0, 0.0, 1.0),
    View("left", 5.0, -40.0, 0.0, 1.0),
    View("right", 5.0, 40.0, 0.0, 1.0),
)
FRONT = View("front", 0.0, 0.0, 0.0, 2.0)


def choose_mode(asked: Literal["soft", "hard", "auto"], yaw_deg: float) -> Literal["soft", "hard"]:
    """The mode that "auto" stands for at this yaw."""
    if asked != "auto":
        return asked
    return "hard" if abs(yaw_deg) > HARD_ABOVE_YAW_DEG else "soft"


def plan_views(mode: Literal["soft", "hard"]) -> tuple[View, ...]:
    """The views to complete, in order; hard starts with the front because it does not keep the photo's texels."""
    return _SIDES if mode == "soft" else (FRONT, *_SIDES)


def in_batches(views: tuple[View, ...]) -> tuple[tuple[View, ...], ...]:
    """The same views, each together with its mirror image where that follows: they overlap little."""
    batches: list[tuple[View, ...]] = []
    for view in views:
        last = batches[-1][-1] if batches else None
        if last is not None and (view.pitch_deg, view.yaw_deg) == (last.pitch_deg, -last.yaw_deg) and view.yaw_deg:
            batches[-1] = (last, view)
        else:
            batches.append((view,))
    return tuple(batches)


def shoot(shape: Shape, rgb: Tensor, known: Tensor, view: View, size_px: int, rasterise: Rasteriser) -> Shot:
    """Render `rgb` [3, Hu, Wu] in `view`; `known` [Hu, Wu] in 0..1 becomes the shot's trust."""
    camera = portrait_camera(shape, view.pitch_deg, view.yaw_deg, view.roll_deg, size_px)
    picture, _ = render(shape, torch.cat([rgb, known[None]]), camera, rasterise)
    landmarks_px = to_pixels(shape.vertices[shape.topology.landmark_vertices], camera)
    return Shot(view, picture[:3], picture[3], landmarks_px, camera)
