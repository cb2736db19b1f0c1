"""What the prior completer promises, with a small prior on a head whose true texture is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_prior import MODEL, NORMALS, small_prior
from synthetic import all_skin, head, paint, photograph
from torch.nn import functional as F

from ostec.completion.mirror import MirrorCompleter
from ostec.completion.prior.completer import PriorCompleter, calm_at_rim
from ostec.completion.prior.face_prior import PRIOR_FILE, load_face_prior, save_face_prior
from ostec.errors import BadWeights, MissingWeights
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Completer
from ostec.settings import Settings
from ostec.texture.fill import push_pull
from ostec.texture.unwrap import TRUSTED, unwrap
from ostec.texture.views import PHOTO_PRIORITY
from ostec.types import Atlas, Completed, Face, Reconstruction, UVTexture

SIZE = (160, 160)
PRIOR = small_prior()


def known_face(seed: int = 0) -> torch.Tensor:
    """[3, H, W]: the texture of a lopsided face that the prior can make."""
    z = torch.randn(MODEL.basis.shape[2], generator=torch.Generator().manual_seed(seed))
    grid = torch.zeros(3, *MODEL.domain.shape)
    grid[:, MODEL.domain] = MODEL.mean + MODEL.basis @ z
    grid = push_pull(grid, MODEL.domain.float())
    return F.interpolate(grid[None], SIZE, mode="bicubic", align_corners=False)[0].exp().clamp(0.05, 1)


def complete(
    face: Reconstruction, texture: torch.Tensor, completer: Completer, mode: Literal["soft", "hard"] = "soft"
) -> tuple[UVTexture, torch.Tensor, Completed]:
    texels = bake_texels(face, SIZE, rasterise)
    seen = unwrap(photograph(face, texture).rgb, face.camera, face, texels, rasterise, all_skin())
    atlas = Atlas().add("photo", seen, PHOTO_PRIORITY[mode], "photo")
    known = Face(photograph(face, texture), face, all_skin(), texels, mode)
    return seen, texels.inside, completer(known, atlas, Settings(), lambda *_: None)


@pytest.mark.parametrize("yaw_deg", [40.0, -40.0])
def test_a_lopsided_face_that_the_prior_knows_is_completed_to_itself(yaw_deg: float) -> None:
    truth = known_face()
    seen, inside, done = complete(head(yaw_deg), truth, PriorCompleter(PRIOR))
    _, _, mirrored = complete(head(yaw_deg), truth, MirrorCompleter())
    hidden = inside & (seen.confidence < TRUSTED)
    ours, theirs = ((d.texture.rgb - truth)[:, hidden].abs().mean() for d in (done, mirrored))
    assert ours < 0.03 and ours < 0.5 * theirs


def test_soft_keeps_trusted_texels_bit_for_bit() -> None:
    seen, _, done = complete(head(25.0), paint(SIZE[0]), PriorCompleter(PRIOR))
    trusted = seen.confidence >= TRUSTED
    assert torch.equal(done.texture.rgb[:, trusted], seen.rgb[:, trusted])


def test_hard_keeps_the_colours() -> None:
    seen, _, done = complete(head(40.0), paint(SIZE[0]), PriorCompleter(PRIOR), "hard")
    trusted = seen.confidence >= TRUSTED
    off = done.texture.rgb[:, trusted].mean(dim=1) - seen.rgb[:, trusted].mean(dim=1)
    assert off.abs().max() < 0.05


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_every_texel_is_filled_and_says_how_sure_it_is(mode: Literal["soft", "hard"]) -> None:
    seen, inside, done = complete(head(60.0), paint(SIZE[0]) * 0.5 + 0.3, PriorCompleter(PRIOR), mode)
    texture = done.texture
    assert texture.std is not None
    assert torch.isfinite(texture.rgb).all() and (texture.rgb[:, inside].amin(dim=0) > 0.1).all()
    trusted, hidden = inside & (seen.confidence >= TRUSTED), inside & (seen.confidence < 0)
    assert (texture.std[hidden] > 0).all() and (texture.confidence[hidden] == -1).all()
    if mode == "soft":
        assert (texture.std[trusted] == 0).all()
        assert torch.equal(texture.confidence[trusted], seen.confidence[trusted])


def test_a_mirrored_photo_gives_the_mirrored_texture() -> None:
    face = head()
    texels = bake_texels(face, SIZE, rasterise)
    confidence = torch.where(texels.inside & (torch.rand(SIZE) < 0.7), 0.8, -1.0)
    confidence[:, : SIZE[1] // 3] = -1
    seen = UVTexture(paint(SIZE[0]) * (confidence > -1), confidence)
    flipped = UVTexture(seen.rgb.flip(2), seen.confidence.flip(1))
    known = Face(photograph(face, seen.rgb), face, all_skin(), texels, "soft")
    here, there = (
        PriorCompleter(PRIOR)(known, Atlas().add("photo", t, 2.0, "photo"), Settings(), lambda *_: None).texture.rgb
        for t in (seen, flipped)
    )
    assert (here.flip(2) - there).abs().max() < 0.02


def test_other_topologies_find_their_place_by_the_shape() -> None:
    """The same head under another name goes the long way round, and ends nearly where the short way does."""
    truth, face = known_face(1), head(35.0)
    stranger = replace(face, topology=replace(face.topology, name="stranger"))
    _, inside, known = complete(face, truth, PriorCompleter(PRIOR))
    _, _, found = complete(stranger, truth, PriorCompleter(PRIOR))
    assert (known.texture.rgb - found.texture.rgb)[:, inside].abs().mean() < 0.01


def test_topologies_that_know_facemeshs_chart_are_told_at_once_where_their_vertices_lie() -> None:
    truth, face = known_face(1), head(35.0)
    prior = replace(PRIOR, head=replace(PRIOR.head, topology="facemesh"))
    own = replace(face, topology=replace(face.topology, name="facemesh"))
    stranger = replace(face, topology=replace(face.topology, name="stranger", facemesh_uv=face.topology.uv))
    _, inside, known = complete(own, truth, PriorCompleter(prior))
    _, _, found = complete(stranger, truth, PriorCompleter(prior))
    assert (known.texture.rgb - found.texture.rgb)[:, inside].abs().max() < 0.01


def test_beyond_facemeshs_chart_skin_goes_on_without_a_step() -> None:
    truth, face = known_face(1), head(35.0)
    prior = replace(PRIOR, head=replace(PRIOR.head, topology="facemesh"))
    beyond = face.topology.uv[:, 1:] < 0.3
    uv = torch.where(beyond, torch.nan, face.topology.uv)
    stranger = replace(face, topology=replace(face.topology, name="stranger", facemesh_uv=uv))
    seen, inside, done = complete(stranger, truth, PriorCompleter(prior))
    hidden = inside & (seen.confidence < 0)
    steps = done.texture.rgb.diff(dim=1).abs().amax(dim=0)
    both = hidden[1:] & hidden[:-1]
    row = int(0.3 * SIZE[0])
    rim = steps[row - 4 : row + 4][both[row - 4 : row + 4]]
    assert len(rim) > 50
    assert float(rim.quantile(0.9)) < 0.03
    assert torch.isfinite(done.texture.rgb).all()


def test_a_face_model_without_symmetry_is_completed_and_says_so() -> None:
    face = head(30.0)
    face = replace(face, topology=replace(face.topology, mirror=None))
    _, inside, done = complete(face, paint(SIZE[0]), PriorCompleter(PRIOR))
    assert done.notes["warnings"] and (done.texture.rgb[:, inside] > 0).all()


def test_the_file_brings_the_prior_back(tmp_path: Path) -> None:
    save_face_prior(PRIOR, tmp_path / "prior.safetensors")
    again = load_face_prior(tmp_path / "prior.safetensors")
    assert again.head.topology == "synthetic" and torch.equal(again.gaussian.domain, MODEL.domain)
    grid, normals = torch.zeros(3, *MODEL.domain.shape), torch.zeros(3, *MODEL.domain.shape)
    grid[:, MODEL.domain], normals[:, MODEL.domain] = MODEL.mean + 0.1, NORMALS.T
    seen = MODEL.domain & (torch.arange(MODEL.domain.shape[1]) < 8)
    for ours, theirs in zip(*(p.predict(grid, seen, normals) for p in (PRIOR, again)), strict=True):
        assert (ours - theirs).abs().max() < 5e-3


def test_wrong_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    with pytest.raises(MissingWeights, match="prior.safetensors"):
        load_face_prior(path)
    save_face_prior(PRIOR, path)
    whole, tensors = path.read_bytes(), {name: t.clone() for name, t in load_file(path).items()}
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadWeights, match="prior.safetensors"):
        load_face_prior(path)
    for name, wrong in (
        ("gaussian.mean", torch.zeros(3, 5)),
        ("gaussian.basis", tensors["gaussian.basis"] * torch.nan),
    ):
        save_file({**tensors, name: wrong}, path)
        with pytest.raises(BadWeights):
            load_face_prior(path)
    save_file({k: v for k, v in tensors.items() if k != "head.uv"}, path)
    with pytest.raises(BadWeights, match="uv"):
        load_face_prior(path)


def test_the_shipped_prior_is_symmetric_and_small() -> None:
    prior = load_face_prior()
    assert PRIOR_FILE.stat().st_size <= 15e6
    assert torch.equal(prior.gaussian.domain, prior.gaussian.domain.flip(1))
    picture = torch.zeros(3, *prior.gaussian.domain.shape)
    picture[:, prior.gaussian.domain] = prior.gaussian.mean
    assert (picture - picture.flip(2)).abs().max() < 2e-3


def test_the_rim_of_the_prior_has_no_small_features() -> None:
    domain = torch.zeros(64, 64, dtype=torch.bool)
    domain[8:56, 8:56] = True
    draw = torch.Generator().manual_seed(0)
    spots = torch.randn(3, 64, 64, generator=draw)
    calm = calm_at_rim(spots, domain)
    assert torch.equal(calm[:, 16:48, 16:48], spots[:, 16:48, 16:48])
    rim = domain.clone()
    rim[10:54, 10:54] = False
    assert float(calm[:, rim].std()) < 0.3 * float(spots[:, rim].std())
    slope = torch.linspace(-1, 1, 64).expand(3, 64, 64)
    assert float((calm_at_rim(slope, domain) - slope)[:, 8:56, 8:56].abs().max()) < 0.01
