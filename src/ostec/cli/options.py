"""What several commands have in common: options on networks and parts, exit codes, how an error is printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

if TYPE_CHECKING:
    from ostec.registry.components import PartSelection

DONE, SOME_FAILED, SET_UP, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


@dataclass(frozen=True)
class WeightOptions:
    """Where the networks come from."""

    weights_dir: Path | None = None
    """Folder with weight files, looked into before OSTEC_WEIGHTS and the user's data folder."""


@dataclass(frozen=True)
class GeneratorOptions(WeightOptions):
    """Where the networks come from, and what they compute on."""

    generator: Path | None = None
    """File of the StyleGAN2 that the completer projection searches; by default the best one there."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What to compute on."""


@dataclass(frozen=True)
class PartOptions(GeneratorOptions):
    """Which parts do the work."""

    completer: str = "auto"
    """What fills the hidden parts: auto, or a name; a wrong name lists them."""
    reconstructor: str = "auto"
    """What fits the 3D face: auto, or a name; a wrong name lists them."""
    ganfit: Annotated[bool, arg(aliases=["-g"])] = False
    """Use GANFit's fits, NAME.pkl beside NAME.jpg: the same as --reconstructor ganfit."""
    detector: str = "auto"
    """What finds faces: auto, or a name; a wrong name lists them."""
    segmenter: str = "auto"
    """What tells skin from what hides it: auto, or a name; a wrong name lists them."""

    def select(self) -> PartSelection:
        """The parts. Raises what `select_parts` raises, and `BadSettings` where two reconstructors are named."""
        from ostec.errors import BadSettings
        from ostec.registry import components

        if self.ganfit and self.reconstructor not in ("auto", "ganfit"):
            raise BadSettings(f"--ganfit and --reconstructor {self.reconstructor} name two parts; choose one.")
        reconstructor = "ganfit" if self.ganfit else self.reconstructor
        others = {"detector": self.detector, "segmenter": self.segmenter, "generator": self.generator}
        return components.select_parts(self.completer, reconstructor, self.device, self.weights_dir, **others)


def complain(what: object, code: int) -> int:
    print(f"ostec: {one_line(str(what))}", file=sys.stderr)
    return code


def one_line(text: str) -> str:
    return " ".join(text.split())
