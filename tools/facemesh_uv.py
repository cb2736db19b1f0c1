"""One symmetric UV chart of low distortion without flipped triangles, and how far it stretches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from facemesh_extension import laplacian
from facemesh_mean import Array, Index
from scipy import sparse
from scipy.sparse.linalg import factorized
from scipy.special import gamma

MARGIN = 0.015
BORDER_POWER, BORDER_PULL = 3.2, 100.0
"""The chart's outline is |x|^p + |y|^p = 1, nearly."""
GRID = 2.0**22
"""UVs are multiples of 1 / GRID: the mirror u -> 1 - u and two halvings are then exact in float32."""


@dataclass(frozen=True)
class Wanted:
    """How large triangles [F] should be on the chart, in units of their size on the surface."""

    along: Array
    """Along the gradient of `field`."""
    across: Array
    """Across it."""
    field: Array
    """[F, 3] at the corners; where it is constant, `along` goes along the first edge."""


def lay_out(
    shape: Array,
    triangles: Index,
    border: Index,
    mirror: Index,
    wanted: Wanted,
    steps: int = 3000,
    start: Array | None = None,
) -> Array:
    """[V, 2] UV in MARGIN..1 - MARGIN, (0, 0) top left, the subject's left on the right, exactly symmetric.

    Least symmetric Dirichlet energy (Smith and Schaefer 2015) towards the wanted triangles, with the border on a
    superellipse, from `start` [V, 2] or Tutte's embedding, by conjugate gradients smoothed by the Laplacian; steps that
    flip a triangle are cut short. `border` runs from the top over the subject's left.
    """
    chart = Chart(triangles, *_references(shape, triangles, wanted), border)
    flat = chart.start(len(shape)) if start is None else (2 * start - 1) * chart.radius / (1 - 2 * MARGIN)
    metric = factorized((chart.stiffness(len(shape)) * 4 + chart.border_stiffness(len(shape))).tocsc())
    energy, gradient = chart.energy(flat)
    direction, last, last_squared = np.zeros_like(flat), np.zeros_like(flat), 1.0
    for _ in range(steps):
        gradient = _symmetric(gradient, mirror)
        smooth = _symmetric(metric(gradient), mirror)
        slope = float((gradient * smooth).sum())
        direction = max(0.0, slope - float((last * smooth).sum())) / last_squared * direction - smooth
        if float((direction * gradient).sum()) > -0.01 * slope:
            direction = -smooth
        last, last_squared = gradient, slope
        found = _line_search(chart, flat, direction, energy, float((direction * gradient).sum()))
        if found is None or energy - found[1] < 1e-10 * energy:
            break
        flat, energy, gradient = found
    return _fitted(flat, mirror)


def _line_search(
    chart: Chart, flat: Array, direction: Array, energy: float, slope: float
) -> tuple[Array, float, Array] | None:
    """Backtracking line search: layout, energy and gradient after the first step that lowers the energy enough."""
    step = 1.0
    while step > 1e-9:
        trial = flat + step * direction
        trial_energy, gradient = chart.energy(trial)
        if trial_energy < energy + 1e-4 * step * slope:
            return trial, trial_energy, gradient
        step /= 2
    return None


def _references(shape: Array, triangles: Index, wanted: Wanted | None = None) -> tuple[Array, Array]:
    """Inverse edge matrices [F, 2, 2] and areas [F] of the wanted triangles laid flat."""
    one, two = (shape[triangles[:, k]] - shape[triangles[:, 0]] for k in (1, 2))
    length = np.linalg.norm(one, axis=1)
    along = (one * two).sum(axis=1) / length
    height = np.linalg.norm(np.cross(one, two), axis=1) / length
    edges = np.stack([np.stack([length, along], axis=1), np.stack([0 * length, height], axis=1)], axis=1)
    if wanted is not None:
        rise = wanted.field[:, 1:] - wanted.field[:, :1]
        slope = np.einsum("fk,fkd->fd", rise, np.linalg.inv(edges))
        steep = np.linalg.norm(slope, axis=1, keepdims=True)
        unit = np.where(steep > 0, slope / np.maximum(steep, 1e-30), [1.0, 0.0])
        onto = unit[:, :, None] * unit[:, None, :]
        scale = wanted.across[:, None, None] * np.eye(2) + (wanted.along - wanted.across)[:, None, None] * onto
        edges = scale @ edges
    return np.linalg.inv(edges), np.linalg.det(edges) / 2


