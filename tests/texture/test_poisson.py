"""The fast solver agrees with a direct one, whatever the region's shape; and what must hold of any solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import spsolve
from torch import Tensor

from ostec.texture import poisson

ERROR = 0.5 / 255


def solve(target, unknown, step_x, step_y, edge_x, edge_y, pull) -> Tensor:
    return poisson.solve(target, unknown, (step_x, step_y), (edge_x, edge_y), pull)


def solve_directly(target, unknown, step_x, step_y, edge_x, edge_y, pull) -> Tensor:
    """The slow twin: normal equations of the sum in `solve`'s docstring, by a sparse direct solver in float64."""
    index = torch.arange(unknown.numel()).view(unknown.shape)
    here = torch.cat([index[:, :-1].flatten(), index[:-1].flatten()]).numpy()
    there = torch.cat([index[:, 1:].flatten(), index[1:].flatten()]).numpy()
    weight = torch.cat([edge_x.flatten(), edge_y.flatten()]).double().numpy()
    free = unknown.flatten().numpy()
    weight = weight * (free[here] | free[there])
    rows = np.arange(len(here)).repeat(2)
    columns = np.stack([here, there], axis=1).ravel()
    difference = coo_matrix((np.tile([-1.0, 1.0], len(here)), (rows, columns)), (len(here), len(free))).tocsr()
    held = pull.flatten().double().numpy() * free
    matrix = difference.T @ diags(weight) @ difference + diags(held)
    solved = target.flatten(1).double().numpy().T.copy()
    steps = torch.cat([step_x.flatten(1), step_y.flatten(1)], dim=1).double().numpy().T
    right = difference.T @ (weight[:, None] * steps) + held[:, None] * solved
    right -= matrix[:, ~free] @ solved[~free]
    moving = free & (matrix.diagonal() > 0)
    solved[moving] = spsolve(matrix[moving][:, moving].tocsc(), right[moving]).reshape(-1, len(target))
    return torch.from_numpy(solved.T.copy()).view(target.shape).float()


