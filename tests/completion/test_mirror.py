"""What the mirror completer promises, on a head whose true texture is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from synthetic import all_skin, head, paint, photograph

from ostec.completion.mirror import MirrorCompleter
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.light.shading import fit_shading, harmonics
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY
from ostec.types import Atlas, Face, Reconstruction

SIZE = (160, 160)


def complete(face: Reconstruction, texture: torch.Tensor, mode: Literal["soft", "hard"] = "soft"):
    photo = photograph(face, texture)
    texels = bake_texels(face, SIZE, rasterise)
    seen = unwrap(photo.rgb, face.camera, face, texels, rasterise, all_skin())
    atlas = Atlas().add("photo", seen, PHOTO_PRIORITY[mode], "photo")
    known = Face(photo, face, all_skin(), texels, mode)
    return seen, texels, MirrorCompleter()(known, atlas, Settings(), lambda *_: None)


@pytest.mark.parametrize("mode", ["soft", "hard"])
@pytest.mark.parametrize("yaw_deg", [25.0, -45.0])
def test_a_symmetric_face_is_completed_to_itself(yaw_deg: float, mode: Literal["soft", "hard"]) -> None:
    truth = paint(SIZE[0], symmetric=True)
    seen, texels, done = complete(head(yaw_deg), truth, mode)
    reachable = (seen.confidence > TRUSTED) | (seen.confidence.flip(1) > TRUSTED)
    assert (done.texture.rgb - truth)[:, reachable].abs().mean() < 0.02
    hidden = reachable & (seen.confidence < 0)
    assert hidden.float().mean() > 0.1
    assert (done.texture.rgb - truth)[:, hidden].abs().mean() < 0.03


def test_soft_keeps_trusted_texels_bit_for_bit() -> None:
    seen, _, done = complete(head(25.0), paint(SIZE[0]))
    trusted = seen.confidence >= TRUSTED
    assert torch.equal(done.texture.rgb[:, trusted], seen.rgb[:, trusted])


def test_hard_replaces_the_texels_and_keeps_the_colours() -> None:
    seen, texels, done = complete(head(40.0), paint(SIZE[0]), "hard")
    trusted = seen.confidence >= TRUSTED
    assert not torch.equal(done.texture.rgb[:, trusted], seen.rgb[:, trusted])
    off = done.texture.rgb[:, trusted].mean(dim=1) - seen.rgb[:, trusted].mean(dim=1)
    assert off.abs().max() < 0.05


def test_every_texel_of_the_chart_is_filled() -> None:
    _, texels, done = complete(head(60.0), paint(SIZE[0]) * 0.5 + 0.3)
    assert torch.isfinite(done.texture.rgb).all()
    assert (done.texture.rgb[:, texels.inside].amin(dim=0) > 0.1).all()


def test_a_face_model_without_symmetry_is_filled_with_skin_and_says_so() -> None:
    face = head(30.0)
    face = replace(face, topology=replace(face.topology, mirror=None))
    _, texels, done = complete(face, paint(SIZE[0]))
    assert done.notes["warnings"] and (done.texture.rgb[:, texels.inside] > 0).all()


def test_the_mirrored_side_takes_on_the_light_of_its_place() -> None:
    """Lambert-like light from the right: the completed left cheek is darker than its twin, as it should be."""
    texels = bake_texels(head(), SIZE, rasterise)
    light = (0.5 * texels.normals[..., 0]).exp()[None]
    truth = (0.45 * light).expand(3, -1, -1)
    seen, texels, done = complete(head(-20.0), truth)
    hidden = (seen.confidence < 0) & (seen.confidence.flip(1) > 0.3)
    assert hidden.any()
    error = (done.texture.rgb - truth)[:, hidden].abs().mean()
    assert error < 0.5 * (truth.flip(2) - truth)[:, hidden].abs().mean()


def test_shading_is_recovered_despite_outliers() -> None:
    normals = torch.nn.functional.normalize(torch.randn(4000, 3), dim=1)
    normals = torch.where(normals[:, 2:] < 0, -normals, normals)
    true = torch.zeros(9, 3)
    true[0], true[1], true[3] = -0.8, 0.25, 0.15
    log_rgb = harmonics(normals) @ true
    log_rgb[:500] -= 2.0
    fitted = fit_shading(log_rgb, normals, torch.ones(4000)).log_skin(normals)
    assert (fitted - harmonics(normals) @ true)[500:].abs().mean() < 0.04
