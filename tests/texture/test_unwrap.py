"""Unwrapping undoes rendering; confidence means what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from synthetic import SHAPE, all_skin, head, mirrored_head, paint, photograph

from ostec.geometry.camera import to_pixels, toward_camera
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.texture.unwrap import TRUSTED, sample_picture, skin_at, unwrap, without_islands
from ostec.types import Photo, SkinMask, UVTexture

SIZE = (192, 192)


def unwrapped(face, photo: Photo, skin: SkinMask | None = None) -> UVTexture:
    return unwrap(photo.rgb, face.camera, face, bake_texels(face, SIZE, rasterise), rasterise, skin)


@pytest.mark.parametrize("perspective", [False, True])
@pytest.mark.parametrize("yaw_deg", [-35.0, 0.0, 50.0])
def test_unwrap_after_render_returns_the_texture(yaw_deg: float, perspective: bool) -> None:
    face, texture = head(yaw_deg, size=384, perspective=perspective), paint(SIZE[0])
    seen = unwrapped(face, photograph(face, texture))
    trusted = seen.confidence > TRUSTED
    assert trusted.float().mean() > 0.25
    assert (seen.rgb - texture)[:, trusted].abs().max() < 0.03
    assert (seen.rgb - texture)[:, trusted].abs().mean() < 0.003


@pytest.mark.parametrize("axis", ["u", "v"])
def test_a_flipped_axis_would_be_noticed(axis: str) -> None:
    face, texture = head(size=384), paint(SIZE[0])
    seen = unwrapped(face, photograph(face, texture))
    wrong = texture.flip(2 if axis == "u" else 1)
    trusted = seen.confidence > TRUSTED
    assert (seen.rgb - wrong)[:, trusted].abs().mean() > 0.05


def test_confidence_falls_with_the_cosine() -> None:
    face = head(20.0)
    texels = bake_texels(face, SIZE, rasterise)
    seen = unwrap(photograph(face, paint()).rgb, face.camera, face, texels, rasterise)
    cosine = (texels.normals * toward_camera(texels.points, face.camera)).sum(dim=-1)
    visible = seen.confidence > -1
    assert (seen.confidence <= cosine.clamp(min=0) + 1e-5)[visible].all()
    middle = visible & (cosine > 0.6)
    assert (seen.confidence - cosine)[middle].abs().median() < 1e-5
    assert (seen.confidence == -1)[texels.inside & (cosine < 0)].all()


def test_what_the_nose_hides_is_not_seen() -> None:
    """A ray from each texel toward the camera must not hit the mesh again; checked by brute force."""
    face = head(40.0, size=320)
    texels = bake_texels(face, (96, 96), rasterise)
    seen = unwrap(photograph(face, paint()).rgb, face.camera, face, texels, rasterise)
    flat = texels.inside.flatten().nonzero()[::2, 0]
    points, normals = texels.points.reshape(-1, 3)[flat], texels.normals.reshape(-1, 3)[flat]
    towards = toward_camera(points, face.camera)
    blocked = _hits(points + 0.002 * normals, towards, face.vertices[SHAPE.faces])
    confidence = seen.confidence.flatten()[flat]
    facing = (normals * towards).sum(-1) > 0.15
    assert (blocked & facing).sum() > 10
    assert (confidence[blocked & facing] < TRUSTED).float().mean() > 0.97
    assert (confidence[~blocked & (normals * towards).sum(-1).gt(0.6)] > TRUSTED).float().mean() > 0.9


def _hits(origins: torch.Tensor, directions: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
    """[N] bool: Möller-Trumbore against every triangle."""
    a, b, c = (triangles[None, :, i] for i in range(3))
    d = directions[:, None]
    p = torch.linalg.cross(d.expand(-1, len(triangles), -1), (c - a).expand(len(origins), -1, -1))
    det = ((b - a) * p).sum(-1)
    s = origins[:, None] - a
    u = (s * p).sum(-1) / det
    q = torch.linalg.cross(s, (b - a).expand(len(origins), -1, -1))
    v = (d * q).sum(-1) / det
    t = ((c - a) * q).sum(-1) / det
    return ((det.abs() > 1e-12) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-4)).any(dim=1)


def test_flipping_the_photo_flips_the_texture() -> None:
    face = head(25.0, size=255)
    photo = photograph(face, paint())
    seen = unwrapped(face, photo)
    flipped = unwrapped(mirrored_head(face), Photo(photo.rgb.flip(2), "flipped"))
    assert (flipped.confidence.flip(1) - seen.confidence).abs().max() < 2e-3
    both = seen.confidence > 0.1
    assert (flipped.rgb.flip(2) - seen.rgb)[:, both].abs().max() < 1e-3


def test_texels_outside_the_picture_are_not_seen() -> None:
    face = head(size=256)
    shifted = replace(face.camera, K=face.camera.K + torch.tensor([[0, 0, 128.0], [0, 0, 0], [0, 0, 0]]))
    face = replace(face, camera=shifted)
    seen = unwrapped(face, photograph(face, paint()))
    texels = bake_texels(face, SIZE, rasterise)
    beyond = texels.inside & (to_pixels(texels.points, shifted)[..., 0] > 256)
    assert beyond.any() and (seen.confidence[beyond] == -1).all()


def test_the_skin_mask_hides_what_it_hides() -> None:
    face = head()
    photo = photograph(face, paint())
    alpha = torch.zeros(64, 64)
    alpha[:, :32] = 1
    skin = SkinMask(alpha, torch.tensor([[0.25, 0, 0], [0, 0.25, 0]]))
    seen, free = unwrapped(face, photo, skin), unwrapped(face, photo, all_skin())
    texels = bake_texels(face, SIZE, rasterise)
    x_px = to_pixels(texels.points, face.camera)[..., 0]
    assert (seen.confidence == -1)[texels.inside & (x_px > 134)].all()
    left = x_px < 120
    assert (seen.confidence - free.confidence)[left].abs().max() < 1e-5


def test_beyond_the_skin_mask_nothing_is_skin() -> None:
    skin = SkinMask(torch.ones(8, 8), torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]))
    points_px = torch.tensor([[0.1, 0.1], [15.9, 15.9], [16.1, 5.0], [5.0, -0.1]])
    assert skin_at(skin, points_px).tolist() == [1, 1, 0, 0]


def test_a_picture_finer_than_the_texture_does_not_alias() -> None:
    stripes = (torch.arange(2048) % 2).float().expand(3, 64, -1)
    points_px = torch.stack([torch.linspace(100, 1900, 64), torch.full((64,), 32.0)], dim=1)
    assert (sample_picture(stripes, points_px, 64) - 0.5).abs().max() < 0.1


def test_islands_are_dropped_and_the_face_is_not() -> None:
    confidence = torch.full((100, 100), -1.0)
    confidence[20:80, 20:80] = 0.7
    confidence[40:50, 40:50] = -1.0
    face = confidence.clone()
    confidence[3:9, 3:9] = 0.9
    assert torch.equal(without_islands(UVTexture(torch.rand(3, 100, 100), confidence)).confidence, face)
