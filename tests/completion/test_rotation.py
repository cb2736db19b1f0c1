"""The paper's loop, with an oracle in place of a generator: it must rebuild the true texture."""

from __future__ import annotations

import torch
from synthetic import all_skin, head, paint, photograph

from ostec.completion.rotation import complete_by_rotation, finer_than_pixels, seamless
from ostec.geometry.raster import rasterise
from ostec.geometry.render import portrait_camera, render
from ostec.geometry.texels import bake_texels
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY, in_batches, plan_views
from ostec.types import Atlas, Completion, Face, Shot

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


def test_detail_is_what_a_coarse_picture_of_the_texture_has_lost() -> None:
    face, truth = head(20.0), paint(SIZE[0])
    texels = bake_texels(face, SIZE, rasterise)
    known = Face(photograph(face, truth), face, all_skin(), texels, "soft")
    grain = truth + 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    detail = finer_than_pixels(known, grain, rasterise)
    for size_px, least in ((48, 0.9), (96, 0.6)):
        camera = portrait_camera(face, 0.0, 0.0, 0.0, size_px)
        laid_off = unwrap(render(face, grain, camera, rasterise)[0], camera, face, texels, rasterise)
        seen = laid_off.confidence > 0.5
        whole = laid_off.rgb + detail(camera)
        assert torch.allclose(whole[:, seen], grain[:, seen], atol=1e-5)
        assert float((detail(camera) - (grain - truth))[:, seen].std()) < least * 0.1
        assert not detail(camera)[:, laid_off.confidence == -1].any()
