"""Re-photo: complete a photo, render the textured head turned and under other light, run the tool on that.

The first texture is made by the parts' own completer and is the same for all methods. Only texels that the first photo
showed and the second picture cannot show are scored: there the truth comes from a photo. The same light is applied to
the first texture before the comparison. Detection and fitting are measured along with completion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.bench.gallery import Setup
from ostec.bench.record import Score
from ostec.bench.scores import blurred, texel_figures
from ostec.errors import OstecError
from ostec.geometry.camera import cropped
from ostec.geometry.render import portrait_camera, render
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Parts
from ostec.pipeline import complete_face, find_faces
from ostec.texture.unwrap import TRUSTED
from ostec.types import Photo, Reconstruction, Result

YAWS_DEG = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0)
_PICTURE_PX = 512
_ROOM = torch.tensor([[0.6, 0.0, 0.2 * _PICTURE_PX], [0.0, 0.6, 0.2 * _PICTURE_PX]])
"""Makes the head smaller in the picture than in the FFHQ crop, as in a snapshot."""
_LIGHT_STD = 0.12


def score_re_photo(photo: Photo, background: Photo, setup: Setup) -> Iterator[Score]:
    """Each method at each yaw; the photo's name decides the sign of the yaw and the light. A picture in which no face
    is found gives scores without figures."""
    parts, settings, gallery = setup.parts, setup.settings, setup.gallery
    first = complete_face(photo, find_faces(photo, parts)[0], parts, settings)
    sign = 1 - 2 * (sum(photo.name.encode()) % 2)
    lit = under_light(first, photo.name, parts)
    for yaw_deg in YAWS_DEG:
        picture = photographed(first.reconstruction, lit, background, sign * yaw_deg, parts)
        shown_at = yaw_deg == 45.0
        if shown_at:
            gallery.show(photo.name, f"{photo.name} at {sign * yaw_deg:.0f} deg", picture.rgb)
        for name, method in setup.methods.items():
            score = Score("re-photo", name, photo.name, yaw_deg)
            try:
                second = complete_face(
                    picture, find_faces(picture, parts)[0], replace(parts, completer=method), settings
                )
            except OstecError:
                yield score
                continue
            if shown_at:
                gallery.show(photo.name, name, second.texture.rgb)
            yield compared(score, first, lit, second, setup)
        if shown_at:
            gallery.show(photo.name, "truth", lit * (first.seen.confidence >= TRUSTED))


def under_light(result: Result, name: str, parts: Parts) -> Tensor:
    """[3, Hu, Wu]: the completed texture under another light than the photo's; the light depends on the name."""
    size = (result.texture.rgb.shape[1], result.texture.rgb.shape[2])
    normals = bake_texels(result.reconstruction, size, parts.rasterise).normals
    direction = torch.randn(3, generator=torch.Generator().manual_seed(sum(name.encode()))) * _LIGHT_STD
    return (result.texture.rgb * (normals @ direction).exp()).clamp(0, 1)


def photographed(face: Reconstruction, texture: Tensor, background: Photo, yaw_deg: float, parts: Parts) -> Photo:
    """A picture of the textured head turned to this yaw, in front of a blurred photo."""
    portrait = portrait_camera(face, 0.0, yaw_deg, 0.0, _PICTURE_PX)
    image, covered = render(face, texture, cropped(portrait, _ROOM, portrait.size), parts.rasterise)
    side = min(background.size)
    scenery = F.interpolate(background.rgb[None, :, :side, :side], (64, 64), mode="area")
    scenery = F.interpolate(blurred(scenery[0], 4.0)[None], (_PICTURE_PX, _PICTURE_PX), mode="bicubic")[0].clamp(0, 1)
    alpha = blurred(covered.float()[None], 1.0) * covered
    return Photo((image * alpha + scenery * (1 - alpha)).clamp(0, 1), f"{background.name}, re-photo")


def compared(score: Score, first: Result, truth: Tensor, second: Result, setup: Setup) -> Score:
    """The score with its figures: the second texture against `truth` [3, Hu, Wu] where only the first photo showed the
    texel; without figures where that is fewer than 50 texels."""
    parts, networks = setup.parts, setup.networks
    seen_first, seen_second = first.seen.confidence >= TRUSTED, second.seen.confidence >= TRUSTED
    hidden = seen_first & ~seen_second
    seconds = float(second.report["seconds"]["complete"])
    if int(hidden.sum()) < 50:
        return replace(score, seconds=seconds)
    done = second.texture
    picture = torch.where(hidden, done.rgb, truth)
    inside = bake_texels(second.reconstruction, (hidden.shape[0], hidden.shape[1]), parts.rasterise).inside
    return replace(
        score,
        **texel_figures(done, truth, hidden, seen_second, inside),
        lpips=networks.lpips_between(picture, truth),
        identity=networks.identity_between(first.reconstruction, done.rgb, truth, parts),
        seconds=seconds,
    )
