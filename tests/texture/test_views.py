"""The plan of views and the ownership of texels."""

from __future__ import annotations

import pytest
import torch

from ostec.texture.views import PHOTO_PRIORITY, choose_mode, plan_views
from ostec.types import Atlas, UVTexture


def texture(confidence: list[float]) -> UVTexture:
    return UVTexture(torch.zeros(3, 1, len(confidence)), torch.tensor([confidence]))


def test_auto_chooses_by_yaw_and_a_choice_stands() -> None:
    assert [choose_mode("auto", yaw) for yaw in (-31.0, -30.0, 0.0, 30.0, 31.0)] == ["hard", *["soft"] * 3, "hard"]
    assert choose_mode("soft", 80.0) == "soft" and choose_mode("hard", 0.0) == "hard"


def test_the_paper_s_views_in_the_paper_s_order() -> None:
    soft, hard = plan_views("soft"), plan_views("hard")
    assert [v.name for v in soft] == ["bottom", "bottom_left", "bottom_right", "left", "right"]
    assert hard[0].name == "front" and hard[1:] == soft
    angles = {v.name: (v.pitch_deg, v.yaw_deg, v.roll_deg, v.priority) for v in hard}
    assert angles["bottom"] == (-30, 0, 0, 1.3) and angles["left"] == (5, -40, 0, 1.0)
    assert angles["front"] == (0, 0, 0, 2.0) and PHOTO_PRIORITY == {"soft": 2.0, "hard": 0.1}


def test_the_owner_is_the_best_score_and_the_earlier_on_a_tie() -> None:
    photo, view = texture([0.9, 0.4, -1.0, -1.0, 0.5]), texture([0.9, 0.9, 0.3, -1.0, 1.0])
    soft = Atlas().add("photo", photo, 2.0, "photo").add("view", view, 1.0)
    assert soft.owner().tolist() == [[0, 1, 1, -1, 0]]
    hard = Atlas().add("photo", photo, 0.1, "photo").add("view", view, 1.0)
    assert hard.owner().tolist() == [[1, 1, 1, -1, 1]]


def test_adding_a_view_leaves_the_atlas_as_it_was() -> None:
    empty = Atlas()
    one = empty.add("photo", texture([0.5]), 2.0, "photo")
    assert not empty.entries and [entry.name for entry in one.entries] == ["photo"]


def test_an_entry_says_whether_it_is_a_photo() -> None:
    """Whatever its name and place: several photos of one person may lie among completed views."""
    shown, invented = texture([0.5]), texture([0.9])
    atlas = Atlas().add("photo of a statue", invented, 1.0).add("left.jpg", shown, 2.0, "photo")
    assert atlas.photo is shown and [entry.name for entry in atlas.photos] == ["left.jpg"]
    for none_or_two in (Atlas().add("view", invented, 1.0), atlas.add("right.jpg", shown, 2.0, "photo")):
        with pytest.raises(ValueError, match="unpack"):
            none_or_two.photo  # noqa: B018
