"""The paper's loop: turn the face, complete what the turn reveals, lay it into the texture, turn on (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ostec.interfaces import Rasteriser
from ostec.texture.features import with_features
from ostec.texture.shoot import shoot
from ostec.texture.stitch import match_colour, stitch
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.types import Atlas, Completed, Completion, Face, Shot, View

Finish = Callable[[tuple[Shot, ...], float, float], tuple[Completion, ...]]
"""(shots, share of the work done before, share that they are) to their completions: invents what they do not trust."""


def complete_by_rotation(
    face: Face,
    atlas: Atlas,
    batches: tuple[tuple[View, ...], ...],
    base: Tensor,
    finish: Finish,
    rasterise: Rasteriser,
    size_px: int,
) -> Completed:
    """Complete the texture batch by batch of views; those of a batch do not see one another's results.

    `atlas` holds what the photo showed; `base` [3, Hu, Wu] colours texels that no view sees.
    """
    photo, inside = atlas.textures[0], face.texels.inside
    keep = inside & (photo.confidence >= TRUSTED) if face.mode == "soft" else torch.zeros_like(inside)
    texture = stitch(atlas, inside, keep, base)
    completions: list[Completion] = []
    for index, views in enumerate(batches):
        whole = with_features(texture, face)
        known = (whole.confidence >= TRUSTED).float()
        shots = tuple(shoot(face.reconstruction, whole.rgb, known, view, size_px, rasterise) for view in views)
        for completion in finish(shots, index / len(batches), 1 / len(batches)):
            shot = completion.shot
            unwrapped = unwrap(completion.image, shot.camera, face.reconstruction, face.texels, rasterise)
            atlas = atlas.add(shot.view.name, match_colour(unwrapped, photo), shot.view.priority)
            completions.append(completion)
        texture = stitch(atlas, inside, keep, base)
    return Completed(texture, tuple(completions))
