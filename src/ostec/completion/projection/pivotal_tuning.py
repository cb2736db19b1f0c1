"""Pivotal tuning: once the latent is found, the generator itself learns this one face.

Source: Roich et al., "Pivotal Tuning for Latent-based Editing of Real Images", arXiv 2106.05744, section 3.1; without
its locality term, since the tuned copy makes no other picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ostec.completion.projection.search import STEPS_PER_SYNC, LossFunction
from ostec.interfaces import Generator

_LEARNING_RATE = 3e-4


def tuned_pictures(
    generator: Generator,
    loss: LossFunction,
    w_plus: Tensor,
    steps: int,
    progress: Callable[[float], object] = lambda share: None,
) -> tuple[Tensor, Tensor]:
    """(pictures [N, 3, R, R] in -1..1 of the latents [N, L, W], losses [N]) by a copy of the generator whose weights
    take `steps` steps down the loss; the generator stays as it was.

    All N pictures share the copy. Of each, the version with the least loss is returned; a loss that is not finite ends
    the tuning.
    """
    tuned, weights = generator.tunable()
    optimiser = torch.optim.Adam(weights, _LEARNING_RATE)
    best = generator.synthesis(w_plus).detach()
    least = torch.full((len(w_plus),), torch.inf, device=w_plus.device)
    check_every = STEPS_PER_SYNC if w_plus.is_cuda else 1
    for step in range(steps + 1):
        progress(step / (steps + 1))
        with torch.enable_grad():
            pictures = tuned.synthesis(w_plus)
            losses = loss(pictures / 2 + 0.5, w_plus)
            if step % check_every == 0 and not bool(torch.isfinite(losses).all()):
                break
            optimiser.zero_grad()
            losses.sum().backward()
        better = losses.detach() < least
        best = torch.where(better[:, None, None, None], pictures.detach(), best)
        least = torch.where(better, losses.detach(), least)
        optimiser.step()
    return best, least
