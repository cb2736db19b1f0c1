"""The paper's loop, with an oracle in place of a generator: it must rebuild the true texture."""

from __future__ import annotations

import pytest
import torch
from synthetic import all_skin, head, paint, photograph
from torch import Tensor

from ostec.completion.projection.projector import GeneratorTraits, project_views, smoothed_within, unwrap_residual
from ostec.completion.projection.view_search import FaceSearch, SearchRequest, SearchResponse
from ostec.geometry.raster import rasterise
from ostec.geometry.render import portrait_camera, render
from ostec.geometry.texels import bake_texels
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY, plan_views, shoot
from ostec.types import Atlas, Completion, Face, Shot

SIZE = (160, 160)


class Oracle(FaceSearch):
    """Knows the true texture: completes views by rendering it, or leaves them as they are where it is None."""

    def __init__(self, truth: Tensor | None, size_px: int = 256) -> None:
        super().__init__(self.refuse, Settings(), None, size_px, lambda stage, share: None)
        self.truth, self.shots, self.spans = truth, list[Shot](), list[tuple[float, float]]()

    @staticmethod
    def refuse(request: SearchRequest) -> SearchResponse:
        raise AssertionError("an oracle searches nothing")

    def __call__(
        self, shots: tuple[Shot, ...], span: tuple[float, float], frontal: bool = False
    ) -> tuple[Completion, ...]:
        self.shots += shots
        self.spans.append(span)
        return tuple(Completion(shot, self.image(shot)) for shot in shots)

    def image(self, shot: Shot) -> Tensor:
        if self.truth is None:
            return shot.image
        return render(head(20.0), self.truth, shot.camera, rasterise)[0] * 0.9 + 0.03


def photographed(truth: Tensor) -> tuple[Face, Atlas]:
    """A painted head turned by 20 degrees, and what its photo shows."""
    face = head(20.0)
    photo, texels = photograph(face, truth), bake_texels(face, SIZE, rasterise)
    seen = unwrap(photo.rgb, face.camera, face, texels, rasterise, all_skin())
    return Face(photo, face, all_skin(), texels, "soft"), Atlas().add("photo", seen, PHOTO_PRIORITY["soft"], "photo")


@pytest.mark.parametrize("released", [False, True])
def test_an_oracle_that_knows_the_face_rebuilds_its_texture(released: bool) -> None:
    truth = paint(SIZE[0])
    (face, atlas), oracle = photographed(truth), Oracle(truth)
    base = None if released else torch.full((3, *SIZE), 0.5)
    done = project_views(face, atlas, base, oracle, GeneratorTraits(), rasterise, (0.5, 1.0))

    views, seen = plan_views("soft"), atlas.photo
    assert [shot.view.name for shot in oracle.shots] == [view.name for view in views]
    assert len(done.completions) == len(views)
    ends = [end for span in oracle.spans for end in span]
    assert ends == sorted(ends) and (ends[0], ends[-1]) == (0.5, pytest.approx(1.0))
    trusted = seen.confidence >= TRUSTED
    if not released:
        assert torch.equal(done.texture.rgb[:, trusted], seen.rgb[:, trusted])
    reached = done.texture.confidence > 0.5
    assert reached[face.texels.inside].float().mean() > trusted[face.texels.inside].float().mean() + 0.1
    assert (done.texture.rgb - truth)[:, reached].abs().mean() < (0.05 if released else 0.02)


def test_a_shot_trusts_what_earlier_ones_added() -> None:
    truth = paint(SIZE[0])
    (face, atlas), oracle = photographed(truth), Oracle(truth)
    project_views(face, atlas, torch.full((3, *SIZE), 0.5), oracle, GeneratorTraits(), rasterise)
    by_photo = (atlas.photo.confidence >= TRUSTED).float()
    gains = []
    for shot in oracle.shots:
        alone = shoot(face.reconstruction, truth, by_photo, shot.view, 256, rasterise)
        gains.append(float((shot.trust - alone.trust).mean()))
    assert gains[0] == pytest.approx(0, abs=1e-6) and min(gains) > -1e-6 and max(gains) > 0.01


def grainy() -> tuple[Face, Tensor, Tensor]:
    """(face, its true texture, the same with grain)."""
    face, truth = head(20.0), paint(SIZE[0])
    texels = bake_texels(face, SIZE, rasterise)
    grain = 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (
        Face(photograph(face, truth), face, all_skin(), texels, "soft"),
        truth,
        (0.1 + 0.8 * truth + grain).clamp(0, 1),
    )


@pytest.mark.parametrize("finest_px", [1, 4])
def test_a_view_that_shows_the_base_leaves_it_as_it_is(finest_px: int) -> None:
    face, _, base = grainy()
    camera = portrait_camera(face.reconstruction, 0.0, 0.0, 0.0, 48)
    picture, _ = render(face.reconstruction, base, camera, rasterise)
    changed = unwrap_residual(picture, camera, face, base, finest_px, rasterise)
    assert torch.allclose(changed.rgb, base, atol=1e-5)
    plain = unwrap(picture, camera, face.reconstruction, face.texels, rasterise)
    assert torch.equal(changed.confidence, plain.confidence)


def test_a_coarse_view_changes_colours_and_keeps_the_detail() -> None:
    face, _, base = grainy()
    camera = portrait_camera(face.reconstruction, 0.0, 0.0, 0.0, 48)
    shift = torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    picture, covered = render(face.reconstruction, base, camera, rasterise)
    changed = (picture + shift * covered).clamp(0, 1)
    laid = unwrap_residual(changed, camera, face, base, 1, rasterise)
    flat = unwrap(changed, camera, face.reconstruction, face.texels, rasterise)
    seen = (laid.confidence > 0.5) & (base > 0.15).all(dim=0) & (base < 0.85).all(dim=0)
    assert float((laid.rgb - base - shift)[:, seen].abs().mean()) < 0.01
    assert float((flat.rgb - base - shift)[:, seen].abs().mean()) > 0.04


def test_smoothing_keeps_a_plain_difference_and_ignores_the_rim() -> None:
    covered = torch.zeros(40, 40, dtype=torch.bool)
    covered[8:32, 8:32] = True
    difference = torch.full((3, 40, 40), 0.2)
    difference[:, :, 29:] = -1.0
    smooth = smoothed_within(difference, covered, 2)
    assert torch.allclose(smooth[:, 12:28, 12:28], torch.tensor(0.2), atol=1e-5)
    assert not smooth[:, :4].any()
    assert torch.equal(smoothed_within(difference, covered, 1), difference * covered)


@pytest.mark.parametrize("guess_trust", [0.0, 0.25])
def test_the_base_is_trusted_as_far_as_the_traits_say(guess_trust: float) -> None:
    known, _, base = grainy()
    photo = unwrap(known.photo.rgb, known.reconstruction.camera, known.reconstruction, known.texels, rasterise)
    atlas, oracle = Atlas().add("photo", photo, 2.0, "photo"), Oracle(None, size_px=64)
    project_views(known, atlas, base, oracle, GeneratorTraits(guess_trust=guess_trust), rasterise)
    trust, camera = oracle.shots[0].trust, oracle.shots[0].camera
    _, covered = render(known.reconstruction, base, camera, rasterise)
    assert float(trust[covered].min()) == pytest.approx(guess_trust) and float(trust.max()) == pytest.approx(1)
    assert not trust[~covered].any()
