"""Re-photo on the painted head: the second picture shows what it should, and figures are of the right texels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import FakeWriter, complete, reconstruct, segment
from synthetic import head, paint

from ostec.bench.gallery import Gallery, Setup
from ostec.bench.metric_networks import MetricNetworks
from ostec.bench.record import Score
from ostec.bench.rephoto import YAWS_DEG, compared, photographed, score_re_photo, under_light
from ostec.geometry.raster import rasterise
from ostec.interfaces import Parts
from ostec.settings import Settings
from ostec.types import Detection, Photo, Result, UVTexture

SETTINGS = Settings(mode="soft", texture_size=64)
PHOTO = Photo(torch.full((3, 64, 64), 0.5), "face.jpg")
OTHER = Photo(torch.rand(3, 80, 60) * torch.tensor([0.1, 0.1, 1.0])[:, None, None], "other.jpg")


def find(photo: Photo) -> list[Detection]:
    """Faces in photos, and in no re-photo."""
    found = [Detection(torch.tensor([0.0, 0, 64, 64]), torch.zeros(6, 2), 1.0)]
    return [] if "re-photo" in photo.name else found


PARTS = Parts(find, reconstruct, segment, rasterise, complete, FakeWriter())


def setup(gallery: Gallery | None = None, parts: Parts = PARTS, methods: str = "a") -> Setup:
    return Setup(dict.fromkeys(methods, complete), parts, MetricNetworks(), SETTINGS, gallery or Gallery())


def result(rgb: torch.Tensor, seen: torch.Tensor) -> Result:
    confidence = torch.where(seen, 0.9, -1.0)
    texture, report = UVTexture(rgb, confidence), {"seconds": {"complete": 0.25}}
    return Result(PHOTO, head(), UVTexture(rgb * seen, confidence), texture, None, (), report, FakeWriter())


def test_the_turned_picture_shows_the_head_before_the_other_photo() -> None:
    texture = torch.tensor([1.0, 0.2, 0.0])[:, None, None].expand(3, 64, 64)
    for yaw_deg in (0.0, 60.0):
        rgb = photographed(head(), texture, OTHER, yaw_deg, PARTS).rgb
        centre, corner = rgb[:, 200:300, 200:260].mean(dim=(1, 2)), rgb[:, :40, :40].mean(dim=(1, 2))
        assert torch.allclose(centre, torch.tensor([1.0, 0.2, 0.0]), atol=0.02)
        assert corner[2] > 0.3 and corner[0] < 0.1


def test_a_positive_yaw_turns_the_nose_to_the_right() -> None:
    """The half of the texture at small u is the picture's left when the head faces the camera."""
    left_red = torch.zeros(3, 64, 64)
    left_red[0, :, :32] = 1
    reds = [(photographed(head(), left_red, OTHER, yaw_deg, PARTS).rgb[0] > 0.9).sum() for yaw_deg in (40.0, -40.0)]
    assert reds[0] > 2 * reds[1]


def test_only_texels_that_the_second_picture_hides_are_scored() -> None:
    truth = paint(64)
    everywhere, right = torch.ones(64, 64, dtype=torch.bool), torch.arange(64).expand(64, 64) >= 24
    score = Score("re-photo", "any", "face.jpg", 45.0)
    wrong_where_seen = torch.where(right, 1 - truth, truth)
    first = result(truth, everywhere)
    perfect = compared(score, first, truth, result(wrong_where_seen, right), setup())
    assert perfect.psnr_db == pytest.approx(100) and perfect.seconds == 0.25
    off = compared(score, first, truth, result(torch.where(right, truth, truth + 0.1), right), setup())
    assert off.psnr_db == pytest.approx(20, abs=0.01)
    nothing = compared(score, first, truth, result(truth, everywhere), setup())
    assert nothing.psnr_db is None


def test_the_light_differs_by_name_and_is_smooth() -> None:
    first = result(torch.full((3, 64, 64), 0.5), torch.ones(64, 64, dtype=torch.bool))
    lit, again, other = (under_light(first, name, PARTS) for name in ("a", "a", "b"))
    assert torch.equal(lit, again) and not torch.equal(lit, other)
    assert float(lit.min()) > 0.2 and float(lit.max()) < 1 and float(lit.std()) > 0.005


def test_a_picture_without_a_face_costs_only_its_figures() -> None:
    gallery = Gallery()
    scores = list(score_re_photo(PHOTO, OTHER, setup(gallery, methods="ab")))
    assert [(s.method, s.yaw_deg) for s in scores] == [(m, yaw) for yaw in YAWS_DEG for m in ("a", "b")]
    assert all(score.psnr_db is None for score in scores)


def test_every_method_is_scored_at_every_yaw() -> None:
    parts = replace(PARTS, detector=lambda photo: find(replace(photo, name="any")))
    scores = list(score_re_photo(PHOTO, OTHER, setup(parts=parts)))
    assert [score.yaw_deg for score in scores] == list(YAWS_DEG)
    assert all(score.seconds is not None for score in scores)
