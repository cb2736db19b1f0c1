"""Gradient-domain blending: the picture whose steps between neighbours are closest to those wanted.

Conjugate gradients with one multigrid V-cycle as preconditioner (McAdams, Sifakis and Teran, "A parallel multigrid
Poisson solver for fluids simulation on large grids", 2010), with the cell-centred transfer of Kwak ("V-cycle
multigrid for cell-centered finite differences", 1999), which does not reach across missing edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.bands import Bands

TOLERANCE = 3e-4
_MAX_STEPS = 50
_DAMPING = 0.8
_COARSEST = 8
_TINY = 1e-30


def solve(
    target: Tensor,
    unknown: Tensor,
    step_x: Tensor,
    step_y: Tensor,
    edge_x: Tensor,
    edge_y: Tensor,
    pull: Tensor,
    *,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """[C, H, W]: `target` [C, H, W] where not `unknown` [H, W] bool, and elsewhere the x that minimises

        sum over edges of edge · (x_next - x_here - step)² + sum over unknowns of pull · (x - target)².

    Edges between columns have `step_x` [C, H, W-1] and `edge_x` [H, W-1], those between rows `step_y` [C, H-1, W] and
    `edge_y` [H-1, W]; an edge >= 0 of 0 is none. `pull` is [H, W] >= 0. Unknowns without edges or pull keep their
    target; so does, on the whole, the mean of a region that no known texel and no pull holds. The search stops when a
    V-cycle moves no texel by more than `tolerance`; at the default, errors stay below 0.5/255 for pictures in 0..1.
    The answer does not depend on the number of threads.
    """
    rows = unknown.any(dim=1).nonzero()[:, 0].tolist()
    if not rows:
        return target.clone()
    low, high = max(rows[0] - 1, 0), min(rows[-1] + 2, unknown.shape[0])
    solved = target.clone()
    part, free = solved[:, low:high], unknown[low:high]
    edges = _live(edge_x[low:high], free, 1), _live(edge_y[low : high - 1], free, 0)
    force = _divergence(
        edges[0] * (part.diff(dim=2) - step_x[:, low:high]), edges[1] * (part.diff(dim=1) - step_y[:, low : high - 1])
    )
    levels, margins = _pyramid(edges, pull[low:high], free)
    with Bands() as bands:
        moved = _conjugate_gradients(levels, F.pad(force * free, margins), tolerance, bands)
    height, width = free.shape
    moved = moved[:, margins[2] : margins[2] + height, margins[0] : margins[0] + width] * free
    part += _levelled(moved, edges, pull[low:high], free)
    return solved


def _levelled(moved: Tensor, edges: tuple[Tensor, Tensor], pull: Tensor, free: Tensor) -> Tensor:
    """`moved` [C, h, w] with the mean that it must have on regions without a known neighbour: 0, weighted by `pull`.

    The search is slow to find it for small regions that lie between others.
    """
    region = _regions(edges[0].contiguous().numpy(), edges[1].contiguous().numpy(), free.contiguous().numpy())
    afloat = region >= 0
    if not afloat.any():
        return moved
    index, weight = region[afloat], pull.numpy()[afloat].astype(np.float64)
    weight[np.bincount(index, weight)[index] == 0] = 1
    total = np.bincount(index, weight)
    for plane in moved.numpy():
        plane[afloat] -= (np.bincount(index, weight * plane[afloat]) / total)[index].astype(np.float32)
    return moved


@dataclass(frozen=True)
class _Level:
    """The equations diag · x - sum over neighbours of edge · x_neighbour = b at one size, with a border of zeros."""

    edge_x: np.ndarray
    """[N+2, M+2]: to the left neighbour."""
    edge_y: np.ndarray
    """[N+2, M+2]: to the neighbour above."""
    diagonal: np.ndarray
    """[N+2, M+2]; 0 where nothing is unknown: what V-cycles put there has no effect."""
    damping: np.ndarray
    """[N+2, M+2]: what Jacobi's method multiplies by."""
    share_x: np.ndarray
    share_y: np.ndarray
    """[N+2, M+2]: how much a finer texel takes from the next coarse one in x and in y; 0 where there is no edge."""
    inverse: Tensor | None
    """Of the coarsest level's matrix."""

    @property
    def size(self) -> tuple[int, int]:
        return self.diagonal.shape[0] - 2, self.diagonal.shape[1] - 2


def _live(edge: Tensor, free: Tensor, dim: int) -> Tensor:
    """The edges with an unknown end."""
    count = free.shape[dim] - 1
    return edge * (free.narrow(dim, 0, count) | free.narrow(dim, 1, count))


