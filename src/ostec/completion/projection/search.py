"""The search for the latent whose picture agrees with what is known of a face (the paper, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.projection.optimisers import OptimiserName, make_optimiser
from ostec.completion.projection.pyramid import Pyramid

LossFunction = Callable[[Tensor, Tensor], Tensor]
"""(pictures [N, 3, S, S] in 0..1, latents [N, L, W]) to losses [N]."""

_DECAYS = 25
_SETTLED_STEPS, _SMOOTHING = 10, 0.9
_CLOSE_GAIN = 1.0
_CLOSE_START_PX, _FRAME_PX = 64, 256
STEPS_PER_SYNC = 10
"""On a GPU, the CPU waits for results only at every so many steps, to see whether all searches have ended."""


@dataclass(frozen=True)
class Plan:
    """How to search."""

    optimiser: OptimiserName
    learning_rate: float
    sizes_px: tuple[tuple[int, float], ...]
    """(side of the generated picture, share of the steps), in order; 0 = the generator's resolution."""
    decay: float = 0.9
    """Of the learning rate, at every 4 % of the steps."""
    redraw_beyond: float | None = None
    """Components of the latent beyond this are drawn anew from a normal distribution (stochastic clipping)."""
    keep_new: float = 1.0
    """Weight of the newer latent in the best one at each improvement."""
    settled_gain: float | None = None
    """End when the smoothed gain stays under this for 10 steps."""
    frames: int = 0
    """Pictures of the search to keep, at most."""

    def from_close(self) -> Plan:
        """For a start that is close already: without the coarse pictures, and it ends when little is gained."""
        return replace(self, sizes_px=((_CLOSE_START_PX, 1.0),), settled_gain=_CLOSE_GAIN)

    def size_at(self, share: float) -> int:
        """The side of the pictures once this share of the steps is done."""
        end = 0.0
        for size_px, part in self.sizes_px:
            end += part
            if share < end - 1e-9:
                return size_px
        return self.sizes_px[-1][0]


ORIGINAL = Plan("ggt", 0.25, ((0, 1.0),), redraw_beyond=2.0, keep_new=0.75, settled_gain=0.5)
"""As the released code searches (docs/algorithm.md)."""
DEFAULT = Plan("ggt", 0.5, ((64, 0.3), (128, 0.3), (256, 0.4)))
"""Coarse to fine: the first steps need no fine detail, and cost a tenth."""
PLANS: Mapping[OptimiserName, Plan] = {
    "ggt": DEFAULT,
    "adam": replace(DEFAULT, optimiser="adam", learning_rate=0.1),
    "lbfgs": replace(DEFAULT, optimiser="lbfgs", learning_rate=1.0, decay=1.0),
}


@dataclass(frozen=True)
class SearchResult:
    """The best latents of a batch of N searches."""

    w_plus: Tensor
    """[N, L, W]."""
    history: tuple[tuple[float, ...], ...]
    """For each search its loss by step; losses at different sizes of picture do not compare."""
    diverged: tuple[bool, ...]
    """[N]: a loss was not finite; the best latent until then was kept."""
    frames: Tensor | None = None
    """[N, T, 3, S, S] uint8: pictures of the search, where the plan asks for them and a step was taken."""

    def items(self, low: int, high: int) -> SearchResult:
        """The searches `low` to `high` - 1 of the batch."""
        frames = None if self.frames is None else self.frames[low:high]
        return SearchResult(self.w_plus[low:high], self.history[low:high], self.diverged[low:high], frames)


