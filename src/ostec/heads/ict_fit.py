"""Fits a linear head model to points in a photo.

Gauss-Newton with priors; expressions are bounded, and contour points slide along the silhouette.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]
Index = NDArray[np.int64]

_STEPS = 8
_DEPTH_SHARE = 0.25
"""Weight of a point's depth relative to its position in the picture: the network only guesses depth."""
_NOISE_M = 0.0018
_SAMPLES = 150.0
"""Number of independent measurements that the points are worth: errors of neighbours are correlated."""
_OUTLIER_M = 0.006
_EXPRESSION_STD, _EXPRESSION_LASSO = 0.5, 1.0
_POSE = 7
"""Unknowns before the coefficients: rotation, log scale, shift in the picture, offset of the depths."""
DISTANCE_M = 1.0
"""From the camera to the head's origin. A photo does not show it; portraits are taken from about this distance."""


@dataclass(frozen=True, eq=False)
class PointModel:
    """The points of a head model that are fitted to a photo."""

    mean: Array
    """[P, 3], head frame, metres."""
    basis: Array
    """[C, P, 3]: displacement for each coefficient."""
    weight: Array
    """[P]: weight of each point."""
    identities: int
    """The first of the C coefficients, which are standard normal; the others are expressions, 0..1."""
    frozen: Index
    """Coefficients that the points do not determine; they stay 0."""
    contours: Index
    """[K]: points on the face's outline."""
    slide_mean: Array
    """[K, S, 3]: positions on the surface that such a point may slide to; the point itself comes first."""
    slide_basis: Array
    """[C, K, S, 3]."""


@dataclass(frozen=True)
class PointFit:
    """Coefficients and a pinhole camera: pixel = centre of the photo + focal_px · (x, y) / z of R X + t."""

    coefficients: Array
    """[C]."""
    focal_px: float
    R: Array
    """[3, 3] head -> camera."""
    t: Array
    """[3], metres."""


def fit_points(model: PointModel, points: Array, start: tuple[float, Array, Array]) -> PointFit:
    """The head whose points appear at `points` [P, 3]: px from the photo's centre; z on the same scale, smaller is
    nearer.

    `start` is (scale, R, shift_px) of the mean head under a scaled-orthographic camera. Minimises a robust squared
    error over the noise, plus squared identities, plus the squares and the sum of the expressions, which are sparse
    and lie in 0..1. Outliers get less weight. On the side that is turned away, a contour point is compared with the
    silhouette. Gauss-Newton with iteratively reweighted least squares; the bounds by an active set (Lawson and Hanson,
    "Solving Least Squares Problems", 1974, chapter 23).
    """
    unit, R, shift = start[0], start[1], start[2] / start[0]
    target, scale = points / unit, 1.0
    coefficients = np.zeros(len(model.basis))
    prior, lasso = _priors(model)
    axes = np.array([1.0, 1.0, _DEPTH_SHARE])
    for _ in range(_STEPS):
        mean, basis = slide_contours(model, coefficients, R)
        turned = (mean + np.tensordot(coefficients, basis, 1)) @ R.T
        residual = target - projected(scale, turned, shift)
        distance = np.linalg.norm(residual * axes, axis=1)
        weight = model.weight / (1 + (distance / _OUTLIER_M) ** 2) ** 2
        rows = np.sqrt(weight / model.weight.sum() * _SAMPLES)[:, None] * axes / _NOISE_M
        J = (_jacobian(scale, turned, shift, basis @ R.T) * rows).reshape(_POSE + len(basis), -1)
        hessian = J @ J.T
        hessian[np.diag_indices(len(hessian))] += prior
        gradient = J @ (residual * rows).ravel()
        gradient[_POSE:] -= prior[_POSE:] * coefficients + lasso
        step = bounded_minimum(hessian, gradient, *_bounds(model, coefficients))
        R = Rotation.from_rotvec(step[:3]).as_matrix() @ R
        scale *= float(np.exp(step[3]))
        shift = shift + step[4:_POSE]
        coefficients = coefficients + step[_POSE:]
    return PointFit(coefficients, unit * scale * DISTANCE_M, R, np.r_[shift[:2], DISTANCE_M])


