"""One symmetric UV chart of low distortion without flipped triangles, and how far it stretches."""

from __future__ import annotations

import numpy as np
from facemesh_extension import laplacian
from facemesh_mean import Array, Index
from scipy import sparse
from scipy.sparse.linalg import factorized

MARGIN = 0.015
GRID = 2.0**22
"""UVs are multiples of 1 / GRID: the mirror u -> 1 - u and two halvings are then exact in float32."""


def lay_out(shape: Array, triangles: Index, border: Index, mirror: Index, scale: Array, steps: int = 1500) -> Array:
    """[V, 2] UV in MARGIN..1 - MARGIN, (0, 0) top left, the subject's left on the right, exactly symmetric.

    Least symmetric Dirichlet energy (Smith and Schaefer 2015) towards the triangles' own shapes times `scale` [F],
    from Tutte's embedding on a circle, along gradients smoothed by the Laplacian; steps that flip are cut short.
    `border` runs from the top over the subject's left.
    """
    inverse_edges, area = _references(shape, triangles, scale)
    flat = _tutte(triangles, border, len(shape)) * np.sqrt(area.sum() / np.pi)
    metric = factorized((_dirichlet(inverse_edges, area, triangles, len(shape)) * 4 + 1e-8 * sparse.eye(len(shape))).tocsc())
    energy, gradient = _energy(flat, triangles, inverse_edges, area)
    direction, last = np.zeros_like(flat), (gradient, 1.0)
    for _ in range(steps):
        gradient = _symmetric(gradient, mirror)
        smooth = _symmetric(metric(gradient), mirror)
        slope = float((gradient * smooth).sum())
        keep = max(0.0, slope - float((last[0] * smooth).sum())) / last[1]
        direction = -smooth + keep * direction
        if (direction * gradient).sum() > -0.01 * slope:
            direction = -smooth
        last = gradient, slope
        step, found = 1.0, False
        while step > 1e-9:
            trial = flat + step * direction
            trial_energy, trial_gradient = _energy(trial, triangles, inverse_edges, area)
            if trial_energy < energy + 1e-4 * step * (direction * gradient).sum():
                found = True
                break
            step /= 2
        if not found or energy - trial_energy < 1e-9 * energy:
            break
        flat, energy, gradient = trial, trial_energy, trial_gradient
    return _fitted(flat, mirror)


def _references(shape: Array, triangles: Index, scale: Array) -> tuple[Array, Array]:
    """Inverse edge matrices [F, 2, 2] and areas [F] of the scaled triangles laid flat."""
    one, two = (shape[triangles[:, k]] - shape[triangles[:, 0]] for k in (1, 2))
    length = np.linalg.norm(one, axis=1)
    along = (one * two).sum(axis=1) / length
    height = np.linalg.norm(np.cross(one, two), axis=1) / length
    edges = np.stack([np.stack([length, along], axis=1), np.stack([0 * length, height], axis=1)], axis=1)
    edges *= scale[:, None, None]
    return np.linalg.inv(edges), np.linalg.det(edges) / 2


def _tutte(triangles: Index, border: Index, count: int) -> Array:
    """[V, 2] embedding on the unit disc, y down: every inner vertex the mean of its neighbours."""
    angle = 2 * np.pi * np.arange(len(border)) / len(border)
    flat = np.zeros((count, 2))
    flat[border] = np.stack([np.sin(angle), -np.cos(angle)], axis=1)
    inner = np.setdiff1d(np.arange(count), border)
    L = laplacian(triangles, count).tocsr()[inner]
    flat[inner] = factorized(L[:, inner].tocsc())(-L[:, border] @ flat[border])
    return flat


def _dirichlet(inverse_edges: Array, area: Array, triangles: Index, count: int) -> sparse.csr_matrix:
    """[V, V] stiffness matrix of the reference triangles."""
    gradients = np.einsum("kc,fcd->fkd", np.array([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]]), inverse_edges)
    local = np.einsum("f,fkd,fld->fkl", area, gradients, gradients)
    rows = np.repeat(triangles, 3, axis=1).ravel()
    columns = np.tile(triangles, (1, 3)).ravel()
    return sparse.csr_matrix((local.ravel(), (rows, columns)), shape=(count, count))


def _energy(flat: Array, triangles: Index, inverse_edges: Array, area: Array) -> tuple[float, Array]:
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
    inverse_edges, area = _references(shape, triangles, np.ones(len(triangles)))
    one, two = (uv[triangles[:, k]] - uv[triangles[:, 0]] for k in (1, 2))
    edges = np.stack([one, two], axis=-1)
    edges *= np.sqrt(area.sum() / np.abs(np.linalg.det(edges) / 2).sum())
    values = 1 / np.linalg.svd(edges @ inverse_edges, compute_uv=False)[:, ::-1]
    most, least = values.T
    return {"most": most, "least": least, "angle": most / least, "area": most * least,
            "l2": np.sqrt((most**2 + least**2) / 2), "weight": area / area.sum()}
