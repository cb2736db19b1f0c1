"""The paper's loop, with an oracle in place of a generator: it must rebuild the true texture."""

from __future__ import annotations

import pytest
import torch
from synthetic import all_skin, head, paint, photograph
from torch import Tensor

from ostec.completion.projection.rotation import complete_by_rotation, over, plainly, seamless, smoothed_within
from ostec.geometry.raster import rasterise
from ostec.geometry.render import portrait_camera, render
from ostec.geometry.texels import bake_texels
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY, in_batches, plan_views
from ostec.types import Atlas, Completion, Face, Shot, UVTexture

SIZE = (160, 160)


def test_an_oracle_that_knows_the_face_rebuilds_its_texture() -> None:
    face, truth = head(20.0), paint(SIZE[0])
    photo = photograph(face, truth)
    texels = bake_texels(face, SIZE, rasterise)
    seen = unwrap(photo.rgb, face.camera, face, texels, rasterise, all_skin())
    atlas = Atlas().add("photo", seen, PHOTO_PRIORITY["soft"])
    shots: list[Shot] = []

    def oracle(batch: tuple[Shot, ...], done: float, share: float) -> tuple[Completion, ...]:
        shots.extend(batch)
        images = [render(face, truth, shot.camera, rasterise)[0] for shot in batch]
        return tuple(Completion(shot, image * 0.9 + 0.03) for shot, image in zip(batch, images, strict=True))

    known = Face(photo, face, all_skin(), texels, "soft")
    base = torch.full((3, *SIZE), 0.5)
    views = plan_views("soft")
    done = complete_by_rotation(known, atlas, in_batches(views), seamless(base), oracle, rasterise, 256)

    assert [s.view.name for s in shots] == [v.name for v in views]
    assert len(done.completions) == len(views)
    trusted = seen.confidence >= TRUSTED
    assert torch.equal(done.texture.rgb[:, trusted], seen.rgb[:, trusted])
    reached = done.texture.confidence > 0.5
    assert reached[texels.inside].float().mean() > trusted[texels.inside].float().mean() + 0.1
    assert (done.texture.rgb - truth)[:, reached].abs().mean() < 0.02


def test_each_shot_trusts_what_the_one_before_added() -> None:
    face, truth = head(20.0), paint(SIZE[0])
    photo = photograph(face, truth)
    texels = bake_texels(face, SIZE, rasterise)
    seen = unwrap(photo.rgb, face.camera, face, texels, rasterise, all_skin())
    known = Face(photo, face, all_skin(), texels, "soft")
    right = plan_views("soft")[-1]
    trust: list[float] = []

    def oracle(batch: tuple[Shot, ...], done: float, share: float) -> tuple[Completion, ...]:
        trust.extend(float(shot.trust.mean()) for shot in batch)
        return tuple(Completion(shot, render(face, truth, shot.camera, rasterise)[0]) for shot in batch)

    atlas = Atlas().add("photo", seen, 2.0)
    base = torch.full((3, *SIZE), 0.5)
    complete_by_rotation(known, atlas, ((right,), (right, right)), seamless(base), oracle, rasterise, 256)
    assert trust[1] > trust[0] and trust[1] == trust[2]


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


def unseen() -> UVTexture:
    """A photo that shows nothing, and so gives no colours to match."""
    return UVTexture(torch.zeros(3, *SIZE), torch.full(SIZE, -1.0))


@pytest.mark.parametrize("finest_px", [1, 4])
def test_a_view_that_shows_the_base_leaves_it_as_it_is(finest_px: int) -> None:
    face, _, base = grainy()
    camera = portrait_camera(face.reconstruction, 0.0, 0.0, 0.0, 48)
    picture, _ = render(face.reconstruction, base, camera, rasterise)
    laid = over(face, unseen(), base, rasterise, finest_px)(picture, camera)
    assert torch.allclose(laid.rgb, base, atol=1e-5)
    assert torch.equal(laid.confidence, plainly(face, unseen(), rasterise)(picture, camera).confidence)


def test_a_coarse_view_changes_colours_and_keeps_the_detail() -> None:
    face, _, base = grainy()
    camera = portrait_camera(face.reconstruction, 0.0, 0.0, 0.0, 48)
    shift = torch.tensor([0.1, 0.0, -0.1])[:, None, None]
    picture, covered = render(face.reconstruction, base, camera, rasterise)
    changed = (picture + shift * covered).clamp(0, 1)
    laid, flat = (
        way(changed, camera) for way in (over(face, unseen(), base, rasterise), plainly(face, unseen(), rasterise))
    )
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


@pytest.mark.parametrize("guessed", [0.0, 0.25])
def test_what_is_only_guessed_is_trusted_as_far_as_told(guessed: float) -> None:
    known, _, base = grainy()
    photo = unwrap(known.photo.rgb, known.reconstruction.camera, known.reconstruction, known.texels, rasterise)
    trust: list[Tensor] = []

    def note(batch: tuple[Shot, ...], done: float, share: float) -> tuple[Completion, ...]:
        trust.extend(shot.trust for shot in batch)
        return tuple(Completion(shot, shot.image) for shot in batch)

    views = in_batches(plan_views("soft")[:1])
    complete_by_rotation(
        known, Atlas().add("photo", photo, 2.0), views, seamless(base), note, rasterise, 64, guessed=guessed
    )
    camera = portrait_camera(known.reconstruction, -30.0, 0.0, 0.0, 64)
    _, covered = render(known.reconstruction, base, camera, rasterise)
    assert float(trust[0][covered].min()) == pytest.approx(guessed) and float(trust[0].max()) == pytest.approx(1)
    assert not trust[0][~covered].any()
