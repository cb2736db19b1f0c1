"""What a user may choose, in one place; the command line is this dataclass plus one call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ostec.errors import BadSettings


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
    preset: Literal["default", "original"] = "default"
    """How a generator is searched: as works best here, or as the released OSTeC does."""
    optimiser: Literal["ggt", "adam", "lbfgs"] = "ggt"
    """Of a generator's search; the preset original has its own."""
    iterations: int = 200
    """Steps of a generator's search, per view."""
    iterations_frontalize: int = 300
    """Steps of a generator's search for the frontal picture."""
    tune: int = 0
    """Steps in which a copy of the generator learns each view after its search: more likeness, more time; 0 = none."""
    film: bool = False
    """Also write `NAME_search.gif`: how a generator's search found each view."""
    seed: int = 0
    """Of everything random."""
    keep_intermediate: bool = False
    """Keep latents, masks, views and confidence for `NAME.npz`."""

    def __post_init__(self) -> None:
        limits = {"texture_size": (64, 8192), "frontal_size": (64, 4096), "iterations": (0, 10**6)}
        limits["iterations_frontalize"] = limits["tune"] = limits["iterations"]
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadSettings(f"{name} is {value}; choose {low}..{high}.")
        if self.mode not in ("soft", "hard", "auto"):
            raise BadSettings(f"mode is {self.mode!r}; choose soft, hard or auto.")
        if self.optimiser not in ("ggt", "adam", "lbfgs"):
            raise BadSettings(f"optimiser is {self.optimiser!r}; choose ggt, adam or lbfgs.")
        if self.preset not in ("default", "original"):
            raise BadSettings(f"preset is {self.preset!r}; choose default or original.")
