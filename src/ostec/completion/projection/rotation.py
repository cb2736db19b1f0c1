"""The paper's loop: turn the face, complete what the turn reveals, lay it into the texture, turn on (section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

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
Lay = Callable[[Tensor, Camera], UVTexture]
"""(picture [3, R, R], its camera) to the texture of what it shows of the face, in the photo's colours."""

_BACKGROUND_BELOW = 0.12
"""What is darker in a picture by a generator that draws coarsely may be the background around its head."""
_LEAST_INSIDE = 0.2


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
    lay: Lay | None = None,
    guessed: float = 0.0,
) -> Completed:
    """Complete the texture batch by batch of views; those of a batch do not see one another's results.

    `atlas` holds what the photo showed; texels count as known from the confidence `trusted`. `draft`, where given,
    joins what is only there to be photographed; `lay`, where given, is how views are unwrapped. A shot's trust is 1
    where texels are known and `guessed` where they are not.
    """
    lay = lay or plainly(face, atlas.textures[0], rasterise)
    joins = [*[draft or join] * len(batches), join]
    texture = joins[0](face, atlas)
    completions: list[Completion] = []
    for index, views in enumerate(batches):
        whole = with_features(texture, face)
        known = torch.where(whole.confidence >= trusted, 1.0, guessed)
        shots = tuple(shoot(face.reconstruction, whole.rgb, known, view, size_px, rasterise) for view in views)
        for completion in finish(shots, index / len(batches), 1 / len(batches)):
            shot = completion.shot
            atlas = atlas.add(shot.view.name, lay(completion.image, shot.camera), shot.view.priority)
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


def plainly(face: Face, photo: UVTexture, rasterise: Rasteriser) -> Lay:
    """Views as they are."""

    def lay(image: Tensor, camera: Camera) -> UVTexture:
        return match_colour(unwrap(image, camera, face.reconstruction, face.texels, rasterise), photo)

    return lay


def over(face: Face, photo: UVTexture, base: Tensor, rasterise: Rasteriser, finest_px: int = 1) -> Lay:
    """`base` [3, Hu, Wu], changed by as much as a view differs from a picture of `base`: so a texture keeps the detail
    for which a view's pixels are too coarse. The difference is smoothed over `finest_px`, the smallest that the view's
    maker draws.
    """

    def lay(image: Tensor, camera: Camera) -> UVTexture:
        picture, covered = render(face.reconstruction, base, camera, rasterise)
        both = covered if finest_px == 1 else covered & (image.amax(dim=0) > _BACKGROUND_BELOW)
        difference = smoothed_within(image - picture, both, finest_px)
        laid = unwrap(difference / 2 + 0.5, camera, face.reconstruction, face.texels, rasterise)
        changed = base + torch.where(laid.confidence > -1, 2 * laid.rgb - 1, 0.0)
        return match_colour(replace(laid, rgb=changed.clamp(0, 1)), photo, spread=False)

    return lay


def smoothed_within(picture: Tensor, covered: Tensor, reach_px: int) -> Tensor:
    """[3, R, R] smoothed over `reach_px`, by what lies inside `covered` [R, R] bool and twice as far from its rim,
    where the outlines of what is compared may differ; it fades to 0 where nothing does."""
    if reach_px <= 1:
        return picture * covered
    side = 2 * reach_px + 1
    inside = 1 - F.max_pool2d((~covered).float()[None], 2 * side - 1, 1, 2 * reach_px)
    planes = torch.cat([picture * inside, inside])
    for _ in range(2):
        planes = F.avg_pool2d(planes, side, 1, reach_px)
    return planes[:-1] / planes[-1:].clamp(min=_LEAST_INSIDE)
