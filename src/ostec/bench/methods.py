"""Completers by name: those of the registry, and the baselines that they are compared with.

The baselines keep the photo's trusted texels bit for bit, in every mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.prior.face_prior import load_face_prior
from ostec.errors import BadSettings, UnknownComponent
from ostec.interfaces import Completer, Progress
from ostec.light.even import plain_skin
from ostec.light.shading import log_colour
from ostec.registry.components import build
from ostec.registry.table import rows
from ostec.settings import Settings
from ostec.texture.fill import push_pull
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Completed, Face, UVTexture

_TELEA_RADIUS_PX_AT_256 = 3


def complete_nearest(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
    """Each hidden texel gets the colour of the nearest trusted texel in the texture."""
    photo, trusted = atlas.photo, trusted_texels(face, atlas)
    nearest = distance_transform_edt(~trusted.numpy(), return_distances=False, return_indices=True)
    row, column = torch.from_numpy(nearest).long()
    return completed(face, atlas, photo.rgb[:, row, column])


def telea_completer() -> Completer:
    """OpenCV's inpainting of the 8-bit texture after Telea ("An image inpainting technique based on the fast marching
    method", 2004). Raises `UnknownComponent` where OpenCV is not installed."""
    try:
        import cv2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UnknownComponent(
            "telea needs OpenCV, which does not come with this package: pip install opencv-python-headless."
        ) from error

    def complete(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        photo, trusted = atlas.photo, trusted_texels(face, atlas)
        picture = (photo.rgb * trusted * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        radius_px = _TELEA_RADIUS_PX_AT_256 * max(trusted.shape) / 256
        filled = cv2.inpaint(picture, (~trusted).numpy().astype(np.uint8), radius_px, cv2.INPAINT_TELEA)
        return completed(face, atlas, torch.from_numpy(filled).permute(2, 0, 1) / 255)

    return complete


def complete_plain_skin(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
    """Skin without features, under the light fitted to the seen texels."""
    symmetric = face.reconstruction.topology.mirror is not None
    return completed(face, atlas, plain_skin(atlas.photo, face.texels, symmetric).exp())


def complete_mean_face(mean: Tensor, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
    """The mean face, shifted to this person's mean colour; `mean` [3, H, W] is log sRGB and resized to the texture."""
    trusted = trusted_texels(face, atlas)
    mean = F.interpolate(mean[None], list(trusted.shape), mode="bilinear", align_corners=False)[0]
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


def mean_face_completer() -> Completer:
    """With the mean of the shipped prior."""
    model = load_face_prior().gaussian
    grid = torch.zeros(3, model.grid_px, model.grid_px)
    grid[:, model.domain] = model.mean
    return partial(complete_mean_face, push_pull(grid, model.domain.float()))


BASELINES: Mapping[str, Callable[[], Completer]] = {
    "mean-face": mean_face_completer,
    "nearest": lambda: complete_nearest,
    "telea": telea_completer,
    "plain-skin": lambda: complete_plain_skin,
}
"""Name -> what builds it."""


def load_methods(
    names: Sequence[str], weights_dir: Path | None = None, device: str = "cpu", generator: Path | None = None
) -> dict[str, Completer]:
    """The completers by name, in this order, with the weight files of a folder, on a device, with a named generator.

    Raises `UnknownComponent`, `BadSettings` where a name comes twice or none is given, and what building them raises.
    """
    if not names:
        raise BadSettings(f"no method to measure; choose from {', '.join(known_methods())}.")
    if len(set(names)) < len(names):
        raise BadSettings(f"methods are {', '.join(names)}; name each once.")
    for name in names:
        if name not in known_methods():
            raise UnknownComponent(f"no method is called {name!r}; there is {', '.join(known_methods())}.")
    return {
        name: BASELINES[name]() if name in BASELINES else build("completer", name, weights_dir, device, generator)
        for name in names
    }


def known_methods() -> list[str]:
    """Every name that `load_methods` takes."""
    return sorted({*BASELINES, *(entry.name for entry in rows("completer"))})
