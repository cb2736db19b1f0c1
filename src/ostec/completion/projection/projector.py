"""The paper's method: turn the face, complete what the turn reveals, unwrap it into the texture, turn on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.projection.released_blend import join_as_released
from ostec.completion.projection.view_search import FaceSearch
from ostec.geometry.render import render
from ostec.interfaces import Rasteriser
from ostec.texture.features import chart_of_parts, with_features
from ostec.texture.stitch import match_colour, stitch
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import FRONT, in_batches, plan_views, shoot
from ostec.types import Atlas, Camera, Completed, Completion, Face, UVTexture

_FRONTAL = replace(FRONT, name="frontal")
_BACKGROUND_BELOW = 0.12
"""Darker pixels of a generator that draws coarsely may be the background around its head."""
_LEAST_INSIDE = 0.2


@dataclass(frozen=True)
class GeneratorTraits:
    """What a generator's pictures are like."""

    portraits: bool = True
    """Portraits with hair, on a background; otherwise only heads as views show them."""
    finest_px: int = 1
    """The smallest feature that it draws."""
    guess_trust: float = 0.0
    """Weight of the base completer's guess of hidden parts in the search; known parts have 1."""


PORTRAITS = GeneratorTraits()


def project_views(
    face: Face,
    atlas: Atlas,
    base: Tensor | None,
    search: FaceSearch,
    traits: GeneratorTraits,
    rasterise: Rasteriser,
    span: tuple[float, float] = (0.0, 1.0),
) -> Completed:
    """Complete the texture view by view (the paper, sections 3.2 to 3.5).

    `atlas` holds what the photo showed; `base` [3, Hu, Wu], 0..1, is a texture that another completer made, from which
    views that show nothing keep their colours and detail. Without it, views are processed as by the released code.
    `span` is the progress before and after. Raises what the progress of `search` raises.
    """
    released, photo = base is None, atlas.photo
    # Plan: the rotations of the head. Ours searches a view and its mirror image at once, the release one by one.
    views = plan_views(face.mode)
    batches = tuple((view,) for view in views) if released else in_batches(views)
    low, step = span[0], (span[1] - span[0]) / len(batches)
    least_confidence, guess_trust = (0.0, 0.0) if released else (TRUSTED, traits.guess_trust)

    texture = _stitched(face, atlas, base, draft=True)
    completions: list[Completion] = []
    for index, batch in enumerate(batches):
        # Render: the texture so far, seen from each view of the batch, in the FFHQ frame of the generator.
        complete = with_features(texture, face)
        # Trust: the mask of what is known. The search matches the known part; the generator supplies the rest.
        trust = torch.where(complete.confidence >= least_confidence, 1.0, guess_trust)
        shots = tuple(
            shoot(face.reconstruction, complete.rgb, trust, view, search.size_px, rasterise) for view in batch
        )
        # Search: the latents in W+ whose pictures agree with the known parts.
        found = search(shots, (low + step * index, low + step * (index + 1)))
        for completion in found:
            shot = completion.shot
            # Unwrap: the picture into the texture's chart. Ours changes the base by the difference to its render.
            if base is None:
                seen = unwrap(completion.image, shot.camera, face.reconstruction, face.texels, rasterise)
            else:
                seen = unwrap_residual(completion.image, shot.camera, face, base, traits.finest_px, rasterise)
            # Match colour: to the photo, where both show the face.
            seen = match_colour(seen, photo, spread=released)
            atlas = atlas.add(shot.view.name, seen, shot.view.priority)
        completions += found
        # Stitch: each texel from the view that shows it best; the next views are rendered from the result.
        texture = _stitched(face, atlas, base, draft=index + 1 < len(batches))
    return Completed(texture, tuple(completions))


def project_frontal(
    face: Face, texture: UVTexture, search: FaceSearch, size_px: int, rasterise: Rasteriser, span: tuple[float, float]
) -> Tensor:
    """[3, size_px, size_px]: the completed face from the front, with hair, ears and background from the generator."""
    known = chart_of_parts(face.texels, face.reconstruction.topology).float()
    rgb = with_features(texture, face).rgb
    shot = shoot(face.reconstruction, rgb, known, _FRONTAL, search.size_px, rasterise)
    (completion,) = search((shot,), span, frontal=True)
    return F.interpolate(completion.image[None], (size_px, size_px), mode="bicubic", antialias=True)[0].clamp(0, 1)


def unwrap_residual(
    image: Tensor, camera: Camera, face: Face, base: Tensor, finest_px: int, rasterise: Rasteriser
) -> UVTexture:
    """`base` [3, Hu, Wu], changed by as much as `image` [3, R, R] differs from a render of `base`.

    So the texture keeps the detail for which the image's pixels are too coarse. The difference is smoothed over
    `finest_px`, the smallest feature that the image can show.
    """
    rendered, covered = render(face.reconstruction, base, camera, rasterise)
    comparable = covered if finest_px == 1 else covered & (image.amax(dim=0) > _BACKGROUND_BELOW)
    residual = smoothed_within(image - rendered, comparable, finest_px)
    unwrapped = unwrap(residual / 2 + 0.5, camera, face.reconstruction, face.texels, rasterise)
    changed = base + torch.where(unwrapped.confidence > -1, 2 * unwrapped.rgb - 1, 0.0)
    return replace(unwrapped, rgb=changed.clamp(0, 1))


def smoothed_within(picture: Tensor, covered: Tensor, reach_px: int) -> Tensor:
    """[3, R, R] smoothed over `reach_px`, using only pixels inside `covered` [R, R] bool and at least twice as far from
    its rim, where outlines may differ; it fades to 0 where there are none."""
    if reach_px <= 1:
        return picture * covered
    side = 2 * reach_px + 1
    inside = 1 - F.max_pool2d((~covered).float()[None], 2 * side - 1, 1, 2 * reach_px)
    planes = torch.cat([picture * inside, inside])
    for _ in range(2):
        planes = F.avg_pool2d(planes, side, 1, reach_px)
    return planes[:-1] / planes[-1:].clamp(min=_LEAST_INSIDE)


def _stitched(face: Face, atlas: Atlas, base: Tensor | None, draft: bool) -> UVTexture:
    """One texture of the photo, which the atlas holds first, and the views.

    With a base in the gradient domain: in soft mode the photo's trusted texels stay as they are, and `base` colours
    texels that no view shows; a `draft` may be off by a level of 255. Without one by the released code's averages.
    """
    if base is None:
        return join_as_released(face, atlas)
    inside = face.texels.inside
    trusted = inside & (atlas.photo.confidence >= TRUSTED)
    keep = trusted if face.mode == "soft" else torch.zeros_like(inside)
    return stitch(atlas, inside, keep, base, draft=draft)
