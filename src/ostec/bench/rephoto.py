"""Re-photo: complete a photo, photograph the textured head turned and under other light, run the whole tool on that.

The first texture is made by the parts' own completer, one and the same for all methods. Scored are texels that the
first photo showed and the second could not show: there the truth is a photo's. The light is ours, so the first texture
is brought under it before it is compared. Detection and fitting are measured along with completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.bench.gallery import Gallery
from ostec.bench.judge import Judges
from ostec.bench.record import Score
from ostec.bench.scores import blurred, delta_e2000, detail_ratio, psnr_db, seam_ratio, ssim, within_2_std
from ostec.errors import OstecError
from ostec.geometry.camera import cropped
from ostec.geometry.render import portrait_camera, render
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Completer, Parts
from ostec.pipeline import complete_face, find_faces
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.types import Photo, Reconstruction, Result, UVTexture

YAWS_DEG = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0)
_PICTURE_PX = 512
_ROOM = torch.tensor([[0.6, 0.0, 0.2 * _PICTURE_PX], [0.0, 0.6, 0.2 * _PICTURE_PX]])
"""The head smaller in its frame than the FFHQ crop has it, as in a snapshot."""
_LIGHT_STD = 0.12
_TILE_PX = 224


def score_re_photo(
    photo: Photo,
    background: Photo,
    methods: Mapping[str, Completer],
    parts: Parts,
    judges: Judges,
    settings: Settings,
    gallery: Gallery,
) -> Iterator[Score]:
    """Each method at each yaw; its sign and the light go by the photo's name. A second photo in which no face is found
    gives scores without figures."""
    first = complete_face(photo, find_faces(photo, parts)[0], parts, settings)
    sign = 1 - 2 * (sum(photo.name.encode()) % 2)
    lit = under_light(first, photo.name, parts)
    for yaw_deg in YAWS_DEG:
        picture = photographed(first.reconstruction, lit, background, sign * yaw_deg, parts)
        shown_at = yaw_deg == 45.0
        if shown_at:
            gallery.show(photo.name, f"{photo.name} at {sign * yaw_deg:.0f} deg", _tile(picture.rgb))
        for name, method in methods.items():
            score = Score("re-photo", name, photo.name, yaw_deg)
            try:
                second = complete_face(
                    picture, find_faces(picture, parts)[0], replace(parts, completer=method), settings
                )
            except OstecError:
                yield score
                continue
            if shown_at:
                gallery.show(photo.name, name, _tile(second.texture.rgb))
            yield compared(score, first, lit, second, parts, judges)
        if shown_at:
            gallery.show(photo.name, "truth", _tile(lit * (first.seen.confidence >= TRUSTED)))


def under_light(result: Result, name: str, parts: Parts) -> Tensor:
    """[3, Hu, Wu]: the completed texture under a light that differs from the photo's, another for each name."""
    size = (result.texture.rgb.shape[1], result.texture.rgb.shape[2])
    normals = bake_texels(result.reconstruction, size, parts.rasterise).normals
    direction = torch.randn(3, generator=torch.Generator().manual_seed(sum(name.encode()))) * _LIGHT_STD
    return (result.texture.rgb * (normals @ direction).exp()).clamp(0, 1)


def photographed(face: Reconstruction, texture: Tensor, background: Photo, yaw_deg: float, parts: Parts) -> Photo:
    """A picture of the textured head turned to this yaw, before a blurred photo."""
    portrait = portrait_camera(face, 0.0, yaw_deg, 0.0, _PICTURE_PX)
    image, covered = render(face, texture, cropped(portrait, _ROOM, portrait.size), parts.rasterise)
    side = min(background.size)
    scenery = F.interpolate(background.rgb[None, :, :side, :side], (64, 64), mode="area")
    scenery = F.interpolate(blurred(scenery[0], 4.0)[None], (_PICTURE_PX, _PICTURE_PX), mode="bicubic")[0].clamp(0, 1)
    alpha = blurred(covered.float()[None], 1.0) * covered
    return Photo((image * alpha + scenery * (1 - alpha)).clamp(0, 1), f"{background.name}, re-photo")


def compared(score: Score, first: Result, truth: Tensor, second: Result, parts: Parts, judges: Judges) -> Score:
    """The score with its figures: the second texture against the truth where only the first photo saw."""
    seen_first, seen_second = first.seen.confidence >= TRUSTED, second.seen.confidence >= TRUSTED
    hidden = seen_first & ~seen_second
    seconds = float(second.report["seconds"]["complete"])
    if int(hidden.sum()) < 50:
        return replace(score, seconds=seconds)
    done: UVTexture = second.texture
    picture = torch.where(hidden, done.rgb, truth)
    mirrored = hidden & seen_second.flip(1)
    inside = bake_texels(second.reconstruction, (hidden.shape[0], hidden.shape[1]), parts.rasterise).inside
    return replace(
        score,
        psnr_db=psnr_db(done.rgb, truth, hidden),
        ssim=ssim(picture, truth, hidden),
        lpips=judges.lpips_between(picture, truth),
        delta_e=delta_e2000(done.rgb, truth, hidden),
        identity=judges.identity_between(first.reconstruction, done.rgb, truth, parts),
        seam=seam_ratio(done.rgb, inside, seen_second),
        detail=detail_ratio(done.rgb, mirrored, mirrored.flip(1)),
        within_2_std=within_2_std(done.rgb, done.std, truth, hidden),
        seconds=seconds,
    )


def _tile(picture: Tensor) -> Tensor:
    return F.interpolate(picture[None], (_TILE_PX, _TILE_PX), mode="area")[0].clamp(0, 1)
