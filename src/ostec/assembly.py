"""Puts the projection completer together from the weight files that are there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from ostec.completion.prior import load_prior_completer
from ostec.completion.projection import ProjectionCompleter
from ostec.geometry.raster import rasterise
from ostec.interfaces import IdentityNet, Judges
from ostec.models import sources
from ostec.models.identity import embeddings
from ostec.models.landmarks import load_mesh_landmarks
from ostec.models.library import require_generator, weights_folders
from ostec.models.weight_files import PARTS


def load_projection_completer(weights_dir: Path | None, device: str) -> ProjectionCompleter:
    """With the first files for each network that are there. Raises `MissingWeights`, `BadWeights`."""
    folders = weights_folders(weights_dir)
    require_generator(folders)
    found = sources.chosen(folders)
    generator, discriminator = (net and net.to(device) for net in found.pop("generator").load())
    networks = {name: source.load().to(device).requires_grad_(False) for name, source in found.items()}
    judges = Judges(
        landmarks=load_mesh_landmarks(device),
        heat_maps=networks.get("heat_maps"),
        identity=_identity(networks.get("identity")),
        perception=networks.get("perception"),
        discriminator=discriminator if discriminator and discriminator.resolution == generator.resolution else None,
    )
    return ProjectionCompleter(generator, judges, load_prior_completer(), rasterise, networks.get("encoder"))


def licences(part: str, weights_dir: Path | None) -> Mapping[str, str]:
    """File -> licence, of the weight files that a part would use."""
    if part in PARTS:
        return {entry.file: entry.licence for entry in PARTS[part]}
    return sources.licences(weights_folders(weights_dir))


def _identity(net: nn.Module | None) -> IdentityNet | None:
    if net is None:
        return None
    return lambda pictures, landmarks_px: embeddings(net, pictures, landmarks_px)
