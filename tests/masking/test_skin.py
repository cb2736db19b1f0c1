"""The built-in segmenter on a painted head: skin stays, hair, glasses and highlights are told apart."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from synthetic import head, photograph
from torch import Tensor

from ostec.geometry.align import apply_affine
from ostec.geometry.camera import cropped, to_pixels
from ostec.geometry.sampling import warp
from ostec.masking import skin
from ostec.masking.skin import MASK_PX, SkinSegmenter, Zones, head_square, occluders, skin_misfit
from ostec.types import Photo, Reconstruction

SKIN = torch.tensor([0.78, 0.58, 0.48])
FACE = head(size=320)
ALL = torch.ones(MASK_PX, MASK_PX)


def skin_texture(noise: float = 0.01) -> Tensor:
    grain = noise * torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(1))
    return (SKIN[:, None, None] + grain).clamp(0, 1)


def crop(texture: Tensor, face: Reconstruction = FACE) -> tuple[Tensor, Zones, Tensor, Tensor]:
    """(picture, zones, normals, cosine to the camera) in mask pixels."""
    square = head_square(face)
    rgb = warp(photograph(face, texture).rgb, square, (MASK_PX, MASK_PX))
    normals, facing = skin.seen_normals(face, cropped(face.camera, square, (MASK_PX, MASK_PX)))
    return rgb, Zones(apply_affine(square, face.landmarks.points_px)), normals, facing


def hidden(rgb: Tensor, zones: Zones, normals: Tensor, facing: Tensor) -> Tensor:
    misfit = skin_misfit(rgb, normals, zones.sure_skin & (facing > 0.3))
    return occluders(rgb, misfit, ALL, zones)


def test_the_mask_holds_the_face_and_leaves_out_crown_and_shoulders() -> None:
    whole = head_square(FACE)
    high = FACE.vertices[:, 1] > FACE.vertices[:, 1].median()
    uv = torch.where(high[:, None], FACE.topology.uv, torch.nan)
    upper = replace(FACE, topology=replace(FACE.topology, facemesh_uv=uv))
    pixels = apply_affine(head_square(upper), to_pixels(FACE.vertices, FACE.camera))
    assert pixels[high].min() >= 0 and pixels[high].max() <= MASK_PX
    assert pixels[:, 1].max() > MASK_PX
    assert float(head_square(upper)[:, :2].det()) > float(whole[:, :2].det())


def test_bare_skin_is_kept() -> None:
    rgb, zones, normals, facing = crop(skin_texture())
    inner = zones.sure_skin & (facing > 0.6)
    assert inner.sum() > 500
    assert hidden(rgb, zones, normals, facing)[inner].float().mean() < 0.02


def test_light_from_one_side_is_not_an_occluder() -> None:
    rgb, zones, normals, facing = crop(skin_texture())
    lit = (rgb * (0.35 * normals[..., 0]).exp()).clamp(0, 1)
    assert hidden(lit, zones, normals, facing)[zones.sure_skin & (facing > 0.6)].float().mean() < 0.05


def test_hair_on_the_forehead_is_hidden_and_the_cheeks_are_not() -> None:
    texture = skin_texture()
    texture[:, :70] = torch.tensor([0.12, 0.08, 0.06])[:, None, None]
    rgb, zones, normals, facing = crop(texture)
    dark = (rgb.mean(dim=0) < 0.2) & zones.face & ~zones.shadows & (facing > 0.5)
    assert dark.sum() > 100
    result = hidden(rgb, zones, normals, facing)
    assert result[dark].float().mean() > 0.97
    assert result[zones.sure_skin & (facing > 0.6)].float().mean() < 0.05


def test_a_frame_across_the_nose_is_hidden_and_a_mole_is_not() -> None:
    rgb, zones, normals, facing = crop(skin_texture())
    row, column = (int(v) for v in zones.bridge.nonzero().float().mean(dim=0))
    framed = rgb.clone()
    framed[:, row - 1 : row + 2, column - 8 : column + 9] = 0.03
    assert hidden(framed, zones, normals, facing)[row, column - 4 : column + 5].all()
    mole = rgb.clone()
    row, column = (int(v) for v in (zones.sure_skin & (facing > 0.8)).nonzero()[-200])
    mole[:, row - 1 : row + 2, column - 1 : column + 2] = 0.1
    assert not hidden(mole, zones, normals, facing)[row, column]


def test_who_is_no_person_is_hidden() -> None:
    rgb, zones, normals, facing = crop(skin_texture())
    person = ALL.clone()
    person[:, MASK_PX // 2 :] = 0
    misfit = skin_misfit(rgb, normals, zones.sure_skin & (facing > 0.3))
    assert occluders(rgb, misfit, person, zones)[:, MASK_PX // 2 :].all()


@pytest.mark.parametrize("yaw_deg", [0.0, 35.0])
def test_the_mask_is_soft_lies_on_the_face_and_hides_the_background(
    yaw_deg: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skin, "person_mask", lambda net, rgb: ALL)
    face = head(yaw_deg, size=320)
    photo: Photo = photograph(face, skin_texture(), background=0.05)
    mask = SkinSegmenter(None)(photo, face)  # pyright: ignore[reportArgumentType]
    _, zones, _, facing = crop(skin_texture(), face)
    assert mask.alpha.min() == 0 and mask.alpha.max() == 1
    assert ((mask.alpha > 0) & (mask.alpha < 1)).any()
    assert (mask.alpha[facing == 0] < 0.5).all()
    assert mask.alpha[zones.sure_skin & (facing > 0.6)].mean() > 0.9
