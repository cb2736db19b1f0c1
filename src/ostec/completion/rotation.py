"""The paper's loop: turn the face, complete what the turn reveals, lay it into the texture, turn on (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ostec.geometry.render import render
from ostec.interfaces import Rasteriser
from ostec.texture.features import with_features
from ostec.texture.shoot import shoot
from ostec.texture.stitch import match_colour, stitch
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.types import Atlas, Camera, Completed, Completion, Face, Shot, UVTexture, View

Finish = Callable[[tuple[Shot, ...], float, float], tuple[Completion, ...]]
"""(shots, share of the work done before, share that they are) to their completions: invents what they do not trust."""
Join = Callable[[Face, Atlas], UVTexture]
"""Of what the photo and the views so far show, photo first, makes one texture."""
Detail = Callable[[Camera], Tensor]
"""What to add to a texture [3, Hu, Wu] laid off a picture by this camera: what its pixels are too coarse for."""


def complete_by_rotation(
    face: Face,
    atlas: Atlas,
    batches: tuple[tuple[View, ...], ...],
    join: Join,
    finish: Finish,
    rasterise: Rasteriser,
    size_px: int,
    trusted: float = TRUSTED,
    draft: Join | None = None,
    detail: Detail | None = None,
) -> Completed:
    """Complete the texture batch by batch of views; those of a batch do not see one another's results.

    `atlas` holds what the photo showed; texels count as known from the confidence `trusted`. `draft`, where given,
    joins what is only there to be photographed.
    """
    photo, joins = atlas.textures[0], [*[draft or join] * len(batches), join]
    texture = joins[0](face, atlas)
    completions: list[Completion] = []
    for index, views in enumerate(batches):
        whole = with_features(texture, face)
        known = (whole.confidence >= trusted).float()
        shots = tuple(shoot(face.reconstruction, whole.rgb, known, view, size_px, rasterise) for view in views)
        for completion in finish(shots, index / len(batches), 1 / len(batches)):
            shot = completion.shot
            unwrapped = unwrap(completion.image, shot.camera, face.reconstruction, face.texels, rasterise)
            if detail is not None:
                unwrapped = replace(unwrapped, rgb=unwrapped.rgb + detail(shot.camera))
            atlas = atlas.add(shot.view.name, match_colour(unwrapped, photo), shot.view.priority)
            completions.append(completion)
        texture = joins[index + 1](face, atlas)
    return Completed(texture, tuple(completions))


def seamless(base: Tensor, draft: bool = False) -> Join:
    """Joins in the gradient domain; in soft mode the photo's trusted texels stay as they are, and `base` [3, Hu, Wu]
    colours texels that no view sees. A `draft` may be off by a level of 255."""

    def join(face: Face, atlas: Atlas) -> UVTexture:
        inside = face.texels.inside
        trusted = inside & (atlas.textures[0].confidence >= TRUSTED)
        keep = trusted if face.mode == "soft" else torch.zeros_like(inside)
        return stitch(atlas, inside, keep, base, draft=draft)

    return join


def finer_than_pixels(face: Face, base: Tensor, rasterise: Rasteriser) -> Detail:
    """The detail of `base` [3, Hu, Wu] that is lost where it is photographed and laid off the picture again. On what
    the camera does not show it is 0."""

    def detail(camera: Camera) -> Tensor:
        picture, _ = render(face.reconstruction, base, camera, rasterise)
        again = unwrap(picture, camera, face.reconstruction, face.texels, rasterise)
        return (base - again.rgb) * (again.confidence > -1)

    return detail
