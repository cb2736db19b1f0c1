"""The dark of nostrils and of the folds of ears, where no photo shows them."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.geometry.raster import blend
from ostec.types import Face

_ALBEDO = torch.tensor([0.6, 0.4, 0.35])
"""Linear red, green and blue that skin throws back; by eye, no one's data."""
_GAMMA = 2.2


def cavity_shade(face: Face) -> Tensor:
    """[3, Hu, Wu]: what the log colour of open skin changes by in cavities; [3, 1, 1] zeros without `openness`.

    Of the light that reaches a share s of the directions, walls of albedo a pass on a, a², ... of the rest:
    s / (1 - a (1 - s)).
    """
    topology = face.reconstruction.topology
    if topology.openness is None:
        return torch.zeros(3, 1, 1)
    hidden = blend(face.texels, 1 - topology.openness[:, None], topology.faces).clamp(0, 0.99).movedim(-1, 0)
    return ((1 - hidden) / (1 - _ALBEDO[:, None, None] * hidden)).log() / _GAMMA
