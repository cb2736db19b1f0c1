"""The picture of a transfer: both heads from five directions, and both textures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.camera import rotation
from ostec.geometry.raster import rasterise
from ostec.geometry.render import render
from ostec.types import Camera, Shape, TransferResult

_TILE_PX, _TILE_M, _OVERSAMPLED = 256, 0.3, 2
_TURNS = {"75° right": 75.0, "40° right": 40.0, "front": 0.0, "40° left": -40.0, "75° left": -75.0}
_PAPER, _BARE = 0.93, torch.tensor([0.85, 0.2, 0.85])[:, None, None]


def draw_transfer(result: TransferResult) -> list[list[tuple[str, Tensor]]]:
    """Rows of captioned tiles: the source, the target, which parts of it have a counterpart, the textures."""
    source = Shape(result.upright_source, result.source.shape.topology)
    target = Shape(result.upright_target, result.target.shape.topology)
    on = result.upright_source[source.topology.faces.flatten()]
    centre = (on.amin(dim=0) + on.amax(dim=0)) / 2
    marked = torch.where(result.coverage, result.rgb, 0.5 * result.rgb + 0.5 * _BARE)
    assert result.source.rgb is not None
    textures = [
        ("texture of the source", _shrunk(result.source.rgb)),
        ("texture on the target", _shrunk(result.rgb)),
        ("pink: filled in", _shrunk(marked)),
    ]
    heads = {
        "source": (source, result.source.rgb),
        "target": (target, result.rgb),
        "pink: filled in": (target, marked),
    }
    return [*(_turned(name, head, rgb, centre) for name, (head, rgb) in heads.items()), textures]


def _turned(name: str, head: Shape, rgb: Tensor, centre: Tensor) -> list[tuple[str, Tensor]]:
    size_px = _TILE_PX * _OVERSAMPLED
    K = torch.tensor([[size_px / _TILE_M, 0, size_px / 2], [0, size_px / _TILE_M, size_px / 2], [0, 0, 1]])
    row = []
    for caption, yaw_deg in _TURNS.items():
        R = rotation(0.0, yaw_deg, 0.0)
        t = torch.tensor([0.0, 0.0, 1.0]) - R @ centre
        image, covered = render(head, rgb, Camera(K, R, t, (size_px, size_px), "orthographic"), rasterise)
        row.append((f"{name}, {caption}", F.avg_pool2d(image + _PAPER * ~covered, _OVERSAMPLED)))
    return row


def _shrunk(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    size = (_TILE_PX * 2, max(1, round(_TILE_PX * 2 * width / height)))
    return F.interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
