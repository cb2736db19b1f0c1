"""Puts the projection completer together from the weight files that are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ostec.completion.prior import load_prior_completer
from ostec.completion.projection import ProjectionCompleter
from ostec.geometry.raster import rasterise
from ostec.interfaces import IdentityNet, Judges
from ostec.models import sources
from ostec.models.identity import embeddings
from ostec.models.landmarks import load_mesh_landmarks
from ostec.models.library import require_generator, weights_folders
from ostec.models.perceptual import Lpips

_MIDDLE = 2
"""Of VGG16's five taps: block3_conv3, the layer of the released code."""


def load_projection_completer(weights_dir: Path | None, device: str) -> ProjectionCompleter:
    """With the first files for each part that are there. Raises `MissingWeights`, `BadWeights`."""
    folders = weights_folders(weights_dir)
    require_generator(folders)
    networks = {part: found.load() for part, found in sources.chosen(folders).items()}
    generator, discriminator = (net and net.to(device) for net in networks["generator"])
    judges = Judges(
        landmarks=load_mesh_landmarks(device),
        identity=_identity(networks.get("identity"), device),
        **_perceptual(networks.get("perceptual"), device),
        discriminator=discriminator if discriminator and discriminator.resolution == generator.resolution else None,
    )
    return ProjectionCompleter(generator, judges, load_prior_completer(), rasterise)


def licences(weights_dir: Path | None) -> Mapping[str, str]:
    """File -> licence, of the files that `load_projection_completer` would use."""
    return sources.licences(weights_folders(weights_dir))


def _identity(net: nn.Module | None, device: str) -> IdentityNet | None:
    if net is None:
        return None
    fixed = net.to(device).requires_grad_(False)
    return lambda pictures, landmarks_px: embeddings(fixed, pictures, landmarks_px)


def _perceptual(net: Lpips | None, device: str) -> dict[str, Any]:
    if net is None:
        return {}
    fixed = net.to(device).requires_grad_(False)
    return {"perceptual": fixed, "features": lambda pictures: fixed.features(pictures)[_MIDDLE]}
