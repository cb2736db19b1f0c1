"""The released code's way of joining: averages with known weights, nearest colours, thresholds by yaw."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import pytest
import torch
from synthetic import all_skin, head, paint, photograph

from ostec.completion.projection.released_blend import blend, join_as_released, source_texture
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.types import Atlas, Face, UVTexture

SIZE = 256
INSIDE = torch.ones(SIZE, SIZE, dtype=torch.bool)
COLUMN = torch.arange(SIZE).expand(SIZE, -1)


def plain(value: float, confidence: torch.Tensor) -> UVTexture:
    return UVTexture(torch.full((3, SIZE, SIZE), value), confidence)


def face_of(yaw_deg: float, mode: str = "soft") -> Face:
    fit = replace(head(yaw_deg), yaw_deg=yaw_deg)
    texels = bake_texels(fit, (SIZE, SIZE), rasterise)
    return Face(photograph(fit, paint(SIZE)), fit, all_skin(), texels, "soft" if mode == "soft" else "hard")


def test_a_straight_border_fades_like_a_normal_distribution_of_40_texels() -> None:
    halves = [torch.where((COLUMN < SIZE // 2) == left, 0.9, 0.5) for left in (True, False)]
    atlas = Atlas().add("a", plain(0.0, halves[0]), 1.0).add("b", plain(1.0, halves[1]), 1.0)
    row = blend(atlas, INSIDE).rgb[0, SIZE // 2]
    sigma = NormalDist(0, 40 * SIZE / 1024)
    for texels in (-16, -5, 0, 5, 16):
        assert float(row[SIZE // 2 + texels]) == pytest.approx(sigma.cdf(texels + 0.5), abs=0.01)


def test_what_nobody_saw_takes_the_nearest_colour_and_stays_unseen() -> None:
    seen = torch.where(COLUMN < 100, 0.9, -1.0)
    rgb = (COLUMN / SIZE).expand(3, -1, -1)
    out = blend(Atlas().add("a", UVTexture(rgb, seen), 1.0), INSIDE)
    assert torch.allclose(out.rgb[:, :, 100:], rgb[:, :, 99:100], atol=1e-5)
    assert torch.allclose(out.rgb[:, :, :100], rgb[:, :, :100], atol=1e-5)
    assert bool((out.confidence[:, 100:] == -1).all())


@pytest.mark.parametrize(("yaw_deg", "least"), [(20.0, 0.4), (-20.0, 0.4), (40.0, 0.6)])
def test_flat_texels_do_not_count(yaw_deg: float, least: float) -> None:
    confidence = torch.linspace(0, 1, SIZE)[:, None].expand(SIZE, SIZE).contiguous()
    source = source_texture(plain(0.5, confidence), face_of(yaw_deg, "hard"))
    assert torch.equal(source.confidence > -1, confidence > least)


def test_a_profile_is_mirrored_in_soft_mode() -> None:
    """The right half is seen: the left one shows it flipped, and across the middle they mix."""
    seen = torch.where(COLUMN >= SIZE // 2 - 10, 0.9, -1.0)
    photo = UVTexture((COLUMN / SIZE).expand(3, -1, -1), seen)
    mirrored = source_texture(photo, face_of(40.0))
    assert torch.equal(mirrored.rgb[:, :, 200:], photo.rgb[:, :, 200:])
    assert torch.allclose(mirrored.rgb[:, :, :56], photo.rgb[:, :, 200:].flip(2))
    assert bool((mirrored.confidence > 0).all())
    assert torch.equal(source_texture(photo, face_of(40.0, "hard")).rgb, photo.rgb)
    assert bool((source_texture(photo, face_of(20.0)).confidence[:, :100] == -1).all())


def test_the_photo_joined_with_nothing_is_the_photo_where_it_counts() -> None:
    face = face_of(20.0)
    confidence = torch.where(face.texels.inside, 0.9, -1.0)
    out = join_as_released(face, Atlas().add("photo", UVTexture(paint(SIZE), confidence), 2.0, "photo"))
    assert torch.allclose(out.rgb[:, face.texels.inside], paint(SIZE)[:, face.texels.inside], atol=1e-5)
