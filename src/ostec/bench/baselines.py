"""Baselines for comparison. All keep the photo's trusted texels bit for bit, in every mode."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import UnknownComponent
from ostec.interfaces import Progress
from ostec.light.even import fit_to_texture, plain_skin
from ostec.light.shading import log_colour
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Completed, Face, UVTexture

_TELEA_RADIUS_PX_AT_256 = 3


class NearestCompleter:
    """Each hidden texel gets the colour of the nearest trusted texel in the texture."""

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        photo, trusted = atlas.photo, trusted_texels(face, atlas)
        nearest = distance_transform_edt(~trusted.numpy(), return_distances=False, return_indices=True)
        row, column = torch.from_numpy(nearest).long()
        return completed(face, atlas, photo.rgb[:, row, column])


class TeleaCompleter:
    """OpenCV's inpainting of the 8-bit texture after Telea ("An image inpainting technique based on the fast marching
    method", 2004). The constructor raises `UnknownComponent` where OpenCV is not installed."""

    def __init__(self) -> None:
        self._cv2 = _opencv()

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        photo, trusted = atlas.photo, trusted_texels(face, atlas)
        picture = (photo.rgb * trusted * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        radius_px = _TELEA_RADIUS_PX_AT_256 * max(trusted.shape) / 256
        hidden = (~trusted).numpy().astype(np.uint8)
        filled = self._cv2.inpaint(picture, hidden, radius_px, self._cv2.INPAINT_TELEA)
        return completed(face, atlas, torch.from_numpy(filled).permute(2, 0, 1) / 255)


class PlainSkinCompleter:
    """Skin without features, under the light fitted to the seen texels."""

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        symmetric = face.reconstruction.topology.mirror is not None
        light = plain_skin(fit_to_texture(atlas.photo, face.texels, symmetric), face.texels)
        return completed(face, atlas, light.exp())


class MeanFaceCompleter:
    """The mean face, shifted to this person's mean colour; `mean` [3, H, W] is log sRGB and resized to the texture."""

    def __init__(self, mean: Tensor) -> None:
        self._mean = mean

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        trusted = trusted_texels(face, atlas)
        mean = F.interpolate(self._mean[None], list(trusted.shape), mode="bilinear", align_corners=False)[0]
        shift = (log_colour(atlas.photo.rgb) - mean)[:, trusted].mean(dim=1)
        return completed(face, atlas, (mean + shift[:, None, None]).exp())


def trusted_texels(face: Face, atlas: Atlas) -> Tensor:
    """[Hu, Wu] bool: texels that the photo shows with a confidence of at least `TRUSTED`."""
    return face.texels.inside & (atlas.photo.confidence >= TRUSTED)


def completed(face: Face, atlas: Atlas, fill: Tensor) -> Completed:
    """The photo's trusted texels, and `fill` [3, Hu, Wu] in the other texels of the chart."""
    photo, trusted = atlas.photo, trusted_texels(face, atlas)
    rgb = torch.where(trusted, photo.rgb, fill.clamp(0, 1) * face.texels.inside)
    return Completed(UVTexture(rgb, torch.where(trusted, photo.confidence, -1.0)))


def _opencv() -> ModuleType:
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UnknownComponent(
            "telea needs OpenCV, which does not come with this package: pip install opencv-python-headless."
        ) from error
    return cv2
