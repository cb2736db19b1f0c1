"""Puts the projection completer together from the weight files that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ostec.completion.prior import load_prior_completer
from ostec.completion.projection import ProjectionCompleter
from ostec.errors import BadWeights
from ostec.geometry.raster import rasterise
from ostec.interfaces import IdentityNet, Judges
from ostec.models.identity import embeddings, load_mobilefacenet
from ostec.models.iresnet import load_iresnet
from ostec.models.landmarks import load_mesh_landmarks
from ostec.models.library import GENERATORS, JUDGES, find, require_generator, weights_folders
from ostec.models.perceptual import load_lpips
from ostec.models.stylegan2_discriminator import Discriminator
from ostec.models.stylegan2_files import load_discriminator, load_generator

_MIDDLE = 2
"""Of VGG16's five taps: block3_conv3, the layer of the released code."""


def load_projection_completer(weights_dir: Path | None, device: str) -> ProjectionCompleter:
    """With the first generator that is there. Raises `MissingWeights`, `BadWeights`."""
    folders = weights_folders(weights_dir)
    path = require_generator(folders)
    generator = load_generator(path, device)
    judges = Judges(
        landmarks=load_mesh_landmarks(device),
        identity=_identity(folders, device),
        **_perceptual(find("vgg16-397923af.pth", folders), find("lpips_v0.1_vgg.*", folders), device),
        discriminator=_discriminator(path, device, generator.resolution),
    )
    return ProjectionCompleter(generator, judges, load_prior_completer(), rasterise)


def licences(weights_dir: Path | None) -> Mapping[str, str]:
    """File -> licence, of the files that `load_projection_completer` would use."""
    folders = weights_folders(weights_dir)
    used = [next((entry for entry in GENERATORS if find(entry.file, folders)), None)]
    used += [entry for entry in JUDGES if find(entry.file, folders)]
    return {entry.file: entry.licence for entry in used if entry is not None}


def _identity(folders: Sequence[Path], device: str) -> IdentityNet | None:
    for file, load in (("arcface.pth", load_iresnet), ("mobilefacenet_arcface.safetensors", load_mobilefacenet)):
        if path := find(file, folders):
            net = load(path).to(device).requires_grad_(False)
            return lambda pictures, landmarks_px: embeddings(net, pictures, landmarks_px)
    return None


def _perceptual(trunk: Path | None, heads: Path | None, device: str) -> dict[str, Any]:
    if trunk is None or heads is None:
        return {}
    net = load_lpips(trunk, heads).to(device).requires_grad_(False)
    return {"perceptual": net, "features": lambda pictures: net.features(pictures)[_MIDDLE]}


def _discriminator(path: Path, device: str, resolution: int) -> Discriminator | None:
    try:
        found = load_discriminator(path, device)
    except BadWeights:  # many files hold the generator alone
        return None
    return found if found.resolution == resolution else None