def search(
    pyramid: Pyramid,
    loss: LossFunction,
    start: Tensor,
    plan: Plan,
    steps: int,
    seed: int,
    progress: Callable[[float], object] = lambda share: None,
) -> SearchResult:
    """Descend from the latents `start` [N, L, W]; the items of the batch are searches of their own.

    `progress(share)` is called before each step; an error that it raises stops the search. The same seed gives the same
    bits on one CPU. Sizes beyond the generator's resolution mean its resolution.
    """
    random = torch.Generator(start.device).manual_seed(seed)
    w = start.detach().clone().requires_grad_()
    best, size_px, optimiser = _Best.before(w), 0, None
    check_every = STEPS_PER_SYNC if w.is_cuda else 1
    frame_every, frames = math.ceil(steps / plan.frames) if plan.frames else 0, []
    for step in range(steps):
        progress(step / steps)
        wanted_px = pyramid.usable_size(plan.size_at(step / steps))
        if optimiser is None or wanted_px != size_px:
            if optimiser is not None:
                best.remeasure(pyramid, loss, wanted_px)
            size_px, optimiser = wanted_px, make_optimiser(plan.optimiser, w, plan.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * plan.decay ** int(_DECAYS * step / steps)
        before, evaluate = w.detach().clone(), _Evaluation(pyramid, loss, w, size_px, best.active)
        with torch.enable_grad():
            optimiser.step(evaluate)  # pyright: ignore[reportCallIssue, reportArgumentType]
        best.update(before, evaluate.first_loss, plan)
        if frame_every and step % frame_every == 0:
            frames.append(_frame(evaluate.first_pictures))
        if step % check_every == check_every - 1 and not bool(best.active.any()):
            break
        with torch.no_grad():
            if plan.redraw_beyond is not None:
                noise = torch.randn(w.shape[1:], generator=random, device=w.device)
                w.copy_(torch.where(w.abs() > plan.redraw_beyond, noise, w))
            w.copy_(torch.where(best.active[:, None, None], w, before))
    progress(1.0)
    film = torch.stack(frames, dim=1) if frames else None
    return SearchResult(best.w_plus, best.losses_by_step(), tuple(best.diverged.tolist()), film)


@dataclass
class _Evaluation:
    """The closure of one step: sets the gradient of `w` and returns the summed loss, as often as it is called; as a
    tensor, so that a GPU is not waited for."""

    pyramid: Pyramid
    loss: LossFunction
    w: Tensor
    size_px: int
    active: Tensor
    first_loss: Tensor = field(init=False)
    """[N]: of the latents before the step; NaN where the loss or its gradient is not finite."""
    first_pictures: Tensor = field(init=False)
    """[N, 3, S, S]: of the latents before the step."""
    _calls: int = 0

    def __call__(self) -> Tensor:
        w = self.w
        w.grad = None
        pictures = self.pyramid.picture(w, self.size_px)
        loss = self.loss(pictures, w)
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        loss = loss.detach()
        finite = torch.isfinite(loss) & torch.isfinite(gradient).flatten(1).all(dim=1)
        w.grad = torch.where((finite & self.active)[:, None, None], gradient, 0.0)
        if self._calls == 0:
            self.first_loss, self.first_pictures = torch.where(finite, loss, math.nan), pictures.detach()
        self._calls += 1
        return torch.where(finite & self.active, loss, 0.0).sum()


@dataclass
class _Best:
    """The best latents so far, and which searches are still active."""

    w_plus: Tensor
    loss: Tensor
    smooth_loss: Tensor
    settled_steps: Tensor
    active: Tensor
    diverged: Tensor
    history: list[Tensor] = field(default_factory=list)

    @classmethod
    def before(cls, w: Tensor) -> _Best:
        infinite = torch.full((len(w),), math.inf, device=w.device)
        active = torch.ones_like(infinite, dtype=torch.bool)
        return cls(w.detach().clone(), infinite, infinite, torch.zeros_like(infinite), active, ~active)

    @torch.no_grad()
    def remeasure(self, pyramid: Pyramid, loss: LossFunction, size_px: int) -> None:
        """The loss of the best latents in pictures of a new size: losses at different sizes do not compare."""
        losses = loss(pyramid.picture(self.w_plus, size_px), self.w_plus)
        self.loss = torch.where(torch.isfinite(losses), losses, math.inf)
        self.smooth_loss = torch.full_like(self.loss, math.inf)

    def update(self, w: Tensor, loss: Tensor, plan: Plan) -> None:
        """Take the losses [N] of the latents `w` [N, L, W] into account."""
        broken = self.active & ~torch.isfinite(loss)
        self.diverged, self.active = self.diverged | broken, self.active & ~broken
        self.history.append(torch.where(self.active, loss, math.nan))
        better = self.active & (loss < self.loss)
        weight = torch.where(torch.isinf(self.loss), 1.0, plan.keep_new)[:, None, None]
        self.w_plus = torch.where(better[:, None, None], torch.lerp(self.w_plus, w, weight), self.w_plus)
        self.loss = torch.where(better, loss, self.loss)
        if plan.settled_gain is not None:
            smooth = torch.where(torch.isinf(self.smooth_loss), loss, torch.lerp(loss, self.smooth_loss, _SMOOTHING))
            slow = self.smooth_loss - smooth < plan.settled_gain
            self.settled_steps, self.smooth_loss = torch.where(slow, self.settled_steps + 1, 0.0), smooth
            self.active = self.active & (self.settled_steps < _SETTLED_STEPS)

    def losses_by_step(self) -> tuple[tuple[float, ...], ...]:
        """For each search the losses of the steps in which it was active."""
        table = torch.stack(self.history, dim=1).tolist() if self.history else [[]] * len(self.loss)
        return tuple(tuple(loss for loss in losses if not math.isnan(loss)) for losses in table)


def _frame(pictures: Tensor) -> Tensor:
    """[N, 3, S, S] uint8 of pictures in 0..1 of any size."""
    small = F.interpolate(pictures, (_FRAME_PX, _FRAME_PX), mode="bilinear", antialias=True)
    return (small.clamp(0, 1) * 255).round().byte()
