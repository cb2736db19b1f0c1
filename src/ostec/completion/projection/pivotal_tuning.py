"""Pivotal tuning: once the latent is found, the generator itself learns this one face.

Source: Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", arXiv 2106.05744, section 3.1; without
its locality term, since the tuned copy makes no other picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ostec.completion.projection.search import Objective
from ostec.interfaces import Generator

_LEARNING_RATE = 3e-4


def tuned_pictures(
    generator: Generator,
    objective: Objective,
    w_plus: Tensor,
    steps: int,
    tell: Callable[[float], object] = lambda share: None,
) -> tuple[Tensor, Tensor]:
    """(pictures [N, 3, R, R] in -1..1 of the latents [N, L, W], losses [N]) by a copy of the generator whose weights
    take `steps` steps down the objective; the generator stays as it was. Rows share the copy. The pictures with
    the least loss are kept, row by row; a loss that is not finite ends the tuning.
    """
    copied, weights = generator.tunable()
    optimiser = torch.optim.Adam(weights, _LEARNING_RATE)
    best = generator.synthesis(w_plus).detach()
    least = torch.full((len(w_plus),), torch.inf, device=w_plus.device)
    for step in range(steps + 1):
        tell(step / (steps + 1))
        with torch.enable_grad():
            pictures = copied.synthesis(w_plus)
            loss = objective(pictures / 2 + 0.5, w_plus)
            if not bool(torch.isfinite(loss).all()):
                break
            optimiser.zero_grad()
            loss.sum().backward()
        better = loss.detach() < least
        best = torch.where(better[:, None, None, None], pictures.detach(), best)
        least = torch.where(better, loss.detach(), least)
        optimiser.step()
    return best, least
