"""The optimisers of the search: torch's, and the one of the released code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

OptimiserName = Literal["adam", "lbfgs", "ggt"]


class Ggt(torch.optim.Optimizer):
    """Full-matrix adaptive, from a window of past gradients; for each item of a parameter [N, ...] separately.

    Agarwal et al., "Efficient full-matrix adaptive regularization", ICML 2019, algorithm 1: with the smoothed gradients
    of the window as columns of G, the step is lr · ((G Gᵀ)^½ + ε I)^-1 of the smoothed gradient, by the small GᵀG.
    """

    def __init__(self, params: list[Tensor], lr: float, window: int = 10, beta: float = 0.9, eps: float = 1e-2) -> None:
        super().__init__(params, {"lr": lr, "window": window, "beta": beta, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step along the gradients that `closure` computes."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter -= group["lr"] * self._direction(parameter, group)
        return value

    def _direction(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        gradient, state = parameter.grad.flatten(1), self.state[parameter]  # pyright: ignore[reportOptionalMemberAccess]
        smooth = torch.lerp(gradient, state.get("smooth", torch.zeros_like(gradient)), group["beta"])
        past = state.get("window", gradient[:, None][:, :0])
        count = state.get("count", 0) + 1
        mean = smooth / (1 - group["beta"] ** count)
        window = torch.cat([past, mean[:, None]], dim=1)[:, -group["window"] :]
        state.update(smooth=smooth, window=window, count=count)
        return full_matrix_step(window, mean, group["eps"]).view_as(parameter)


def full_matrix_step(window: Tensor, gradient: Tensor, eps: float) -> Tensor:
    """((G Gᵀ)^½ + ε I)^-1 · gradient [N, D], where `window` [N, R, D] holds the columns of G."""
    values, vectors = torch.linalg.eigh(window @ window.transpose(1, 2))
    sizes = values.clamp(min=0).sqrt()
    usable = sizes > 1e-4 * sizes.amax(dim=1, keepdim=True).clamp(min=1e-12)
    inverse = torch.where(usable, 1 / sizes.clamp(min=1e-12), 0.0)
    basis = inverse[:, :, None] * (vectors.transpose(1, 2) @ window)
    within = (basis @ gradient[:, :, None])[:, :, 0]
    shrink = torch.where(usable, 1 / (sizes + eps) - 1 / eps, 0.0)
    return gradient / eps + ((within * shrink)[:, None] @ basis)[:, 0]


def make_optimiser(name: OptimiserName, parameter: Tensor, lr: float) -> torch.optim.Optimizer:
    """An optimiser of one parameter."""
    if name == "adam":
        return torch.optim.Adam([parameter], lr)
    if name == "ggt":
        return Ggt([parameter], lr)
    return torch.optim.LBFGS([parameter], lr, max_iter=1, history_size=20, line_search_fn="strong_wolfe")
