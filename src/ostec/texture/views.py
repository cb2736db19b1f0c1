"""Which way to look, in which order, and how much each view's word counts (METHOD section 1, steps 4 to 6)."""

from __future__ import annotations

from typing import Literal

from ostec.types import View

HARD_ABOVE_YAW_DEG = 30.0
PHOTO_PRIORITY = {"soft": 2.0, "hard": 0.1}

_SIDES = (
    View("bottom", -30.0, 0.0, 0.0, 1.3),
    View("bottom_left", -15.0, -30.0, 0.0, 1.0),
    View("bottom_right", -15.0, 30.0, 0.0, 1.0),
    View("left", 5.0, -40.0, 0.0, 1.0),
    View("right", 5.0, 40.0, 0.0, 1.0),
)
FRONT = View("front", 0.0, 0.0, 0.0, 2.0)


def choose_mode(asked: Literal["soft", "hard", "auto"], yaw_deg: float) -> Literal["soft", "hard"]:
    """What "auto" means for a face turned by this much."""
    if asked != "auto":
        return asked
    return "hard" if abs(yaw_deg) > HARD_ABOVE_YAW_DEG else "soft"


def plan_views(mode: Literal["soft", "hard"]) -> tuple[View, ...]:
    """The views to complete, in order; hard begins with the front because it does not keep the photo's texels."""
    return _SIDES if mode == "soft" else (FRONT, *_SIDES)


def in_batches(views: tuple[View, ...]) -> tuple[tuple[View, ...], ...]:
    """The same views, each with its mirror image where that follows: neither shows much of what the other completes."""
    batches: list[tuple[View, ...]] = []
    for view in views:
        last = batches[-1][-1] if batches else None
        if last is not None and (view.pitch_deg, view.yaw_deg) == (last.pitch_deg, -last.yaw_deg) and view.yaw_deg:
            batches[-1] = (last, view)
        else:
            batches.append((view,))
    return tuple(batches)