def problem(size: tuple[int, int], seed: int) -> list[Tensor]:
    """Two smooth pictures in disagreement; everything free, all edges equal, a slight pull."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.rand(2, 3, 5, 5, generator=generator)
    target, wanted = torch.nn.functional.interpolate(rough, size, mode="bicubic").clamp(0, 1)
    height, width = size
    unknown = torch.ones(size, dtype=torch.bool)
    edges = torch.ones(height, width - 1), torch.ones(height - 1, width)
    return [target, unknown, wanted.diff(dim=2), wanted.diff(dim=1), *edges, torch.full(size, 1e-3)]


def disc(size: tuple[int, int], radius: float) -> Tensor:
    y, x = torch.meshgrid(*((torch.arange(n) + 0.5) / n - 0.5 for n in size), indexing="ij")
    return (x * x + y * y).sqrt() < radius


def shaped(name: str, size: tuple[int, int] = (96, 130)) -> list[Tensor]:
    """Problems that are awkward for a multigrid solver."""
    target, unknown, step_x, step_y, edge_x, edge_y, pull = problem(size, seed=len(name))
    generator = torch.Generator().manual_seed(3)
    if name == "huge hole":
        unknown, pull = disc(size, 0.49), torch.zeros(size)
    elif name == "lone known texels":
        unknown = torch.rand(size, generator=generator) > 0.002
        pull = torch.zeros(size)
    elif name == "salt and pepper":
        unknown = torch.rand(size, generator=generator) > 0.4
        pull = torch.zeros(size)
    elif name == "thin lines":
        unknown = torch.zeros(size, dtype=torch.bool)
        unknown[::5], unknown[:, ::7] = True, True
        unknown[0, 0] = False
        pull = torch.zeros(size)
    elif name == "islands in a chart":
        chart = disc(size, 0.2) | disc(size, 0.45) & ~disc(size, 0.3)
        edge_x, edge_y = edge_x * (chart[:, 1:] & chart[:, :-1]), edge_y * (chart[1:] & chart[:-1])
        unknown = chart
    elif name == "slits":
        edge_x[8:88, 20::24] = 0
        edge_y[40, 3:100] = 0
        unknown[:, 0] = False
    elif name == "uneven weights and pulls":
        edge_x, edge_y = (torch.rand(e.shape, generator=generator) * 3 for e in (edge_x, edge_y))
        pull = torch.rand(size, generator=generator) ** 8
    return [target, unknown, step_x, step_y, edge_x, edge_y, pull]


SHAPES = [
    "plain",
    "huge hole",
    "lone known texels",
    "salt and pepper",
    "thin lines",
    "islands in a chart",
    "slits",
    "uneven weights and pulls",
]


@pytest.mark.parametrize("name", SHAPES)
def test_agrees_with_a_direct_solver(name: str) -> None:
    given_ = shaped(name)
    exact, fast = solve_directly(*given_), solve(*given_)
    assert (fast - exact).abs().max() < ERROR
    assert torch.equal(fast[:, ~given_[1]], given_[0][:, ~given_[1]])


@given(st.integers(1, 40), st.integers(2, 40), st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_agrees_with_a_direct_solver_on_random_problems(height: int, width: int, seed: int) -> None:
    target, _, step_x, step_y, edge_x, edge_y, pull = problem((height, width), seed)
    generator = torch.Generator().manual_seed(seed)
    unknown = torch.rand((height, width), generator=generator) > 0.3
    edge_x, edge_y = (torch.rand(e.shape, generator=generator) for e in (edge_x, edge_y))
    edge_x, edge_y = ((e > 0.2) * (e + 0.3) for e in (edge_x, edge_y))
    pull = pull * (torch.rand((height, width), generator=generator) + 0.1)
    given_ = target, unknown, step_x, step_y, edge_x, edge_y, pull
    assert (solve(*given_) - solve_directly(*given_)).abs().max() < ERROR


@pytest.mark.parametrize("name", SHAPES)
def test_the_residual_is_small(name: str) -> None:
    target, unknown, step_x, step_y, edge_x, edge_y, pull = shaped(name)

    def residual(x: Tensor) -> Tensor:
        live_x = edge_x * (unknown[:, 1:] | unknown[:, :-1])
        live_y = edge_y * (unknown[1:] | unknown[:-1])
        flow_x, flow_y = live_x * (x.diff(dim=2) - step_x), live_y * (x.diff(dim=1) - step_y)
        total = pull * (target - x)
        total[..., :-1] += flow_x
        total[..., 1:] -= flow_x
        total[:, :-1] += flow_y
        total[:, 1:] -= flow_y
        return total * unknown

    solved = solve(target, unknown, step_x, step_y, edge_x, edge_y, pull)
    assert residual(solved).norm() < 1e-3 * residual(target).norm()


def test_steps_of_the_target_itself_change_nothing() -> None:
    target, unknown, _, _, edge_x, edge_y, pull = shaped("huge hole")
    solved = solve(target, unknown, target.diff(dim=2), target.diff(dim=1), edge_x, edge_y, pull)
    assert (solved - target).abs().max() < 1e-5


def test_two_known_ends_are_joined_by_a_straight_line() -> None:
    target = torch.zeros(1, 1, 65)
    target[..., -1] = 1
    unknown = torch.ones(1, 65, dtype=torch.bool)
    unknown[0, 0] = unknown[0, -1] = False
    empty = torch.zeros(1, 0, 65)
    solved = solve(target, unknown, torch.zeros(1, 1, 64), empty, torch.ones(1, 64), empty[0], torch.zeros(1, 65))
    assert (solved - torch.linspace(0, 1, 65)).abs().max() < ERROR


def test_unknowns_connected_to_nothing_keep_their_target() -> None:
    target, unknown, step_x, step_y, edge_x, edge_y, _ = problem((20, 30), 1)
    nothing = torch.zeros(20, 30)
    assert torch.equal(solve(target, unknown, step_x, step_y, 0 * edge_x, 0 * edge_y, nothing), target)
    assert torch.equal(solve(target, ~unknown, step_x, step_y, edge_x, edge_y, nothing), target)


def test_a_region_that_nothing_holds_gets_its_steps_and_keeps_its_mean() -> None:
    target, unknown, step_x, step_y, edge_x, edge_y, pull = problem((48, 64), 2)
    solved = solve(target, unknown, step_x, step_y, edge_x, edge_y, 0 * pull)
    assert (solved.diff(dim=2) - step_x).abs().max() < 2 * ERROR
    assert (solved.mean(dim=(1, 2)) - target.mean(dim=(1, 2))).abs().max() < 1e-3


@pytest.mark.parametrize("width", [128, 130, 200])
def test_mirroring_the_problem_mirrors_the_solution(width: int) -> None:
    target, unknown, step_x, step_y, edge_x, edge_y, pull = shaped("uneven weights and pulls", (96, width))
    unknown = disc((96, width), 0.4)
    solved = solve(target, unknown, step_x, step_y, edge_x, edge_y, pull)
    flipped = solve(
        target.flip(2), unknown.flip(1), -step_x.flip(2), step_y.flip(2), edge_x.flip(1), edge_y.flip(1), pull.flip(1)
    )
    assert (flipped.flip(2) - solved).abs().max() < 1e-5


def test_the_number_of_threads_does_not_matter() -> None:
    given_ = shaped("huge hole", (200, 256))
    before = torch.get_num_threads()
    answers = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        answers.append(solve(*given_))
    torch.set_num_threads(before)
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])


def test_the_input_is_left_alone() -> None:
    given_ = shaped("islands in a chart")
    copies = [tensor.clone() for tensor in given_]
    solve(*given_)
    assert all(torch.equal(a, b) for a, b in zip(given_, copies, strict=True))
