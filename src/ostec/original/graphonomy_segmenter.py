"""Skin by Graphonomy, where the head mesh agrees, without the frames of glasses.

The original (barisgecer/OSTeC @ d6f8076, `external/graphonomy/FaceHairMask/MaskExtractor.py`) shrinks the face and
widens the hair in a crop of 1120 px; skin is face and not hair. Here neck counts as skin, and hats and sunglasses are
widened as hair is. Glasses without dark lenses are no class of CIHP: their frames are found as in `segment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.align import apply_affine
from ostec.geometry.camera import cropped
from ostec.geometry.sampling import pixels_inside, warp
from ostec.masking.skin import (
    LEAST_FACING,
    MASK_PX,
    Zones,
    connected,
    dilated,
    frames,
    head_square,
    seen_normals,
    skin_misfit,
    softened,
)
from ostec.original.graphonomy import Graphonomy, load_graphonomy, parse
from ostec.original.graphonomy_graphs import CLASSES
from ostec.types import Photo, Reconstruction, SkinMask

_SKIN = torch.tensor([CLASSES.index(name) for name in ("face", "torso skin")])
_COVERING = torch.tensor([CLASSES.index(name) for name in ("hair", "hat", "sunglasses")])
_ORIGINAL_PX = 1120
SHRUNK_PX, WIDENED_PX = 5, 17
"""Radii in a crop of 1120 px: OpenCV's ellipses of 10 and 35 px."""


class GraphonomySegmenter:
    """Keeps what the parser calls face or neck, at a distance from what covers it."""

    def __init__(
        self,
        net: Graphonomy,
        side_px: int = MASK_PX,
        scales: Sequence[float] = (1.0,),
        device: torch.device | str = "cpu",
    ) -> None:
        """The network sees the head square at `side_px` times each of the `scales`; logits are averaged."""
        self._net = net.to(device)
        self._side_px, self._scales, self._device = side_px, tuple(scales), device

    @torch.no_grad()
    def __call__(self, photo: Photo, reconstruction: Reconstruction) -> SkinMask:
        square = head_square(reconstruction)
        mask_from_photo = square * (self._side_px / MASK_PX)
        size = self._side_px, self._side_px
        rgb, valid = warp(photo.rgb, mask_from_photo, size), pixels_inside(mask_from_photo, photo.size, size)
        logits = parse(self._net, rgb.to(self._device), self._scales).cpu()
        zones = Zones(apply_affine(square, reconstruction.landmarks.points_px))
        hidden = _resized(_ruled_out(photo, reconstruction, square, zones), self._side_px)
        shown = skin_of(logits.argmax(dim=0)) & ~hidden & valid
        sure, face = (_resized(zone, self._side_px) for zone in (zones.sure_skin, zones.face))
        alpha = softened(connected(shown, sure if bool((sure & shown).any()) else face))
        return SkinMask(alpha, mask_from_photo, 1 - logits.softmax(dim=0)[0])


def skin_of(classes: Tensor) -> Tensor:
    """[S, S] int64 of `CLASSES` -> [S, S] bool: skin, but its rim and what surrounds that which covers it."""
    px = classes.shape[0] / _ORIGINAL_PX
    skin, covering = torch.isin(classes, _SKIN), torch.isin(classes, _COVERING)
    return ~dilated(~skin, SHRUNK_PX * px) & ~dilated(covering, WIDENED_PX * px)


def _ruled_out(photo: Photo, reconstruction: Reconstruction, square: Tensor, zones: Zones) -> Tensor:
    """[256, 256] bool: off the mesh, too aslant beyond the face, or frames of glasses."""
    size = (MASK_PX, MASK_PX)
    normals, facing = seen_normals(reconstruction, cropped(reconstruction.camera, square, size))
    rgb = warp(photo.rgb, square, size)
    misfit = skin_misfit(rgb, normals, zones.sure_skin & (facing > 0.3))
    return (facing <= 0) | (~zones.face & (facing < LEAST_FACING)) | frames(misfit, zones)


def _resized(mask: Tensor, side_px: int) -> Tensor:
    """[S, S] bool -> [side_px, side_px] bool."""
    size = (side_px, side_px)
    return F.interpolate(mask[None, None].float(), size, mode="bilinear", align_corners=False)[0, 0] > 0.5


def load_graphonomy_segmenter(path: Path, device: str) -> GraphonomySegmenter:
    """At 256 px, as the original sees. Raises `MissingWeights`, `BadWeights`."""
    return GraphonomySegmenter(load_graphonomy(path), device=device)


def load_sharp_graphonomy_segmenter(path: Path, device: str) -> GraphonomySegmenter:
    """At 512 px for the borders, averaged with 256 px, since heads that fill a large picture are rare in CIHP.

    Raises `MissingWeights`, `BadWeights`.
    """
    return GraphonomySegmenter(load_graphonomy(path), 512, (0.5, 1.0), device)
