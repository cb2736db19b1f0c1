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
_FRONT = View("front", 0.0, 0.0, 0.0, 2.0)


def choose_mode(asked: Literal["soft", "hard", "auto"], yaw_deg: float) -> Literal["soft", "hard"]:
    """What "auto" means for a face turned by this much."""
    if asked != "auto":
        return asked
    return "hard" if abs(yaw_deg) > HARD_ABOVE_YAW_DEG else "soft"


def plan_views(mode: Literal["soft", "hard"]) -> tuple[View, ...]:
    """The views to complete, in order; hard begins with the front because it does not keep the photo's texels."""
    return _SIDES if mode == "soft" else (_FRONT, *_SIDES)
