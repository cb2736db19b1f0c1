"""Completion by symmetry: what one side hides the other shows, relit for its new place."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.interfaces import Progress
from ostec.light.cavities import cavity_shade
from ostec.light.shading import Shading, fit_shading, harmonics, log_colour
from ostec.settings import Settings
from ostec.texture.grain import skin_grain
from ostec.texture.stitch import stitch
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Completed, Face, Texels, UVTexture

_NO_SYMMETRY = "the face model has no mirror map: hidden texels were filled with plain skin"
_GRID_PX = 96


class MirrorCompleter:
    """Fills hidden texels from the other side of the face, and where neither side was seen with plain skin that has
    the grain of this person's.

    In soft mode the photo's trusted texels are kept bit for bit. In hard mode each texel comes from whichever side
    shows it better, under light that is equal from both sides, so that only the photo's colours remain.
    """

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        symmetric = face.reconstruction.topology.mirror is not None
        inside = face.texels.inside
        photo = atlas.textures[0]
        light = plain_skin(fit_to_texture(photo, face.texels, symmetric), face.texels)
        grain = skin_grain(photo, log_colour(photo.rgb), settings.seed) + cavity_shade(face)
        progress("light", 0.3)
        trusted = inside & (photo.confidence >= TRUSTED)
        if face.mode == "soft":
            atlas = atlas.add("mirror", mirrored(photo, light), 1.0) if symmetric else atlas
            texture = stitch(atlas, inside, trusted, (light + grain).exp().clamp(0, 1))
        else:
            relit_photo, even = evened(photo, light, symmetric)
            atlas = Atlas().add("photo", relit_photo, 1.0)
            atlas = atlas.add("mirror", mirrored(relit_photo, even), 1.0) if symmetric else atlas
            texture = stitch(atlas, inside, torch.zeros_like(inside), (even + grain).exp().clamp(0, 1))
            texture = with_colours_of(texture, photo, trusted)
        warnings = [*([] if symmetric else [_NO_SYMMETRY]), *settings.search.unused_warnings()]
        return Completed(texture, notes={"warnings": warnings})


def fit_to_texture(seen: UVTexture, texels: Texels, symmetric: bool) -> Shading:
    """The light on a texture; where `symmetric`, u -> 1-u mirrors the face and both sides are compared."""
    weight = (seen.confidence.clamp(min=0) * texels.inside)[None, None]
    size = [_GRID_PX, _GRID_PX]
    mass = F.interpolate(weight, size, mode="area")
    colour = F.interpolate(log_colour(seen.rgb)[None] * weight, size, mode="area") / mass.clamp(min=1e-6)
    normals = F.interpolate((texels.normals.movedim(-1, 0) * texels.inside)[None], size, mode="area")
    unit = F.normalize(normals, dim=1)[0].movedim(0, -1)
    mass, colour = mass[0, 0], colour[0].movedim(0, -1)
    pairs = None
    if symmetric:
        basis = harmonics(unit)
        steps = (colour - colour.flip(1)).reshape(-1, 3), (basis - basis.flip(1)).reshape(-1, 9)
        pairs = (*steps, torch.minimum(mass, mass.flip(1)).flatten())
    return fit_shading(colour.reshape(-1, 3), unit.reshape(-1, 3), mass.flatten(), pairs)


def plain_skin(shading: Shading, texels: Texels) -> Tensor:
    """[3, Hu, Wu]: log colour of skin without features under this light."""
    return shading.log_skin(texels.normals).movedim(-1, 0)


def evened(photo: UVTexture, light: Tensor, symmetric: bool) -> tuple[UVTexture, Tensor]:
    """The photo under light [3, Hu, Wu] (log) that is equal from both sides, and that light."""
    even = (light + light.flip(2)) / 2 if symmetric else light
    return relit(photo, even - light), even


def with_colours_of(texture: UVTexture, photo: UVTexture, trusted: Tensor) -> UVTexture:
    """The texture with the photo's mean colour over `trusted` [Hu, Wu] bool."""
    gain = photo.rgb[:, trusted].mean(dim=1) / texture.rgb[:, trusted].mean(dim=1).clamp(min=0.02)
    return relit(texture, gain.log()[:, None, None])


def mirrored(photo: UVTexture, log_light: Tensor) -> UVTexture:
    """The texture flipped to the other side and relit there; `log_light` [3, Hu, Wu] is plain skin in place."""
    flipped = UVTexture(photo.rgb.flip(2), photo.confidence.flip(1))
    return relit(flipped, log_light - log_light.flip(2))


def relit(texture: UVTexture, log_gain: Tensor) -> UVTexture:
    """The texture times exp(`log_gain` [3, Hu, Wu])."""
    return replace(texture, rgb=(texture.rgb * log_gain.exp()).clamp(0, 1))