def projected(scale: float, turned: Array, shift: Array) -> Array:
    """[P, 3]: position in the picture, and depth, of points `turned` [P, 3] in camera axes; in metres at the head's
    distance, times `scale`."""
    at = turned[:, :2] + shift[:2]
    return scale * np.c_[at * (DISTANCE_M / (DISTANCE_M + turned[:, 2:])), turned[:, 2] + shift[2]]


def slide_contours(model: PointModel, coefficients: Array, R: Array) -> tuple[Array, Array]:
    """Mean [P, 3] and basis [C, P, 3] of the points; contour points on the far side are moved to the silhouette.

    A contour point slides only away from the middle of the face, to the farthest of its positions.
    """
    if not len(model.contours):
        return model.mean, model.basis
    places = (model.slide_mean + np.tensordot(coefficients, model.slide_basis, 1)) @ R[:2].T
    outward = places[:, 0] - places[:, 0].mean(axis=0)
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    farthest = np.einsum("ksd,kd->ks", places, outward).argmax(axis=1)
    each = np.arange(len(farthest))
    mean, basis = model.mean.copy(), model.basis.copy()
    mean[model.contours] = model.slide_mean[each, farthest]
    basis[:, model.contours] = model.slide_basis[:, each, farthest]
    return mean, basis


def bounded_minimum(hessian: Array, gradient: Array, low: Array, high: Array) -> Array:
    """The x [N] with low <= x <= high that minimises x·hessian·x / 2 - gradient·x; `hessian` positive definite."""
    x = np.clip(np.zeros_like(gradient), low, high)
    held = (low == high) | ((x <= low) & (gradient <= 0)) | ((x >= high) & (gradient >= 0))
    for _ in range(4 * len(gradient)):
        free = ~held
        wanted = x.copy()
        factor = cho_factor(hessian[np.ix_(free, free)], check_finite=False)
        wanted[free] = cho_solve(factor, gradient[free] - hessian[np.ix_(free, held)] @ x[held], check_finite=False)
        beyond = free & ((wanted < low) | (wanted > high))
        x = np.clip(wanted, low, high)
        if beyond.any():
            held = held | beyond
            continue
        force = gradient - hessian @ x
        released = held & (low < high) & np.where(x <= low, force > 1e-9, force < -1e-9)
        if not released.any():
            break
        held[np.abs(np.where(released, force, 0.0)).argmax()] = False
    return x


def _priors(model: PointModel) -> tuple[Array, Array]:
    """Inverse variances [7 + C] of the unknowns, and the L1 weights [C] that keep expressions sparse."""
    prior = np.full(_POSE + len(model.basis), 1e-9)
    prior[_POSE : _POSE + model.identities] = 1.0
    prior[_POSE + model.identities :] = _EXPRESSION_STD**-2
    lasso = np.zeros(len(model.basis))
    lasso[model.identities :] = _EXPRESSION_LASSO
    return prior, lasso


def _bounds(model: PointModel, coefficients: Array) -> tuple[Array, Array]:
    """Lower and upper bounds [7 + C] of the next step of each unknown."""
    low, high = (np.full(_POSE + len(coefficients), bound) for bound in (-np.inf, np.inf))
    low[_POSE + model.identities :] = -coefficients[model.identities :]
    high[_POSE + model.identities :] = 1 - coefficients[model.identities :]
    low[_POSE + model.frozen] = high[_POSE + model.frozen] = 0.0
    return low, high


def _jacobian(scale: float, turned: Array, shift: Array, basis: Array) -> Array:
    """[7 + C, P, 3]: derivatives of `projected`; `turned` [P, 3] and `basis` [C, P, 3] in camera axes."""
    moves = np.concatenate([np.zeros((_POSE, *turned.shape)), basis])
    for axis, unit in enumerate(np.eye(3)):
        moves[axis] = np.cross(unit, turned)
        moves[4 + axis] = unit
    nearer = DISTANCE_M / (DISTANCE_M + turned[:, 2:])
    slant = (turned[:, :2] + shift[:2]) * nearer / (DISTANCE_M + turned[:, 2:])
    depth = moves[..., 2:].copy()
    depth[_POSE - 1] = 0.0
    moves[..., :2] = moves[..., :2] * nearer - depth * slant
    moves[3] = projected(1.0, turned, shift)
    return scale * moves
