"""The dark of nostrils and of the folds of ears, where no photo shows them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ostec.geometry.texels import on_texels
from ostec.types import Face

_ALBEDO = torch.tensor([0.6, 0.4, 0.35])
"""Linear red, green and blue that skin throws back; by eye, no one's data."""
_GAMMA = 2.2


def cavity_shade(face: Face) -> Tensor:
    """[3, Hu, Wu]: what the log colour of open skin changes by in cavities; [3, 1, 1] zeros without `openness`.

    Of the light that reaches a share s of the directions, walls of albedo a pass on a, a², ... of the rest:
    s / (1 - a (1 - s)).
    """
    topology, texels = face.reconstruction.topology, face.texels
    if topology.openness is None:
        return torch.zeros(3, 1, 1)
    return _shade(topology.openness, topology.faces, texels.triangle, texels.barycentrics)


@lru_cache(maxsize=2)  # by identity, as `on_texels`
def _shade(openness: Tensor, faces: Tensor, triangle: Tensor, barycentrics: Tensor) -> Tensor:
    share = 1 + on_texels(openness[:, None] - 1, faces, triangle, barycentrics).clamp(-0.99, 0).movedim(-1, 0)
    return (share / (1 - _ALBEDO[:, None, None] * (1 - share))).log() / _GAMMA