@dataclass(frozen=True)
class Chart:
    """The energy of a layout."""

    triangles: Index
    inverse_edges: Array
    area: Array
    border: Index

    @property
    def radius(self) -> float:
        """Half the side of the square around the superellipse that holds the whole area."""
        p = BORDER_POWER
        unit_area = 4 * gamma(1 + 1 / p) ** 2 / gamma(1 + 2 / p)
        return float(np.sqrt(self.area.sum() / unit_area))

    def start(self, count: int) -> Array:
        """[V, 2] Tutte's embedding, y down: border on the superellipse, inner vertices the mean of their neighbours."""
        angle = 2 * np.pi * np.arange(len(self.border)) / len(self.border)
        circle = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
        flat = np.zeros((count, 2))
        size = (np.abs(circle) ** BORDER_POWER).sum(axis=1, keepdims=True) ** (1 / BORDER_POWER)
        flat[self.border] = self.radius * circle / size
        inner = np.setdiff1d(np.arange(count), self.border)
        L = laplacian(self.triangles, count).tocsr()[inner]
        flat[inner] = factorized(L[:, inner].tocsc())(-L[:, self.border] @ flat[self.border])
        return flat

    def stiffness(self, count: int) -> sparse.csr_matrix:
        """[V, V] of the wanted triangles."""
        gradients = np.einsum("kc,fcd->fkd", np.array([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]]), self.inverse_edges)
        local = np.einsum("f,fkd,fld->fkl", self.area, gradients, gradients)
        rows = np.repeat(self.triangles, 3, axis=1).ravel()
        columns = np.tile(self.triangles, (1, 3)).ravel()
        return sparse.csr_matrix((local.ravel(), (rows, columns)), shape=(count, count))

    def border_stiffness(self, count: int) -> sparse.csr_matrix:
        """[V, V] that stands for the border's pull."""
        diagonal = np.full(count, 1e-9)
        diagonal[self.border] = BORDER_PULL
        return sparse.csr_matrix(sparse.diags(diagonal))

    def energy(self, flat: Array) -> tuple[float, Array]:
        """Infinite where a triangle flips; and the gradient [V, 2]."""
        energy, gradient = _dirichlet_energy(flat, self.triangles, self.inverse_edges, self.area)
        rim = flat[self.border] / self.radius
        power = np.abs(rim) ** BORDER_POWER
        size = power.sum(axis=1, keepdims=True) ** (1 / BORDER_POWER)
        off = self.radius * (size - 1)
        slope = size ** (1 - BORDER_POWER) * np.sign(rim) * np.abs(rim) ** (BORDER_POWER - 1)
        gradient[self.border] += BORDER_PULL * off * slope
        return energy + BORDER_PULL / 2 * float((off**2).sum()), gradient


def _dirichlet_energy(flat: Array, triangles: Index, inverse_edges: Array, area: Array) -> tuple[float, Array]:
    """Symmetric Dirichlet energy, infinite where a triangle flips, and its gradient [V, 2]; v runs down."""
    one, two = (flat[triangles[:, k]] - flat[triangles[:, 0]] for k in (1, 2))
    J = np.stack([one, two], axis=-1) @ inverse_edges
    J[:, 1] *= -1.0
    det = np.linalg.det(J)
    if det.min() <= 0:
        return np.inf, np.zeros_like(flat)
    square = (J * J).sum(axis=(1, 2))
    energy = float((area * square * (1 + det**-2)).sum())
    cofactor = np.stack([J[:, 1, 1], -J[:, 1, 0], -J[:, 0, 1], J[:, 0, 0]], axis=1).reshape(-1, 2, 2)
    by_J = 2 * J * (1 + det**-2)[:, None, None] - (2 * square * det**-3)[:, None, None] * cofactor
    by_J *= area[:, None, None]
    by_J[:, 1] *= -1.0
    by_edges = by_J @ inverse_edges.transpose(0, 2, 1)
    gradient = np.zeros_like(flat)
    for k, share in enumerate((-by_edges.sum(axis=2), by_edges[:, :, 0], by_edges[:, :, 1])):
        np.add.at(gradient, triangles[:, k], share)
    return energy, gradient


def _symmetric(values: Array, mirror: Index) -> Array:
    """The part [V, 2] that is odd in x and even in y under the mirror."""
    return (values + values[mirror] * [-1.0, 1.0]) / 2


def _fitted(flat: Array, mirror: Index) -> Array:
    """The layout stretched over the square within the margin, on the grid, u -> 1 - u exactly."""
    low, high = flat.min(axis=0), flat.max(axis=0)
    unit = (flat - low) / (high - low) * (1 - 2 * MARGIN) + MARGIN
    unit[:, 0] = (unit[:, 0] + 1 - unit[mirror, 0]) / 2
    unit[:, 1] = (unit[:, 1] + unit[mirror, 1]) / 2
    right = unit[:, 0] > unit[mirror, 0]
    grid = np.round(unit * GRID) / GRID
    grid[:, 0] = np.where(right, grid[:, 0], 1 - grid[mirror, 0])
    grid[mirror == np.arange(len(mirror)), 0] = 0.5
    return grid


def stretch(shape: Array, triangles: Index, uv: Array) -> dict[str, Array]:
    """Per triangle: greatest and least singular value of UV -> surface, scaled so that the total area is kept.

    `l2` is their root mean square (Sander et al. 2001), `angle` their ratio (1 = conformal), `area` their product.
    """
    inverse_edges, area = _references(shape, triangles)
    one, two = (uv[triangles[:, k]] - uv[triangles[:, 0]] for k in (1, 2))
    edges = np.stack([one, two], axis=-1)
    edges *= np.sqrt(area.sum() / np.abs(np.linalg.det(edges) / 2).sum())
    values = 1 / np.linalg.svd(edges @ inverse_edges, compute_uv=False)[:, ::-1]
    most, least = values.T
    return {
        "most": most,
        "least": least,
        "angle": most / least,
        "area": most * least,
        "l2": np.sqrt((most**2 + least**2) / 2),
        "weight": area / area.sum(),
    }
