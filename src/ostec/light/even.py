"""The light on a texture, and the same texture under light that is equal from both sides."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.light.shading import fit_shading, harmonics, log_colour
from ostec.types import Texels, UVTexture

_GRID_PX = 96


def plain_skin(texture: UVTexture, texels: Texels, symmetric: bool) -> Tensor:
    """[3, Hu, Wu]: log colour of skin without features under the light on a texture.

    Where `symmetric`, u -> 1-u mirrors the face and both sides are compared.
    """
    weight = (texture.confidence.clamp(min=0) * texels.inside)[None, None]
    size = [_GRID_PX, _GRID_PX]
    mass = F.interpolate(weight, size, mode="area")
    colour = F.interpolate(log_colour(texture.rgb)[None] * weight, size, mode="area") / mass.clamp(min=1e-6)
    normals = F.interpolate((texels.normals.movedim(-1, 0) * texels.inside)[None], size, mode="area")
    unit = F.normalize(normals, dim=1)[0].movedim(0, -1)
    mass, colour = mass[0, 0], colour[0].movedim(0, -1)
    pairs = None
    if symmetric:
        basis = harmonics(unit)
        steps = (colour - colour.flip(1)).reshape(-1, 3), (basis - basis.flip(1)).reshape(-1, 9)
        pairs = (*steps, torch.minimum(mass, mass.flip(1)).flatten())
    shading = fit_shading(colour.reshape(-1, 3), unit.reshape(-1, 3), mass.flatten(), pairs)
    return shading.log_skin(texels.normals).movedim(-1, 0)


def with_even_light(texture: UVTexture, log_light: Tensor, symmetric: bool) -> tuple[UVTexture, Tensor]:
    """The texture under the mean of its light [3, Hu, Wu] (log) and that light mirrored, and the new light; nothing
    changes where the head is not `symmetric`."""
    even = (log_light + log_light.flip(2)) / 2 if symmetric else log_light
    return relit(texture, even - log_light), even


def with_colours_of(texture: UVTexture, photo: UVTexture, trusted: Tensor) -> UVTexture:
    """The texture with the photo's mean colour over `trusted` [Hu, Wu] bool."""
    gain = photo.rgb[:, trusted].mean(dim=1) / texture.rgb[:, trusted].mean(dim=1).clamp(min=0.02)
    return relit(texture, gain.log()[:, None, None])


def relit(texture: UVTexture, log_gain: Tensor) -> UVTexture:
    """The texture times exp(`log_gain` [3, Hu, Wu])."""
    return replace(texture, rgb=(texture.rgb * log_gain.exp()).clamp(0, 1))
