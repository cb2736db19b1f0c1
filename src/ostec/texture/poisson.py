"""Gradient-domain blending: the picture whose steps between neighbours are closest to given ones.

Conjugate gradients with one multigrid V-cycle as preconditioner (McAdams, Sifakis and Teran, "A parallel multigrid
Poisson solver for fluids simulation on large grids", 2010), with the cell-centred transfer of Kwak ("V-cycle
multigrid for cell-centered finite differences", 1999), which does not reach across missing edges. General algebraic
multigrid solvers take several times as long, as they have to find out that the unknowns lie on a grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.bands import Bands
from ostec.geometry.compiled import compiled

TOLERANCE = 3e-4
_MAX_STEPS = 50
_DAMPING = 0.8
_COARSEST = 8
_TINY = 1e-30


def solve(
    target: Tensor,
    unknown: Tensor,
    steps: tuple[Tensor, Tensor],
    edges: tuple[Tensor, Tensor],
    pull: Tensor,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """[C, H, W]: `target` [C, H, W] where not `unknown` [H, W] bool, and elsewhere the x that minimises

        sum over edges of edge · (x_next - x_here - step)² + sum over unknowns of pull · (x - target)².

    `steps` between columns are [C, H, W-1], between rows [C, H-1, W]; likewise `edges` [H, W-1] and [H-1, W], >= 0,
    where 0 means no edge. `pull` is [H, W] >= 0. Unknowns without edges or pull keep their target; a region that is
    held by no known texel and no pull keeps the mean of its target. Iteration stops when a V-cycle moves no texel by
    more than `tolerance`; at the default, errors stay below 0.5/255 for pictures in 0..1. The result does not depend
    on the number of threads.
    """
    rows = unknown.any(dim=1).nonzero()[:, 0].tolist()
    if not rows:
        return target.clone()
    low, high = max(rows[0] - 1, 0), min(rows[-1] + 2, unknown.shape[0])
    solved = target.clone()
    part, free, pull = solved[:, low:high], unknown[low:high], pull[low:high]
    edge_x, edge_y = _active(edges[0][low:high], free, 1), _active(edges[1][low : high - 1], free, 0)
    force = _divergence(
        edge_x * (part.diff(dim=2) - steps[0][:, low:high]), edge_y * (part.diff(dim=1) - steps[1][:, low : high - 1])
    )
    levels, margins = _pyramid(edge_x, edge_y, pull, free)
    with Bands() as bands:
        moved = _Solver(levels, bands, F.pad(force * free, margins)).run(tolerance)
    height, width = free.shape
    moved = moved[:, margins[2] : margins[2] + height, margins[0] : margins[0] + width] * free
    part += _with_exact_means(moved, (edge_x, edge_y), pull, free)
    return solved


def _with_exact_means(moved: Tensor, edges: tuple[Tensor, Tensor], pull: Tensor, free: Tensor) -> Tensor:
    """`moved` [C, h, w] with the mean that it must have on regions without a known neighbour: 0, weighted by `pull`.

    Conjugate gradients are slow to find it for small regions that lie between others.
    """
    region = _floating_regions(edges[0].numpy(), edges[1].numpy(), free.numpy())
    floating = region > 0
    if not floating.any():
        return moved
    _, index = np.unique(region[floating], return_inverse=True)
    weight = pull.numpy()[floating].astype(np.float64)
    weight[np.bincount(index, weight)[index] == 0] = 1
    total = np.bincount(index, weight)
    for plane in moved.numpy():
        plane[floating] -= (np.bincount(index, weight * plane[floating]) / total)[index].astype(np.float32)
    return moved


def _floating_regions(edge_x: np.ndarray, edge_y: np.ndarray, free: np.ndarray) -> np.ndarray:
    """[h, w] int: for unknowns that no path of edges joins to a known texel, the number of their region; else 0."""
    height, width = free.shape
    graph = np.zeros((2 * height - 1, 2 * width - 1), dtype=bool)  # texels, and between them their edges
    graph[::2, ::2], graph[::2, 1::2], graph[1::2, ::2] = True, edge_x > 0, edge_y > 0
    labels = np.empty(graph.shape, dtype=np.int32)
    held = np.zeros(int(ndimage.label(graph, output=labels)) + 1, dtype=bool)  # pyright: ignore[reportArgumentType]
    region = labels[::2, ::2]
    held[region[~free]] = True
    return np.where(held[region], 0, region)


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
    """[N+2, M+2]: factor of the damped Jacobi method."""
    share_x: np.ndarray
    share_y: np.ndarray
    """[N+2, M+2]: how much a finer texel takes from the next coarse one in x and in y; 0 where there is no edge."""
    inverse: Tensor | None
    """Of the coarsest level's matrix."""

    @property
    def size(self) -> tuple[int, int]:
        return self.diagonal.shape[0] - 2, self.diagonal.shape[1] - 2

    @property
    def equations(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.edge_x, self.edge_y, self.diagonal


def _active(edge: Tensor, free: Tensor, dim: int) -> Tensor:
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


def _pyramid(edge_x: Tensor, edge_y: Tensor, pull: Tensor, free: Tensor) -> tuple[list[_Level], tuple[int, ...]]:
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
    left, above = F.pad(edge_x, (1, 0)), F.pad(edge_y, (0, 0, 1, 0))
    total = pull + left + F.pad(edge_x, (0, 1)) + (above + F.pad(edge_y, (0, 0, 0, 1)))
    edge_x, edge_y = left * (free & F.pad(free, (1, -1))), above * (free & F.pad(free, (0, 0, 1, -1)))
    hold = (total - _sum_of_edges(edge_x, edge_y)) * free
    hold, edge_x, edge_y = (F.pad(plane, margins) for plane in (hold, edge_x, edge_y))
    levels = [_level(edge_x, edge_y, hold, coarsest=block == 1)]
    while block > 1:
        block //= 2
        edge_x = F.pad(F.avg_pool2d(edge_x[None, 1:-1, 1:-1], (2, 1), (2, 2))[0], (1, 1, 1, 1))
        edge_y = F.pad(F.avg_pool2d(edge_y[None, 1:-1, 1:-1], (1, 2), (2, 2))[0], (1, 1, 1, 1))
        hold = F.pad(4 * F.avg_pool2d(hold[None, 1:-1, 1:-1], 2)[0], (1, 1, 1, 1))
        levels.append(_level(edge_x, edge_y, hold, coarsest=block == 1))
    return levels, margins


def _sum_of_edges(edge_x: Tensor, edge_y: Tensor) -> Tensor:
    """[N, M]: of each texel's four edges, given those to the left and above."""
    return edge_x + F.pad(edge_x, (-1, 1)) + (edge_y + F.pad(edge_y, (0, 0, -1, 1)))


def _level(edge_x: Tensor, edge_y: Tensor, hold: Tensor, coarsest: bool) -> _Level:
    diagonal = hold + _sum_of_edges(edge_x, edge_y)
    damping = (_DAMPING / diagonal.clamp(min=_TINY)).numpy()
    share_x, share_y = (0.25 * (edge_x > 0)).numpy(), (0.25 * (edge_y > 0)).numpy()
    inverse = _inverse(edge_x, edge_y, diagonal) if coarsest else None
    return _Level(edge_x.numpy(), edge_y.numpy(), diagonal.numpy(), damping, share_x, share_y, inverse)


def _inverse(edge_x: Tensor, edge_y: Tensor, diagonal: Tensor) -> Tensor:
    """[NM, NM] pseudo-inverse of the full matrix of a small level."""
    rows, columns = (n - 2 for n in diagonal.shape)
    matrix = torch.diag(diagonal[1:-1, 1:-1].flatten().double())
    index = torch.arange(rows * columns).view(rows, columns)
    pairs = ((index[:, 1:], index[:, :-1], edge_x[1:-1, 2:-1]), (index[1:], index[:-1], edge_y[2:-1, 1:-1]))
    for here, there, edge in pairs:
        matrix[here, there] = matrix[there, here] = -edge.double()
    return torch.linalg.pinv(matrix, hermitian=True).float()


class _Solver:
    """Conjugate gradients on the finest level. Arrays are [C, N+2, M+2], with borders that stay 0."""

    def __init__(self, levels: list[_Level], bands: Bands, residual: Tensor) -> None:
        """`residual`: the right-hand side of the finest level; it is overwritten."""
        self._levels, self._bands = levels, bands
        sizes = [(len(residual), *level.diagonal.shape) for level in levels]
        self._b = [residual, *(residual.new_zeros(size) for size in sizes[1:])]
        self._guess, self._rest = ([residual.new_zeros(size) for size in sizes] for _ in range(2))

    def run(self, tolerance: float) -> Tensor:
        """The solution."""
        residual = self._b[0]
        solution, direction, one = torch.zeros_like(residual), torch.zeros_like(residual), torch.ones(len(residual))
        before = torch.zeros(len(residual), dtype=torch.float64)
        for _ in range(_MAX_STEPS):
            step, now, largest = self._v_cycle(0)
            if largest <= tolerance:
                return solution.add_(step)
            self._add(direction, _ratio(now, before), step, one)
            image, curvature, _ = self._relax(0, direction, direction, self._guess[0], (0, 0, 1, 0))
            length = _ratio(now, -curvature)
            self._add(solution, one, direction, length)
            self._add(residual, one, image, length)
            before = now
        return solution

    def _v_cycle(self, n: int) -> tuple[Tensor, Tensor, float]:
        """Approximate solution of the equations of level n, a symmetric linear map of their right-hand side, in one of
        the work arrays; with the sums and the maximum of `_relax`."""
        level, b, guess, rest = self._levels[n], self._b[n], self._guess[n], self._rest[n]
        if level.inverse is not None:
            inner = b[:, 1:-1, 1:-1]
            guess[:, 1:-1, 1:-1] = (inner.flatten(1) @ level.inverse).view_as(inner)
            return guess, (guess * b).sum(dim=(1, 2), dtype=torch.float64), float(guess.abs().max())
        start = b.numpy(), level.equations, level.damping, guess.numpy(), rest.numpy()
        self._bands(*level.size, lambda low, high: _start_rows(low, high, *start))
        coarse, (height, width) = self._levels[n + 1], self._levels[n + 1].size
        down = coarse.share_x, coarse.share_y, rest.numpy(), self._b[n + 1].numpy()
        self._bands(height, 4 * width, lambda low, high: _restrict(low, high, *down))
        up = coarse.share_x, coarse.share_y, self._v_cycle(n + 1)[0].numpy(), guess.numpy()
        self._bands(height, 4 * width, lambda low, high: _prolong(low, high, *up))
        return self._relax(n, guess, b, rest, (1, 1, 0, _DAMPING))

    def _relax(
        self, n: int, x: Tensor, b: Tensor, out: Tensor, factors: tuple[float, float, float, float]
    ) -> tuple[Tensor, Tensor, float]:
        """With `factors` (keep, gain, plain, scaled), `out` becomes

            keep · x + (plain + scaled / diagonal) · (gain · b - A x).

        Gives it with the sums of out · b, [C] float64, and the largest |out|.
        """
        level = self._levels[n]
        sums, largest = np.zeros((len(x), level.size[0])), np.zeros((len(x), level.size[0]), np.float32)
        arrays = x.numpy(), b.numpy(), level.equations, (out.numpy(), sums, largest)
        rounded = tuple(np.float32(factor) for factor in factors)
        self._bands(*level.size, lambda low, high: _relax_rows(low, high, rounded, *arrays))
        return out, torch.from_numpy(sums.sum(axis=1)), float(largest.max())

    def _add(self, a: Tensor, share_a: Tensor, b: Tensor, share_b: Tensor) -> None:
        """`a` becomes share_a · a + share_b · b, with shares [C].

        Not by torch: its threads spin for a while after their work, on the cores that the next band needs.
        """
        arrays = a.numpy(), share_a.numpy(), b.numpy(), share_b.numpy()
        self._bands(a.shape[1], a.shape[2], lambda low, high: _add_rows(low, high, *arrays))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """[C] float32 a / b; 0 where b is."""
    return torch.where(b != 0, a / torch.where(b != 0, b, 1.0), 0.0).float()


@compiled()
def _add_rows(low, high, a, share_a, b, share_b):
    for i in range(low, high):
        for c in range(len(a)):
            for j in range(a.shape[2]):
                a[c, i, j] = share_a[c] * a[c, i, j] + share_b[c] * b[c, i, j]


@compiled()
def _start_rows(low, high, b, equations, damping, guess, rest):
    """The guess damping · b, and what it leaves of b."""
    edge_x, edge_y, diagonal = equations
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


@compiled()
def _relax_rows(low, high, factors, x, b, equations, answer):
    keep, gain, plain, scaled = factors
    edge_x, edge_y, diagonal = equations
    out, sums, largest = answer
    for i in range(low + 1, high + 1):
        for c in range(len(x)):
            for j in range(1, x.shape[2] - 1):
                across = edge_x[i, j] * x[c, i, j - 1] + edge_x[i, j + 1] * x[c, i, j + 1]
                along = edge_y[i, j] * x[c, i - 1, j] + edge_y[i + 1, j] * x[c, i + 1, j]
                rest = gain * b[c, i, j] - diagonal[i, j] * x[c, i, j] + (across + along)
                out[c, i, j] = keep * x[c, i, j] + (plain + scaled / max(diagonal[i, j], np.float32(_TINY))) * rest
            sums[c, i - 1], largest[c, i - 1] = _row_sums(out[c, i], b[c, i])


@compiled(fastmath={"reassoc"})
def _row_sums(a, b):
    """The sum of a · b and the largest |a|."""
    total, largest = np.float32(0), np.float32(0)
    for j in range(len(a)):
        total += a[j] * b[j]
        largest = max(largest, abs(a[j]))
    return total, largest


@compiled()
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


@compiled()
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
