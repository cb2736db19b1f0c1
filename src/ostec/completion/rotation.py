"""The paper's loop: turn the face, complete what the turn reveals, lay it into the texture, turn on (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ostec.interfaces import Progress, Rasteriser
from ostec.texture.shoot import shoot
from ostec.texture.stitch import match_colour, stitch
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.types import Atlas, Completed, Completion, Face, Shot, View


def complete_by_rotation(
    face: Face,
    atlas: Atlas,
    views: tuple[View, ...],
    base: Tensor,
    finish: Callable[[Shot], Completion],
    rasterise: Rasteriser,
    size_px: int,
    progress: Progress,
) -> Completed:
    """Complete the texture view by view; `finish` invents what a shot does not trust.

    `atlas` holds what the photo showed; `base` [3, Hu, Wu] colours texels that no view sees.
    """
    photo, inside = atlas.textures[0], face.texels.inside
    keep = inside & (photo.confidence >= TRUSTED) if face.mode == "soft" else torch.zeros_like(inside)
    texture = stitch(atlas, inside, keep, base)
    completions: list[Completion] = []
    for index, view in enumerate(views):
        progress(view.name, index / len(views))
        known = (texture.confidence >= TRUSTED).float()
        shot = shoot(face.reconstruction, texture.rgb, known, view, size_px, rasterise)
        completion = finish(shot)
        unwrapped = unwrap(completion.image, shot.camera, face.reconstruction, face.texels, rasterise)
        atlas = atlas.add(view.name, match_colour(unwrapped, photo), view.priority)
        texture = stitch(atlas, inside, keep, base)
        completions.append(completion)
    return Completed(texture, tuple(completions))