def _divergence(flow_x: Tensor, flow_y: Tensor) -> Tensor:
    """What flows in from right and below minus what flows in from left and above."""
    total = F.pad(flow_x, (0, 1))
    total[..., 1:] -= flow_x
    total[..., :-1, :] += flow_y
    total[..., 1:, :] -= flow_y
    return total


def _pyramid(edges: tuple[Tensor, Tensor], pull: Tensor, free: Tensor) -> tuple[list[_Level], tuple[int, ...]]:
    """Levels, finest first, and the margins (left, right, top, bottom) that the finest has around the picture.

    Known texels become weights that hold their unknown neighbours where they are. Each coarser level joins 2 x 2
    texels: weights add up; of the two edges between blocks, at twice the distance, each counts half.
    """
    height, width = free.shape
    block = 1
    while max(height, width) > _COARSEST * block:
        block *= 2
    missing = (-width % block, -height % block)
    margins = (missing[0] // 2 + 1, missing[0] - missing[0] // 2 + 1, 1, missing[1] + 1)
    right, below = F.pad(edges[0], (0, 1)), F.pad(edges[1], (0, 0, 0, 1))
    left, above = F.pad(edges[0], (1, 0)), F.pad(edges[1], (0, 0, 1, 0))
    both_x, both_y = free & F.pad(free, (1, -1)), free & F.pad(free, (0, 0, 1, -1))
    total = pull + left + right + (above + below)
    edge_x, edge_y = left * both_x, above * both_y
    inner = edge_x + F.pad(edge_x, (-1, 1)) + (edge_y + F.pad(edge_y, (0, 0, -1, 1)))
    hold, edge_x, edge_y = (F.pad(t, margins) for t in ((total - inner) * free, edge_x, edge_y))
    levels = [_level(edge_x, edge_y, hold, coarsest=block == 1)]
    while block > 1:
        block //= 2
        edge_x = F.pad(F.avg_pool2d(edge_x[None, 1:-1, 1:-1], (2, 1), (2, 2))[0], (1, 1, 1, 1))
        edge_y = F.pad(F.avg_pool2d(edge_y[None, 1:-1, 1:-1], (1, 2), (2, 2))[0], (1, 1, 1, 1))
        hold = F.pad(4 * F.avg_pool2d(hold[None, 1:-1, 1:-1], 2)[0], (1, 1, 1, 1))
        levels.append(_level(edge_x, edge_y, hold, coarsest=block == 1))
    return levels, margins


def _level(edge_x: Tensor, edge_y: Tensor, hold: Tensor, coarsest: bool) -> _Level:
    around = edge_x + F.pad(edge_x, (-1, 1)) + (edge_y + F.pad(edge_y, (0, 0, -1, 1)))
    diagonal = hold + around
    damping = (_DAMPING / diagonal.clamp(min=_TINY)).numpy()
    share_x, share_y = (0.25 * (edge_x > 0)).numpy(), (0.25 * (edge_y > 0)).numpy()
    inverse = _inverse(edge_x, edge_y, diagonal) if coarsest else None
    return _Level(edge_x.numpy(), edge_y.numpy(), diagonal.numpy(), damping, share_x, share_y, inverse)


def _inverse(edge_x: Tensor, edge_y: Tensor, diagonal: Tensor) -> Tensor:
    """[NM, NM] pseudo-inverse of the whole matrix of a small level."""
    rows, columns = (n - 2 for n in diagonal.shape)
    matrix = torch.diag(diagonal[1:-1, 1:-1].flatten().double())
    index = torch.arange(rows * columns).view(rows, columns)
    pairs = ((index[:, 1:], index[:, :-1], edge_x[1:-1, 2:-1]), (index[1:], index[:-1], edge_y[2:-1, 1:-1]))
    for here, there, edge in pairs:
        matrix[here, there] = matrix[there, here] = -edge.double()
    return torch.linalg.pinv(matrix, hermitian=True).float()


def _conjugate_gradients(levels: list[_Level], residual: Tensor, tolerance: float, bands: Bands) -> Tensor:
    """[C, N+2, M+2]: the solution x of the finest level's equations for b = `residual`, which is used up."""
    work = [_Scratch.like(residual, level) for level in levels]
    work[0].b = residual
    solution, direction = torch.zeros_like(residual), torch.zeros_like(residual)
    before = torch.zeros(len(residual), dtype=torch.float64)
    for _ in range(_MAX_STEPS):
        step, now, most = _v_cycle(levels, work, bands)
        if most <= tolerance:
            return solution.add_(step)
        _add(direction, _ratio(now, before), step, torch.ones(len(step)), bands)
        image, curvature, _ = _relax(levels[0], direction, direction, work[0].guess, bands, gain=0, plain=1)
        length = _ratio(now, -curvature)
        _add(solution, torch.ones(len(step)), direction, length, bands)
        _add(residual, torch.ones(len(step)), image, length, bands)
        before = now
    return solution


@dataclass
class _Scratch:
    """Memory of one level, [C, N+2, M+2] each, with borders that stay 0."""

    b: Tensor
    guess: Tensor
    rest: Tensor

    @classmethod
    def like(cls, picture: Tensor, level: _Level) -> _Scratch:
        return cls(*(picture.new_zeros(len(picture), *level.diagonal.shape) for _ in range(3)))


def _v_cycle(levels: list[_Level], work: list[_Scratch], bands: Bands) -> tuple[Tensor, Tensor, float]:
    """About the solution of the first level's equations, a symmetric linear map of b, in one of the scratch tensors;
    with it what `_relax` says of it."""
    level, b, guess, rest = levels[0], work[0].b, work[0].guess, work[0].rest
    if level.inverse is not None:
        inner = b[:, 1:-1, 1:-1]
        guess[:, 1:-1, 1:-1] = (inner.flatten(1) @ level.inverse).view_as(inner)
        return guess, (guess * b).sum(dim=(1, 2), dtype=torch.float64), float(guess.abs().max())
    start = b.numpy(), level.edge_x, level.edge_y, level.diagonal, level.damping, guess.numpy(), rest.numpy()
    bands(*level.size, lambda low, high: _start_rows(low, high, *start))
    coarse = levels[1]
    height, width = coarse.size
    arrays = coarse.share_x, coarse.share_y, rest.numpy(), work[1].b.numpy()
    bands(height, 4 * width, lambda low, high: _restrict(low, high, *arrays))
    arrays = coarse.share_x, coarse.share_y, _v_cycle(levels[1:], work[1:], bands)[0].numpy(), guess.numpy()
    bands(height, 4 * width, lambda low, high: _prolong(low, high, *arrays))
    return _relax(level, guess, b, rest, bands, keep=1, gain=1, scaled=_DAMPING)


def _relax(
    level: _Level,
    x: Tensor,
    b: Tensor,
    out: Tensor,
    bands: Bands,
    keep: float = 0,
    gain: float = 0,
    plain: float = 0,
    scaled: float = 0,
) -> tuple[Tensor, Tensor, float]:
    """`out` becomes keep · x + (plain + scaled / diagonal) · (gain · b - A x).

    Gives it with the sums of out · b, [C] float64, and the largest |out|.
    """
    factors = tuple(np.float32(factor) for factor in (keep, gain, plain, scaled))
    sums, most = np.zeros((len(x), level.size[0])), np.zeros((len(x), level.size[0]), np.float32)
    arrays = x.numpy(), b.numpy(), level.edge_x, level.edge_y, level.diagonal, out.numpy(), sums, most
    bands(*level.size, lambda low, high: _relax_rows(low, high, factors, *arrays))
    return out, torch.from_numpy(sums.sum(axis=1)), float(most.max())


def _add(a: Tensor, share_a: Tensor, b: Tensor, share_b: Tensor, bands: Bands) -> None:
    """`a` [C, N, M] becomes share_a · a + share_b · b, with shares [C].

    Not torch's work: its threads spin for a while when they are done, on the cores that the next band needs.
    """
    arrays = a.numpy(), share_a.numpy(), b.numpy(), share_b.numpy()
    bands(a.shape[1], a.shape[2], lambda low, high: _add_rows(low, high, *arrays))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """[C] float32 a / b; 0 where b is."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0).float()


@njit(cache=True, nogil=True)
def _add_rows(low, high, a, share_a, b, share_b):
    for i in range(low, high):
        for c in range(len(a)):
            for j in range(a.shape[2]):
                a[c, i, j] = share_a[c] * a[c, i, j] + share_b[c] * b[c, i, j]


@njit(cache=True, nogil=True)
def _start_rows(low, high, b, edge_x, edge_y, diagonal, damping, guess, rest):
    """The guess damping · b, and what it leaves of b."""
    for i in range(low + 1, high + 1):
        for c in range(len(b)):
            for j in range(1, b.shape[2] - 1):
                here = damping[i, j] * b[c, i, j]
                left, right = damping[i, j - 1] * b[c, i, j - 1], damping[i, j + 1] * b[c, i, j + 1]
                above, below = damping[i - 1, j] * b[c, i - 1, j], damping[i + 1, j] * b[c, i + 1, j]
                across = edge_x[i, j] * left + edge_x[i, j + 1] * right
                along = edge_y[i, j] * above + edge_y[i + 1, j] * below
                guess[c, i, j] = here
                rest[c, i, j] = b[c, i, j] - diagonal[i, j] * here + (across + along)


@njit(cache=True, nogil=True)
def _relax_rows(low, high, factors, x, b, edge_x, edge_y, diagonal, out, sums, most):
    keep, gain, plain, scaled = factors
    for i in range(low + 1, high + 1):
        for c in range(len(x)):
            for j in range(1, x.shape[2] - 1):
                across = edge_x[i, j] * x[c, i, j - 1] + edge_x[i, j + 1] * x[c, i, j + 1]
                along = edge_y[i, j] * x[c, i - 1, j] + edge_y[i + 1, j] * x[c, i + 1, j]
                rest = gain * b[c, i, j] - diagonal[i, j] * x[c, i, j] + (across + along)
                out[c, i, j] = keep * x[c, i, j] + (plain + scaled / max(diagonal[i, j], np.float32(_TINY))) * rest
            sums[c, i - 1], most[c, i - 1] = _row_sums(out[c, i], b[c, i])


@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _row_sums(a, b):
    """The sum of a · b and the largest |a|."""
    total, most = np.float32(0), np.float32(0)
    for j in range(len(a)):
        total += a[j] * b[j]
        most = max(most, abs(a[j]))
    return total, most


@njit(cache=True, nogil=True)
def _restrict(low, high, share_x, share_y, fine, coarse):
    """Sums over the shares with which `_prolong` gives: its transpose."""
    for i in range(low + 1, high + 1):
        for c in range(len(fine)):
            above, top, bottom, below = fine[c, 2 * i - 2], fine[c, 2 * i - 1], fine[c, 2 * i], fine[c, 2 * i + 1]
            for j in range(1, coarse.shape[2] - 1):
                k = 2 * j
                left, right = top[k - 1] + bottom[k - 1], top[k] + bottom[k]
                total = left + right
                to_left = share_x[i, j] * (left - (top[k - 2] + bottom[k - 2]))
                to_right = share_x[i, j + 1] * (right - (top[k + 1] + bottom[k + 1]))
                to_top = share_y[i, j] * (top[k - 1] + top[k] - (above[k - 1] + above[k]))
                to_bottom = share_y[i + 1, j] * (bottom[k - 1] + bottom[k] - (below[k - 1] + below[k]))
                coarse[c, i, j] = total - (to_left + to_right) - (to_top + to_bottom)


@njit(cache=True, nogil=True)
def _prolong(low, high, share_x, share_y, coarse, fine):
    """Add to each fine texel its block's value, drawn towards the nearer neighbour in x and in y."""
    for i in range(low + 1, high + 1):
        for c in range(len(fine)):
            for j in range(1, coarse.shape[2] - 1):
                here = coarse[c, i, j]
                left = share_x[i, j] * (coarse[c, i, j - 1] - here)
                right = share_x[i, j + 1] * (coarse[c, i, j + 1] - here)
                top = here + share_y[i, j] * (coarse[c, i - 1, j] - here)
                bottom = here + share_y[i + 1, j] * (coarse[c, i + 1, j] - here)
                fine[c, 2 * i - 1, 2 * j - 1] += top + left
                fine[c, 2 * i - 1, 2 * j] += top + right
                fine[c, 2 * i, 2 * j - 1] += bottom + left
                fine[c, 2 * i, 2 * j] += bottom + right


@njit(cache=True, nogil=True)
def _regions(edge_x, edge_y, free):
    """[h, w] int64: for unknowns that no path of edges joins to a known texel, a number of their region; else -1."""
    height, width = free.shape
    parent = np.arange(height * width + 1)  # of texel k at k + 1; 0 stands for all known ones
    for k in range(height * width):
        i, j = k // width, k % width
        for below in range(2):
            if (below and (i + 1 == height or edge_y[i, j] <= 0)) or (
                not below and (j + 1 == width or edge_x[i, j] <= 0)
            ):
                continue
            a = k + 1 if free[i, j] else 0
            b = k + 1 + (width if below else 1) if free[i + below, j + 1 - below] else 0
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            parent[max(a, b)] = min(a, b)
    region = np.full(free.shape, -1)
    count = 0
    for k in range(height * width):
        i, j = k // width, k % width
        root = parent[k + 1] = parent[parent[k + 1]]
        if root > 0 and free[i, j]:
            if root == k + 1:
                region[i, j] = count
                count += 1
            else:
                region[i, j] = region[(root - 1) // width, (root - 1) % width]
    return region
