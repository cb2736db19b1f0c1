"""What the files of a photo are called: its stem, unless that would collide."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_DERIVED = re.compile(r"(.+)_(?:face\d+|frontal|sheet|search)", re.IGNORECASE | re.DOTALL)
_TAKEN = ("summary",)


def output_names(photos: Sequence[Path]) -> list[str]:
    """One name per photo, no two alike whatever their case, none that another photo's files could take.

    Photos that clash keep their extension, then their folder's name; a hash of the path decides the rest. The names
    of a folder's photos do not depend on their order.
    """
    ladders = [_spellings(photo) for photo in photos]
    rungs = [0] * len(photos)
    while True:
        names = [ladder[rung] for ladder, rung in zip(ladders, rungs, strict=True)]
        counts = Counter(name.casefold() for name in names)
        clashing = [
            i
            for i, name in enumerate(names)
            if rungs[i] + 1 < len(ladders[i])
            and (counts[name.casefold()] > 1 or name.casefold() in _TAKEN or _derives(name.casefold(), counts))
        ]
        if not clashing:
            return names
        for i in clashing:
            rungs[i] += 1


def face_name(name: str, number: int) -> str:
    """What the files of a photo's face are called; `number` counts from 1, the largest."""
    return name if number == 1 else f"{name}_face{number}"


def _spellings(photo: Path) -> list[str]:
    digest = hashlib.sha256(str(photo).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return [photo.stem, photo.name, f"{photo.parent.name}_{photo.name}", f"{photo.name}_{digest}"]


def _derives(name: str, others: Counter[str]) -> bool:
    """Whether another photo's files could be called so: `x_frontal` beside `x`."""
    while match := _DERIVED.fullmatch(name):
        name = match[1]
        if name in others:
            return True
    return False
