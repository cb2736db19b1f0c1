"""Puts the projection completer together from the weight files that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ostec.completion.prior import load_prior_completer
from ostec.completion.projection import ProjectionCompleter
from ostec.geometry.raster import rasterise
from ostec.interfaces import IdentityNet, Judges, PerceptualNet
from ostec.models.identity import embeddings, load_mobilefacenet
from ostec.models.iresnet import load_iresnet
from ostec.models.landmarks import load_mesh_landmarks
from ostec.models.library import GENERATORS, JUDGES, PARTS, find, require_generator, weights_folders
from ostec.models.perceptual import load_lpips
from ostec.models.stylegan2_files import load_networks


def load_projection_completer(weights_dir: Path | None, device: str) -> ProjectionCompleter:
    """With the first generator that is there. Raises `MissingWeights`, `BadWeights`."""
    folders = weights_folders(weights_dir)
    path = require_generator(folders)
    generator, discriminator = load_networks(path, device)
    judges = Judges(
        landmarks=load_mesh_landmarks(device),
        identity=_identity(folders, device),
        perception=_perceptual(folders, device),
        discriminator=discriminator if discriminator and discriminator.resolution == generator.resolution else None,
    )
    return ProjectionCompleter(generator, judges, load_prior_completer(), rasterise)


def licences(part: str, weights_dir: Path | None) -> Mapping[str, str]:
    """File -> licence, of the weight files that a part would use."""
    if part in PARTS:
        return {entry.file: entry.licence for entry in PARTS[part]}
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


def _perceptual(folders: Sequence[Path], device: str) -> PerceptualNet | None:
    trunk = find("vgg16-397923af.pth", folders)
    heads = find("lpips_v0.1_vgg.pth", folders) or find("lpips_v0.1_vgg.safetensors", folders)
    if trunk is None or heads is None:
        return None
    return load_lpips(trunk, heads).to(device).requires_grad_(False)
