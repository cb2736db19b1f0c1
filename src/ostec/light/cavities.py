"""Ambient occlusion: the darkness of nostrils and ear folds, where no photo shows them."""

from __future__ import annotations

import torch
from torch import Tensor

from ostec.geometry.raster import interpolate
from ostec.types import Face

_ALBEDO = torch.tensor([0.6, 0.4, 0.35])
"""Linear red, green and blue albedo of skin; chosen by eye, not measured."""
_GAMMA = 2.2


def cavity_shade(face: Face) -> Tensor:
    """[3, Hu, Wu]: log colour to add to that of open skin in cavities; [3, 1, 1] zeros without ambient occlusion.

    Where the share s of the directions is open, walls of albedo a reflect a, a², ... of the rest onto one another:
    s / (1 - a (1 - s)).
    """
    topology = face.reconstruction.topology
    if topology.ambient_occlusion is None:
        return torch.zeros(3, 1, 1)
    hidden = interpolate(face.texels, 1 - topology.ambient_occlusion[:, None], topology.faces).clamp(0, 0.99)
    hidden = hidden.movedim(-1, 0)
    return ((1 - hidden) / (1 - _ALBEDO[:, None, None] * hidden)).log() / _GAMMA
