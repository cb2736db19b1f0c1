"""Puts the projection completer together from the weight files that are there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from ostec.completion.prior.completer import load_prior_completer
from ostec.completion.projection.completer import ProjectionCompleter
from ostec.completion.projection.projector import PORTRAITS, GeneratorTraits
from ostec.completion.projection.view_search import ViewSearch
from ostec.detection.blazeface import load_detector
from ostec.errors import BadWeights
from ostec.geometry.raster import rasterise
from ostec.interfaces import Generator, IdentityNet, LossNetworks
from ostec.landmarks.facemesh_landmarks import load_mesh_landmarks
from ostec.networks.identity import embeddings
from ostec.registry.sources import WeightSource
from ostec.types import Photo

_DETECTION_PX, _LEAST_PX = 256, 32
_SMALL, _SMALL_TRAITS = "small", GeneratorTraits(portraits=False, finest_px=3, guess_trust=0.4)
_NO_FACES = "no face is found in the picture of its mean latent. Views are as good as it knows faces; use one of FFHQ."


def load_projection_completer(sources: Mapping[str, WeightSource], device: str) -> ProjectionCompleter:
    """With the networks in `sources`: kind -> source, of which "generator" is required. Raises `BadWeights`."""
    source = sources["generator"]
    path = source.paths[0]
    generator, discriminator = (net and net.to(device) for net in source.load())
    if generator.resolution < _LEAST_PX:
        raise BadWeights(f"{path} makes pictures of {generator.resolution} px; {_LEAST_PX} are the least.")
    others = ((kind, other.load()) for kind, other in sources.items() if other is not source)
    networks = {kind: net.to(device).requires_grad_(False) for kind, net in others}
    loss_networks = LossNetworks(
        landmarks=load_mesh_landmarks(device),
        heat_maps=networks.get("heat_maps"),
        identity=_identity(networks.get("identity")),
        perception=networks.get("perception"),
        discriminator=discriminator if discriminator and discriminator.resolution == generator.resolution else None,
    )
    remarks = () if makes_faces(generator) else (f"{path.name}: {_NO_FACES}",)
    search = ViewSearch(generator, loss_networks, networks.get("encoder"))
    traits = _SMALL_TRAITS if source.entry.name == _SMALL else PORTRAITS
    return ProjectionCompleter(search, load_prior_completer(), rasterise, remarks, traits)


@torch.no_grad()
def makes_faces(generator: Generator) -> bool:
    """Whether a face is found in the picture of the mean latent."""
    mean = generator.synthesis(generator.w_avg.expand(1, generator.num_ws, -1)) / 2 + 0.5
    picture = F.interpolate(mean, (_DETECTION_PX, _DETECTION_PX), mode="bicubic", antialias=True)[0]
    return bool(load_detector()(Photo(picture.clamp(0, 1).cpu(), "the generator's mean picture")))


def _identity(net: nn.Module | None) -> IdentityNet | None:
    if net is None:
        return None
    return lambda pictures, landmarks_px: embeddings(net, pictures, landmarks_px)
