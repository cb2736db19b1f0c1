"""The contact sheet of a result."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.align import ffhq_crop
from ostec.geometry.camera import cropped
from ostec.geometry.raster import rasterise
from ostec.geometry.render import portrait_camera, render
from ostec.geometry.sampling import pixels_inside, warp
from ostec.types import Result

_TILE_PX = 256
TURNS_DEG = {"75° right": 75.0, "40° right": 40.0, "front": 0.0, "40° left": -40.0, "75° left": -75.0}
PAPER = 0.93
_WIDER = torch.tensor([[0.7, 0.0, 0.15 * _TILE_PX], [0.0, 0.7, 0.15 * _TILE_PX]])
"""Shows the complete head instead of the FFHQ crop."""

Panel = tuple[str, Tensor]
"""(caption, [3, tile, tile])."""


def draw_sheet(result: Result) -> list[list[Panel]]:
    """Rows of captioned tiles: photo to texture, each view before and after, the mesh from five directions."""
    size = _TILE_PX
    seen = result.seen
    known = (seen.confidence > -1).float()
    first = [
        ("photo", _photo_crop(result)),
        ("seen in the photo", shrunk(seen.rgb * known + PAPER * (1 - known))),
        ("completed texture", shrunk(result.texture.rgb)),
        ("confidence", shrunk(result.texture.confidence.clamp(0, 1).expand(3, -1, -1))),
    ]
    if result.frontal is not None:
        first.append(("frontal", shrunk(result.frontal)))
    views = [
        [
            (f"{c.shot.view.name}: known", shrunk(c.shot.image)),
            ("trusted", shrunk(c.shot.trust.expand(3, -1, -1))),
            ("completed", shrunk(c.image)),
        ]
        for c in result.completions
    ]
    turned = []
    for caption, yaw_deg in TURNS_DEG.items():
        portrait = portrait_camera(result.reconstruction, 0.0, yaw_deg, 0.0, size)
        camera = cropped(portrait, _WIDER, portrait.size)
        image, covered = render(result.reconstruction, result.texture.rgb, camera, rasterise)
        turned.append((caption, image + PAPER * ~covered))
    paired = [[panel for view in views[i : i + 2] for panel in view] for i in range(0, len(views), 2)]
    return [first, turned, *paired]


def _photo_crop(result: Result) -> Tensor:
    """[3, tile, tile]: the photo around the face, wider than the FFHQ crop."""
    crop = ffhq_crop(result.reconstruction.landmarks.points_px, _TILE_PX)
    valid = pixels_inside(crop, result.photo.size, (_TILE_PX, _TILE_PX))
    image = warp(result.photo.rgb, crop, (_TILE_PX, _TILE_PX))
    return image * valid + PAPER * ~valid


def shrunk(image: Tensor, size: tuple[int, int] = (_TILE_PX, _TILE_PX)) -> Tensor:
    """[3, h, w], antialiased."""
    return F.interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)
