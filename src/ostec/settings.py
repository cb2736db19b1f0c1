"""All that a user may choose for one photo; the command line reads its options from these dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ostec.errors import BadSettings

FORMATS = ("png", "obj", "glb")
"""Files that a face can be written as."""


@dataclass(frozen=True)
class SearchSettings:
    """How a face generator is searched for a view; completers without a generator ignore it."""

    preset: Literal["default", "original"] = "default"
    """How a generator is searched: as works best here, or as the released OSTeC does."""
    optimiser: Literal["ggt", "adam", "lbfgs"] = "ggt"
    """Of a generator's search; the preset original has its own."""
    iterations: int = 200
    """Steps of a generator's search, per view; 0..10^6."""
    iterations_frontalize: int = 300
    """Steps of a generator's search for the frontal picture; 0..10^6."""
    tune: int = 0
    """Steps in which a copy of the generator learns each view after its search: more likeness, more time; 0 = none."""
    film: bool = False
    """Also write `NAME_search.gif`: how a generator's search found each view."""

    def __post_init__(self) -> None:
        for name in ("iterations", "iterations_frontalize", "tune"):
            _require_range(name, getattr(self, name), 0, 10**6)
        _require_choice("preset", self.preset, ("default", "original"))
        _require_choice("optimiser", self.optimiser, ("ggt", "adam", "lbfgs"))

    def unused_warnings(self) -> list[str]:
        """What a completer that searches no generator has to report: the settings that were changed for nothing."""
        changed = [name for name, default in vars(SearchSettings()).items() if getattr(self, name) != default]
        return [f"the completer searches no generator: {', '.join(changed)} had no effect."] if changed else []


@dataclass(frozen=True)
class Settings:
    """How one photo is completed."""

    mode: Literal["soft", "hard", "auto"] = "auto"
    """soft keeps the photo's texels where they are trusted, hard only its colours; auto is hard when |yaw| > 30°."""
    texture_size: int = 1024
    """Side of the square texture, px; 64..8192."""
    frontalize: bool = False
    """Also render the completed face from the front."""
    frontal_size: int = 1024
    """Side of the frontal picture, px; 64..4096."""
    seed: int = 0
    """Of everything random."""
    keep_intermediate: bool = False
    """Keep latents, masks, views and confidence for `NAME.npz`."""
    search: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        _require_range("texture_size", self.texture_size, 64, 8192)
        _require_range("frontal_size", self.frontal_size, 64, 4096)
        _require_choice("mode", self.mode, ("soft", "hard", "auto"))


def _require_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise BadSettings(f"{name} is {value}; choose {low}..{high}.")


def _require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadSettings(f"{name} is {value!r}; choose {', '.join(choices[:-1])} or {choices[-1]}.")
