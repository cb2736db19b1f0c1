"""The search for the latent whose picture agrees with what is known of a face (the paper, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.completion.projection.optimisers import OptimiserName, make_optimiser
from ostec.interfaces import Generator

Objective = Callable[[Tensor, Tensor], Tensor]
"""(pictures [N, 3, S, S] in 0..1, latents [N, L, W]) to losses [N]."""

_DECAYS = 25
_SETTLED_STEPS, _SMOOTHING = 10, 0.9
_CLOSE_GAIN = 1.0
_SMALL_PX, _LARGEST_TRIED_PX = 64, 128
_SAMPLES, _UNEXPLAINED = 4, 0.5


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
    """Share of the newer latent in the best one at each improvement."""
    settled_gain: float | None = None
    """End when the smoothed gain stays under this for 10 steps."""

    def from_close(self) -> Plan:
        """For a start that is close already: without the coarse pictures, and it ends when little is gained."""
        return replace(self, sizes_px=((_SMALL_PX, 1.0),), settled_gain=_CLOSE_GAIN)


ORIGINAL = Plan("ggt", 0.25, ((0, 1.0),), redraw_beyond=2.0, keep_new=0.75, settled_gain=0.5)
"""As the released code searches (METHOD section 1)."""
DEFAULT = Plan("ggt", 0.5, ((64, 0.3), (128, 0.3), (256, 0.4)))
"""Coarse to fine: the first steps need not know about pores, and cost a tenth."""
PLANS: Mapping[OptimiserName, Plan] = {
    "ggt": DEFAULT,
    "adam": replace(DEFAULT, optimiser="adam", learning_rate=0.1),
    "lbfgs": replace(DEFAULT, optimiser="lbfgs", learning_rate=1.0, decay=1.0),
}


@dataclass(frozen=True)
class Found:
    """The best latents of a batch."""

    w_plus: Tensor
    """[N, L, W]."""
    history: tuple[tuple[float, ...], ...]
    """N rows of losses by step, until that search ended; losses at different sizes of picture do not compare."""
    diverged: tuple[bool, ...]
    """N: a loss was not finite; what was best until then was kept."""

    def rows(self, low: int, high: int) -> Found:
        """Some of them."""
        return Found(self.w_plus[low:high], self.history[low:high], self.diverged[low:high])


def search(
    generator: Generator,
    objective: Objective,
    start: Tensor,
    plan: Plan,
    steps: int,
    seed: int,
    tell: Callable[[float], object] = lambda share: None,
) -> Found:
    """Descend from the latents `start` [N, L, W]; every row is a search of its own, though one batch does them all.

    `tell(share)` is called before each step; what it raises stops the search. The same seed gives the same bits on one
    CPU. Sizes beyond the generator's resolution mean its resolution.
    """
    draw = torch.Generator().manual_seed(seed)
    w = start.detach().clone().requires_grad_()
    pyramid, best = Pyramid.of(generator, plan, seed), _Best.before(w)
    best.at_size(pyramid.faithful(_size_at(plan, 0.0)))
    optimiser = make_optimiser(plan.optimiser, w, plan.learning_rate)
    for step in range(steps):
        tell(step / steps)
        size_px = pyramid.faithful(_size_at(plan, step / steps))
        if size_px != best.size_px:
            best.at_size(size_px)
            optimiser = make_optimiser(plan.optimiser, w, plan.learning_rate)
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * plan.decay ** int(_DECAYS * step / steps)
        before, measure = w.detach().clone(), _Measure(pyramid, objective, w, best)
        with torch.enable_grad():
            optimiser.step(measure)
        best.note(before, measure.losses[0], plan)
        if not bool(best.alive.any()):
            break
        with torch.no_grad():
            if plan.redraw_beyond is not None:
                noise = torch.randn(w.shape[1:], generator=draw).to(w)
                w.copy_(torch.where(w.abs() > plan.redraw_beyond, noise, w))
            w.copy_(torch.where(best.alive[:, None, None], w, before))
    tell(1.0)
    return Found(best.w_plus, best.rows(), tuple(best.diverged.tolist()))


@dataclass
class _Measure:
    """The loss and its gradient, as optimisers ask for them."""

    pyramid: Pyramid
    objective: Objective
    w: Tensor
    best: _Best
    losses: list[Tensor] = field(default_factory=list)
    """[N] each time it was asked; NaN where the loss or its gradient is not finite."""

    def __call__(self) -> float:
        w = self.w
        w.grad = None
        loss = self.objective(self.pyramid.picture(w, self.best.size_px), w)
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        sound = torch.isfinite(loss) & torch.isfinite(gradient).flatten(1).all(dim=1)
        w.grad = torch.where((sound & self.best.alive)[:, None, None], gradient, 0.0)
        self.losses.append(torch.where(sound, loss.detach(), math.nan))
        return float(torch.where(sound & self.best.alive, loss.detach(), 0.0).sum())


@dataclass
class _Best:
    """The best latents so far, and which rows still search."""

    w_plus: Tensor
    loss: Tensor
    smooth: Tensor
    settled: Tensor
    alive: Tensor
    diverged: Tensor
    size_px: int = -1
    history: list[Tensor] = field(default_factory=list)

    @classmethod
    def before(cls, w: Tensor) -> _Best:
        none, true = torch.full((len(w),), math.inf, device=w.device), torch.ones(len(w), device=w.device) > 0
        return cls(w.detach().clone(), none, none, torch.zeros_like(none), true, ~true)

    def at_size(self, size_px: int) -> None:
        """Begin anew at another size of picture: losses at different sizes do not compare."""
        self.size_px, self.loss = size_px, torch.full_like(self.loss, math.inf)
        self.smooth = self.loss

    def note(self, w: Tensor, loss: Tensor, plan: Plan) -> None:
        """Take in the losses [N] of the latents [N, L, W]."""
        broken = self.alive & ~torch.isfinite(loss)
        self.diverged, self.alive = self.diverged | broken, self.alive & ~broken
        self.history.append(torch.where(self.alive, loss, math.nan))
        better = self.alive & (loss < self.loss)
        share = torch.where(torch.isinf(self.loss), 1.0, plan.keep_new)[:, None, None]
        self.w_plus = torch.where(better[:, None, None], torch.lerp(self.w_plus, w, share), self.w_plus)
        self.loss = torch.where(better, loss, self.loss)
        if plan.settled_gain is not None:
            smooth = torch.where(torch.isinf(self.smooth), loss, torch.lerp(loss, self.smooth, _SMOOTHING))
            slow = self.smooth - smooth < plan.settled_gain
            self.settled, self.smooth = torch.where(slow, self.settled + 1, 0.0), smooth
            self.alive = self.alive & (self.settled < _SETTLED_STEPS)

    def rows(self) -> tuple[tuple[float, ...], ...]:
        """Losses by step for each search."""
        table = torch.stack(self.history, dim=1).tolist() if self.history else [[]] * len(self.loss)
        return tuple(tuple(x for x in row if not math.isnan(x)) for row in table)


@torch.no_grad()
def best_of_random(generator: Generator, objective: Objective, faces: int, count: int, seed: int) -> Tensor:
    """[N, L, W]: for each of the N = `faces` that `objective` judges, the best of the mean latent and `count` random
    ones, by the loss of a small picture; of a generator whose small pictures tell nothing, the mean latent."""
    mean, pyramid = generator.w_avg.repeat(faces, generator.num_ws, 1), Pyramid.of(generator, DEFAULT, seed)
    size_px = pyramid.faithful(_SMALL_PX)
    if size_px > _LARGEST_TRIED_PX:
        return mean
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed)).to(generator.w_avg)
    candidates = torch.cat([generator.w_avg[None], generator.mapping(z)])
    losses = []
    for w in candidates:
        w_plus = w.expand(1, generator.num_ws, -1)
        picture = pyramid.picture(w_plus, size_px)
        losses.append(objective(picture.expand(faces, -1, -1, -1), w_plus.expand(faces, -1, -1)))
    best = torch.stack(losses).nan_to_num(math.inf).argmin(dim=0)
    return candidates[best][:, None].repeat(1, generator.num_ws, 1)


@torch.no_grad()
def better_start(generator: Generator, objective: Objective, first: Tensor, second: Tensor, seed: int) -> Tensor:
    """[N, L, W]: row by row, of two starts the one whose small picture has the smaller loss."""
    pyramid = Pyramid.of(generator, DEFAULT, seed)
    size_px = pyramid.faithful(_SMALL_PX)
    losses = [objective(pyramid.picture(w_plus, size_px), w_plus).nan_to_num(math.inf) for w_plus in (first, second)]
    return torch.where((losses[0] <= losses[1])[:, None, None], first, second)


@dataclass(frozen=True)
class Pyramid:
    """A generator's smaller pictures, with the colours of the whole one.

    What the skip architecture adds up to at a resolution is not yet the picture: later layers add contrast. Gain and
    offset of each channel, measured on a few random faces, bring it there; a size at which that explains less than
    half of the picture is left out.
    """

    generator: Generator
    colours: Mapping[int, tuple[Tensor, Tensor]]
    """Size -> (gain, offset), each [3, 1, 1]."""

    @classmethod
    @lru_cache(maxsize=4)  # generators are hashed by identity
    @torch.no_grad()
    def of(cls, generator: Generator, plan: Plan, seed: int) -> Pyramid:
        """The sizes that a plan asks for."""
        sizes = {size for size, _ in plan.sizes_px if 0 < size < generator.resolution}
        if not sizes:
            return cls(generator, {})
        z = torch.randn(_SAMPLES, generator.z_dim, generator=torch.Generator().manual_seed(seed)).to(generator.w_avg)
        w_plus = generator.mapping(z)[:, None].expand(-1, generator.num_ws, -1)
        whole = generator.synthesis(w_plus)
        found = {}
        for size in sizes:
            small, wanted = generator.synthesis(w_plus, size), shrunk(whole, size)
            x, y = (t - t.mean(dim=(0, 2, 3), keepdim=True) for t in (small, wanted))
            gain = (x * y).sum(dim=(0, 2, 3)) / x.square().sum(dim=(0, 2, 3)).clamp(min=1e-8)
            gain = gain[:, None, None]
            if float((y - gain * x).square().sum() / y.square().sum()) < _UNEXPLAINED:
                found[size] = (
                    gain,
                    wanted.mean(dim=(0, 2, 3))[:, None, None] - gain * small.mean(dim=(0, 2, 3))[:, None, None],
                )
        return cls(generator, found)

    def whole(self, plan: Plan) -> bool:
        """Whether a plan makes pictures of the full size."""
        return any(self.faithful(size_px) == self.generator.resolution for size_px, _ in plan.sizes_px)

    def faithful(self, size_px: int) -> int:
        """The smallest size from this one on that shows what the picture will be."""
        return min((size for size in self.colours if size >= size_px > 0), default=self.generator.resolution)

    def picture(self, w_plus: Tensor, size_px: int) -> Tensor:
        """[N, 3, S, S], about 0..1, not clipped; a `faithful` size."""
        picture = self.generator.synthesis(w_plus, size_px)
        if size_px in self.colours:
            gain, offset = self.colours[size_px]
            picture = picture * gain + offset
        return picture / 2 + 0.5


def shrunk(picture: Tensor, size_px: int) -> Tensor:
    """Means over squares of [N, C, R, R] down to `size_px`, a divisor of R."""
    return picture if picture.shape[-1] == size_px else F.avg_pool2d(picture, picture.shape[-1] // size_px)


def shrunk_known(image: Tensor, trust: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """[N, C, R, R] and its trust [N, 1, R, R] at a size; a mean over trusted pixels is trusted."""
    smaller = shrunk(trust, size_px)
    return shrunk(image * trust, size_px) / smaller.clamp(min=1e-6), smaller


def _size_at(plan: Plan, share: float) -> int:
    end = 0.0
    for size_px, part in plan.sizes_px:
        end += part
        if share < end - 1e-9:
            return size_px
    return plan.sizes_px[-1][0]
