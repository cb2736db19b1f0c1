"""Looks over the search's shoulder: pictures of how it went."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.projection.search import Objective

FRAMES = 24
"""Per search, at most."""
_SIDE_PX = 256


@dataclass
class Film:
    """An objective that keeps some of the pictures it is asked about."""

    objective: Objective
    every: int
    frames: list[Tensor] = field(default_factory=list)
    _asked: int = 0

    def __call__(self, pictures: Tensor, w_plus: Tensor) -> Tensor:
        """[N]: the objective's own answer."""
        if self._asked % self.every == 0:
            small = F.interpolate(pictures.detach(), (_SIDE_PX, _SIDE_PX), mode="bilinear", antialias=True)
            self.frames.append((small.clamp(0, 1) * 255).round().byte().cpu())
        self._asked += 1
        return self.objective(pictures, w_plus)

    def of(self, row: int) -> Tensor | None:
        """[T, 3, S, S] uint8: the frames of one search of the batch; None where it took no step."""
        return torch.stack([frame[row] for frame in self.frames]) if self.frames else None
