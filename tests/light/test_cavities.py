"""Cavities are dark where nobody saw them, and only there."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from synthetic import all_skin, head, paint, photograph

from ostec.completion.mirror import MirrorCompleter
from ostec.completion.prior.completer import load_prior_completer
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Completer
from ostec.light.shading import cavity_shade
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY
from ostec.types import Atlas, Face, Reconstruction, UVTexture

SIZE = (96, 96)


def pitted(ambient_occlusion: float | None) -> Reconstruction:
    """A head with a cavity in the middle of its chin."""
    face = head(yaw_deg=25.0)
    if ambient_occlusion is None:
        return face
    deep = ((face.topology.uv - torch.tensor([0.5, 0.8])).abs() < 0.08).all(dim=1)
    return replace(face, topology=replace(face.topology, ambient_occlusion=torch.where(deep, ambient_occlusion, 1.0)))


def known(ambient_occlusion: float | None) -> tuple[Face, UVTexture]:
    """The photo shows nothing of the chin."""
    reconstruction = pitted(ambient_occlusion)
    photo = photograph(reconstruction, paint(96))
    texels = bake_texels(reconstruction, SIZE, rasterise)
    seen = unwrap(photo.rgb, reconstruction.camera, reconstruction, texels, rasterise, all_skin())
    seen.confidence[65:90, 34:62] = -1.0
    return Face(photo, reconstruction, all_skin(), texels, "soft"), seen


def test_light_is_thrown_about_between_the_walls() -> None:
    face, _ = known(0.1)
    shade = cavity_shade(face)
    albedo = torch.tensor([0.6, 0.4, 0.35])
    deepest = [math.log(0.1 / (1 - a * 0.9)) / 2.2 for a in albedo.tolist()]
    assert shade[:, 77, 48].tolist() == pytest.approx(deepest, abs=1e-5)
    assert float(shade[:, :60].abs().max()) < 1e-6
    assert not cavity_shade(known(None)[0]).any()


@pytest.mark.parametrize("completer", [MirrorCompleter(), load_prior_completer()])
def test_only_what_nobody_saw_is_darkened(completer: Completer) -> None:
    textures = []
    for ambient_occlusion in (None, 0.1):
        face, seen = known(ambient_occlusion)
        atlas = Atlas().add("photo", seen, PHOTO_PRIORITY["soft"], "photo")
        textures.append(completer(face, atlas, Settings(), lambda *_: None).texture.rgb)
    trusted = face.texels.inside & (seen.confidence >= TRUSTED)
    assert torch.equal(textures[0][:, trusted], textures[1][:, trusted])
    gain = textures[1] / textures[0].clamp(min=0.01)
    assert float(gain[:, 74:80, 45:51].max()) < 0.6
    assert float((gain[:, 66:68, 34:62] - 1).abs().mean()) < 0.05
