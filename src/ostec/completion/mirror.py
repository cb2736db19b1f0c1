"""Completion by symmetry: hidden texels are taken from the other side of the face, relit for their new place."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.interfaces import Progress
from ostec.light.even import plain_skin, relit, with_colours_of, with_even_light
from ostec.light.shading import cavity_shade, log_colour
from ostec.settings import Settings
from ostec.texture.grain import skin_grain
from ostec.texture.stitch import stitch
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Completed, Face, UVTexture

_NO_SYMMETRY = "the face model has no mirror map: hidden texels were filled with plain skin"


class MirrorCompleter:
    """Fills hidden texels from the other side of the face; where neither side was seen, with plain skin that has the
    grain of this person's.

    In soft mode the photo's trusted texels are kept bit for bit. In hard mode each texel comes from whichever side
    shows it better, under light that is equal from both sides, so that only the photo's colours remain.
    """

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        symmetric = face.reconstruction.topology.mirror is not None
        inside = face.texels.inside
        photo = atlas.photo
        light = plain_skin(photo, face.texels, symmetric)
        grain = skin_grain(photo, log_colour(photo.rgb), settings.seed) + cavity_shade(face)
        progress("light", 0.3)
        trusted = inside & (photo.confidence >= TRUSTED)
        if face.mode == "soft":
            atlas = atlas.add("mirror", mirrored(photo, light), 1.0) if symmetric else atlas
            texture = stitch(atlas, inside, trusted, (light + grain).exp().clamp(0, 1))
        else:
            relit_photo, even = with_even_light(photo, light, symmetric)
            atlas = Atlas().add("photo", relit_photo, 1.0, "photo")
            atlas = atlas.add("mirror", mirrored(relit_photo, even), 1.0) if symmetric else atlas
            texture = stitch(atlas, inside, torch.zeros_like(inside), (even + grain).exp().clamp(0, 1))
            texture = with_colours_of(texture, photo, trusted)
        warnings = [*([] if symmetric else [_NO_SYMMETRY]), *settings.search.unused_warnings()]
        return Completed(texture, notes={"warnings": warnings})


def mirrored(photo: UVTexture, log_light: Tensor) -> UVTexture:
    """The texture flipped to the other side and relit there; `log_light` [3, Hu, Wu] is that of plain skin."""
    flipped = UVTexture(photo.rgb.flip(2), photo.confidence.flip(1))
    return relit(flipped, log_light - log_light.flip(2))
