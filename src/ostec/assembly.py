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
from ostec.models.face_encoder import load_face_encoder
from ostec.models.identity import embeddings, load_mobilefacenet
from ostec.models.iresnet import load_iresnet
from ostec.models.landmarks import load_mesh_landmarks
from ostec.models.library import (
    JUDGES,
    PARTS,
    find,
    find_encoder,
    find_generator,
    licence_of,
    require_generator,
    weights_folders,
)
from ostec.models.perceptual import load_lpips
from ostec.models.stylegan2_files import load_networks

_MIDDLE = 2
"""Of VGG16's five taps: block3_conv3, the layer of the released code."""


def load_projection_completer(weights_dir: Path | None, device: str) -> ProjectionCompleter:
    """With the first generator that is there. Raises `MissingWeights`, `BadWeights`."""
    folders = weights_folders(weights_dir)
    path = require_generator(folders)
    generator, discriminator = load_networks(path, device)
    judges = Judges(
        landmarks=load_mesh_landmarks(device),
        identity=_identity(folders, device),
        **_perceptual(folders, device),
        discriminator=discriminator if discriminator and discriminator.resolution == generator.resolution else None,
    )
    guess = find_encoder(path)
    encoder = load_face_encoder(guess, device) if guess else None
    if encoder is not None and (encoder.num_ws, encoder.w_dim) != (generator.num_ws, len(generator.w_avg)):
        raise BadWeights(f"{guess} gives {encoder.num_ws} latents of {encoder.w_dim}, which {path} does not take.")
    return ProjectionCompleter(generator, judges, load_prior_completer(), rasterise, encoder)


def licences(part: str, weights_dir: Path | None) -> Mapping[str, str]:
    """File -> licence, of the weight files that a part would use."""
    if part in PARTS:
        return {entry.file: entry.licence for entry in PARTS[part]}
    folders = weights_folders(weights_dir)
    used = {entry.file: entry.licence for entry in JUDGES if find(entry.file, folders)}
    generator = find_generator(folders)
    paths = [path for path in (generator, generator and find_encoder(generator)) if path]
    return {**{path.name: licence_of(path.name) for path in paths}, **used}


def _identity(folders: Sequence[Path], device: str) -> IdentityNet | None:
    for file, load in (("arcface.pth", load_iresnet), ("mobilefacenet_arcface.safetensors", load_mobilefacenet)):
        if path := find(file, folders):
            net = load(path).to(device).requires_grad_(False)
            return lambda pictures, landmarks_px: embeddings(net, pictures, landmarks_px)
    return None


def _perceptual(folders: Sequence[Path], device: str) -> dict[str, Any]:
    trunk = find("vgg16-397923af.pth", folders)
    heads = find("lpips_v0.1_vgg.pth", folders) or find("lpips_v0.1_vgg.safetensors", folders)
    if trunk is None or heads is None:
        return {}
    net = load_lpips(trunk, heads).to(device).requires_grad_(False)
    return {"perceptual": net, "features": lambda pictures: net.features(pictures)[_MIDDLE]}
