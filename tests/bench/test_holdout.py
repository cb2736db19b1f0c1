"""Hold-out on a head whose texture is known: the truth wins, and what is hidden stays hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from fakes import FakeSelection
from synthetic import head, paint, photograph

from ostec.bench.gallery import Gallery, Setup
from ostec.bench.holdout import YAWS_DEG, Known, hide, known_texture, score_hold_out, shown_from, turned
from ostec.bench.methods import complete_nearest
from ostec.bench.metric_networks import MetricNetworks
from ostec.bench.record import Score, table_rows
from ostec.completion.mirror import MirrorCompleter
from ostec.interfaces import Completer, Parts, Progress
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Completed, Detection, Face, SkinMask, UVTexture

SIZE_PX = 96
DETECTION = Detection(torch.tensor([0.0, 0, 192, 192]), torch.zeros(6, 2), 1.0)
VARIANTS = ("plain", "degraded", "jittered")


def make_parts(yaw_deg: float = 0.0) -> Parts:
    return replace(FakeSelection().load(), reconstructor=lambda photo, detection: head(yaw_deg, size=192))


def make_known(symmetric: bool = False) -> Known:
    photo = photograph(head(size=192), paint(SIZE_PX, symmetric))
    known = known_texture(photo, DETECTION, make_parts(), SIZE_PX)
    assert known is not None
    return known


PARTS, KNOWN = make_parts(), make_known()


def constant(texture: UVTexture) -> Completer:
    def complete(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        return Completed(texture)

    return complete


def scores_of(
    known: Known, gallery: Gallery | None = None, yaws_deg: Sequence[float] = (), **methods: Completer
) -> list[Score]:
    settings = Settings(mode="soft", texture_size=SIZE_PX)
    setup = Setup(methods, PARTS, MetricNetworks(), settings, gallery or Gallery(), yaws_deg)
    return list(score_hold_out(known, setup))


def test_who_knows_the_truth_scores_100_db_and_always_wins() -> None:
    truth = constant(replace(KNOWN.truth, std=torch.zeros(SIZE_PX, SIZE_PX)))
    scores = scores_of(KNOWN, truth=truth, mirror=MirrorCompleter(), nearest=complete_nearest)
    for score in scores:
        if score.method == "truth":
            assert (score.psnr_db, score.delta_e, score.within_2_std) == (100.0, 0.0, 1.0)
            assert score.ssim == pytest.approx(1.0, abs=1e-5)
        else:
            assert score.psnr_db is not None and score.psnr_db < 60
            assert score.within_2_std is None
        assert score.lpips is score.identity is None
    assert {row["win_rate_vs_mirror"] for row in table_rows(scores) if row["method"] == "truth"} == {1.0}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("yaw_deg", [30.0, -75.0])
def test_hidden_texels_never_reach_the_completer(yaw_deg: float, variant: str) -> None:
    left = hide(KNOWN, yaw_deg, "plain", PARTS)[1].photo.confidence > -1
    hidden = ~left
    assert int((hidden & (KNOWN.truth.confidence >= TRUSTED)).sum()) > 20
    poisoned = replace(KNOWN, truth=replace(KNOWN.truth, rgb=torch.where(hidden, 1 - KNOWN.truth.rgb, KNOWN.truth.rgb)))
    (face, atlas), (other, other_atlas) = (hide(known, yaw_deg, variant, PARTS) for known in (KNOWN, poisoned))
    assert torch.equal(face.photo.rgb, other.photo.rgb)
    assert torch.equal(atlas.photo.rgb, other_atlas.photo.rgb)
    assert torch.equal(atlas.photo.confidence, other_atlas.photo.confidence)
    assert bool((atlas.photo.rgb[:, hidden] == 0).all())


@pytest.mark.parametrize("yaw_deg", YAWS_DEG)
def test_the_signs_of_yaw_mirror_each_other(yaw_deg: float) -> None:
    known = make_known(symmetric=True)
    right, left = (hide(known, sign * yaw_deg, "plain", PARTS)[1].photo for sign in (1, -1))
    assert ((right.confidence > -1) != (left.confidence > -1).flip(1)).float().mean() < 0.01
    both = (right.confidence > -1) & (left.confidence > -1).flip(1)
    assert (right.rgb - left.rgb.flip(2))[:, both].abs().mean() < 0.01


def test_a_larger_yaw_hides_more_and_always_the_far_side() -> None:
    counts = []
    for yaw_deg in YAWS_DEG:
        left = hide(KNOWN, yaw_deg, "plain", PARTS)[1].photo.confidence > -1
        half = SIZE_PX // 2
        counts.append(int(left.sum()))
        assert left[:, :half].sum() > left[:, half:].sum()  # u < 1/2 is the subject's right, image left at zero pose
    assert counts == sorted(counts, reverse=True) and len(set(counts)) == len(counts)


def test_the_turned_head_is_the_same_head_in_the_same_place() -> None:
    face = head(5.0, size=192)
    other = turned(face, -45.0)
    assert (other.yaw_deg, other.pitch_deg, other.roll_deg) == pytest.approx((-45.0, 0.0, 0.0), abs=1e-3)
    centre = face.vertices.mean(dim=0)
    for camera in (face.camera, other.camera):
        assert torch.allclose(camera.R @ centre + camera.t, face.camera.R @ centre + face.camera.t, atol=1e-6)
    assert torch.equal(other.vertices, face.vertices)


def test_shown_is_the_cosine_to_the_camera_or_nothing() -> None:
    face = turned(KNOWN.reconstruction, 60.0)
    shown = shown_from(face, face.camera, KNOWN.texels, PARTS.rasterise)
    assert shown.max() <= 1 + 1e-6
    assert bool((shown[~KNOWN.texels.inside] == -1).all())
    assert bool((shown == -1).any()) and bool((shown > 0.9).any())


def test_which_cases_are_scored() -> None:
    scores = scores_of(KNOWN, nearest=complete_nearest)
    plain = [(score.yaw_deg, score.variant) for score in scores if score.variant == "plain"]
    assert plain == [(yaw, "plain") for yaw in YAWS_DEG]
    rest = [score for score in scores if score.variant != "plain"]
    lit = {"side-lit"} if KNOWN.side_lit else set()
    assert {score.variant for score in rest} == {"degraded", "jittered", "other side"} | lit
    assert {score.yaw_deg for score in rest} == {45.0}
    side_lit = scores_of(replace(KNOWN, side_lit=True), nearest=complete_nearest)
    assert "side-lit" in {score.variant for score in side_lit}
    assert len(scores_of(KNOWN, yaws_deg=(45.0, 60.0), nearest=complete_nearest)) == 2


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (scores_of(KNOWN, yaws_deg=YAWS_DEG, mirror=MirrorCompleter()) for _ in range(2))
    assert [replace(score, seconds=None) for score in first] == [replace(score, seconds=None) for score in second]


def test_harder_variants_change_what_is_left() -> None:
    plain, degraded, jittered = (hide(KNOWN, 45.0, variant, PARTS)[1].photo for variant in VARIANTS)
    left = plain.confidence > -1
    assert torch.equal(degraded.confidence, plain.confidence)
    assert 0 < (degraded.rgb - plain.rgb)[:, left].abs().mean() < 0.1
    assert not torch.equal(jittered.rgb, plain.rgb)
    assert bool(left[jittered.confidence > -1].all())


def test_the_gallery_gets_one_row_with_the_truth_at_its_end() -> None:
    gallery = Gallery()
    scores_of(KNOWN, gallery, mirror=MirrorCompleter(), nearest=complete_nearest)
    assert [caption for caption, _ in gallery.rows["synthetic"]][1::2] == ["mirror", "nearest", "truth"]
    assert len({tile.shape for _, tile in gallery.rows["synthetic"]}) == 1


def test_a_turned_or_covered_face_is_not_taken() -> None:
    photo = photograph(head(20.0, size=192), paint(SIZE_PX))
    assert known_texture(photo, DETECTION, make_parts(20.0), SIZE_PX) is None
    right_half = torch.ones(8, 8)
    right_half[:, :5] = 0
    covered = replace(
        PARTS, segmenter=lambda photo, face: SkinMask(right_half, torch.tensor([[1 / 24, 0, 0], [0, 1 / 24, 0]]))
    )
    assert known_texture(photograph(head(size=192), paint(SIZE_PX)), DETECTION, covered, SIZE_PX) is None


def test_light_from_one_side_is_noticed() -> None:
    assert not make_known(symmetric=True).side_lit
    across = torch.linspace(1.4, 0.4, SIZE_PX)
    photo = photograph(head(size=192), (paint(SIZE_PX, symmetric=True) * across).clamp(0, 1))
    known = known_texture(photo, DETECTION, PARTS, SIZE_PX)
    assert known is not None and known.side_lit
