"""Stitching keeps what it should and hides where it joined."""

from __future__ import annotations

import torch

from ostec.geometry.bands import Bands
from ostec.texture.stitch import _owners_gradients, match_colour, stitch
from ostec.types import Atlas, UVTexture

SIZE = 96
INSIDE = torch.ones(SIZE, SIZE, dtype=torch.bool)
GREY = torch.full((3, SIZE, SIZE), 0.5)


def picture() -> torch.Tensor:
    axis = torch.linspace(0, 6, SIZE)
    return 0.5 + 0.2 * torch.stack([torch.sin(axis[:, None] * k + axis) for k in (1, 2, 3)])


def left_half(value: float, otherwise: float = -1.0) -> torch.Tensor:
    return torch.where(torch.arange(SIZE).expand(SIZE, -1) < SIZE // 2, value, otherwise)


def test_one_view_alone_is_unchanged() -> None:
    atlas = Atlas().add("photo", UVTexture(picture(), torch.ones(SIZE, SIZE)), 1.0, "photo")
    for keep in (INSIDE, ~INSIDE):
        assert (stitch(atlas, INSIDE, keep, GREY).rgb - picture()).abs().max() < 2e-3


def test_kept_texels_are_bit_exact() -> None:
    atlas = Atlas().add("photo", UVTexture(picture(), left_half(0.9)), 2.0, "photo")
    atlas = atlas.add("view", UVTexture(picture() * 0.5, torch.full((SIZE, SIZE), 0.8)), 1.0)
    keep = left_half(1.0) > 0
    assert torch.equal(stitch(atlas, INSIDE, keep, GREY).rgb[:, keep], picture()[:, keep])


def test_a_colour_cast_leaves_no_seam() -> None:
    atlas = Atlas().add("photo", UVTexture(picture(), left_half(0.9)), 2.0, "photo")
    atlas = atlas.add("view", UVTexture(picture() - 0.15, torch.full((SIZE, SIZE), 0.8)), 1.0)
    out = stitch(atlas, INSIDE, left_half(1.0) > 0, GREY).rgb
    border = SIZE // 2
    step = (out[:, :, border] - out[:, :, border - 1]) - (picture()[:, :, border] - picture()[:, :, border - 1])
    assert step.abs().max() < 0.03


def test_a_draft_is_the_stitch_but_for_a_level_of_255() -> None:
    atlas = Atlas().add("photo", UVTexture(picture(), left_half(0.9)), 2.0, "photo")
    atlas = atlas.add("view", UVTexture(picture() - 0.15, torch.full((SIZE, SIZE), 0.8)), 1.0)
    draft, exact = (stitch(atlas, INSIDE, left_half(1.0) > 0, GREY, draft=draft) for draft in (True, False))
    assert 0 < (draft.rgb - exact.rgb).abs().max() < 1 / 255
    assert torch.equal(draft.confidence, exact.confidence)


def test_texels_nobody_saw_are_filled_and_said_to_be_unseen() -> None:
    atlas = Atlas().add("photo", UVTexture(picture() * 0 + 0.6, left_half(0.9)), 2.0, "photo")
    out = stitch(atlas, INSIDE, left_half(1.0) > 0, GREY)
    right = left_half(0.0, 1.0) > 0
    assert (out.confidence[right] == -1).all() and (out.confidence[~right] == 0.9).all()
    assert ((out.rgb > 0.48) & (out.rgb < 0.62)).all()


def test_nothing_leaks_from_outside_the_chart() -> None:
    inside = left_half(1.0) > 0
    wild = torch.where(inside, 0.4, 1.0).expand(3, -1, -1)
    atlas = Atlas().add("view", UVTexture(wild, torch.ones(SIZE, SIZE)), 1.0)
    out = stitch(atlas, inside, ~INSIDE, GREY)
    assert (out.rgb[:, inside] - 0.4).abs().max() < 2e-3 and (out.rgb[:, ~inside] == 0).all()


def test_match_colour_undoes_a_change_of_gain_and_offset() -> None:
    photo = UVTexture(picture(), torch.full((SIZE, SIZE), 0.5))
    view = UVTexture(picture() * 0.7 + 0.1, torch.full((SIZE, SIZE), 0.9))
    assert (match_colour(view, photo).rgb - photo.rgb).abs().max() < 1e-5
    unrelated = UVTexture(view.rgb, -torch.ones(SIZE, SIZE))
    assert match_colour(unrelated, photo) is unrelated


def test_gathering_is_what_the_owners_show() -> None:
    """Texel by texel: its owner's colour; to a neighbour, the mean step of the owners who see both."""
    draw = torch.Generator().manual_seed(0)
    height, width = 7, 9
    pictures = list(torch.rand(3, 3, height, width, generator=draw))
    seen = list(torch.rand(3, height, width, generator=draw) > 0.2)
    owner = torch.randint(0, 3, (height, width), generator=draw)
    with Bands() as bands:
        colour, (step_x, step_y) = _owners_gradients(pictures, seen, owner, bands)
    for i in range(height):
        for j in range(width):
            assert torch.equal(colour[:, i, j], pictures[int(owner[i, j])][:, i, j])
            for steps, (k, m) in ((step_x, (i, j + 1)), (step_y, (i + 1, j))):
                if k < height and m < width:
                    owners = {int(owner[i, j]), int(owner[k, m])}
                    shown = [
                        pictures[o][:, k, m] - pictures[o][:, i, j] for o in owners if seen[o][i, j] & seen[o][k, m]
                    ]
                    mean = torch.stack(shown).mean(dim=0) if shown else torch.zeros(3)
                    assert torch.allclose(steps[:, i, j], mean, atol=1e-6)
