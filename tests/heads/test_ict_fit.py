"""The solver on a small synthetic head of the same structure: known answers, bounds, slopes, silhouettes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.spatial.transform import Rotation

from ostec.geometry.camera import rotation
from ostec.heads import ict_fit
from ostec.heads.facemesh import load_facemesh_model
from ostec.heads.ict_fit import Array, PointFit, PointModel, bounded_minimum, fit_points, projected, slide_contours

IDENTITIES, EXPRESSIONS = 6, 5
FROZEN = IDENTITIES + 4


def points_of(model: PointModel, coefficients: Array) -> Array:
    """[P, 3] in the head frame."""
    return model.mean + np.tensordot(coefficients, model.basis, 1)


def pixels(fit: PointFit, points: Array) -> Array:
    """[N, 2] from the photo's centre, of points [N, 3] in the head frame."""
    at = points @ fit.R.T + fit.t
    return fit.focal_px * at[:, :2] / at[:, 2:]


def head_model(contours: int = 0, places: int = 1) -> PointModel:
    """FaceMesh's mean shape with smooth random identities and expressions of some millimetres."""
    rng = np.random.default_rng(5)
    mean = load_facemesh_model().face_mean.double().numpy()
    waves = np.sin(40 * mean @ rng.normal(size=(3, 8)) + rng.uniform(0, 6, 8))
    basis = np.einsum("pw,cwd->cpd", waves, rng.normal(size=(IDENTITIES + EXPRESSIONS, 8, 3))) * 0.002
    outline = np.arange(contours)
    steps = np.linspace(0, 1, places)[None, :, None]
    return PointModel(
        mean=mean,
        basis=basis,
        weight=np.ones(len(mean)),
        identities=IDENTITIES,
        frozen=np.array([FROZEN]),
        contours=outline,
        slide_mean=mean[outline][:, None] * (1 + steps * [0.2, 0.0, 0.0]),
        slide_basis=np.repeat(basis[:, outline][:, :, None], places, axis=2),
    )


def seen(model: PointModel, coefficients: Array, R: Array, focal_px: float, shift_m: tuple[float, float]) -> Array:
    """[P, 3] px from the photo's centre, z on the same scale."""
    scale = focal_px / ict_fit.DISTANCE_M
    return scale * projected(1.0, points_of(model, coefficients) @ R.T, np.array([*shift_m, 0.02]))


def known(seed: int) -> Array:
    rng = np.random.default_rng(seed)
    coefficients = np.r_[rng.normal(size=IDENTITIES), rng.uniform(0.2, 0.8, EXPRESSIONS)]
    coefficients[FROZEN] = 0.0
    return coefficients


def fitted(model: PointModel, points: Array, R: Array) -> ict_fit.PointFit:
    tilted = rotation(6, -8, 4).double().numpy() @ np.diag([1.0, -1, -1]) @ R
    return fit_points(model, points, (900.0, tilted, np.array([40.0, -20.0, 0.0])))


@pytest.mark.parametrize(("seed", "yaw"), [(0, 0.0), (1, 28.0), (2, -41.0)])
def test_a_known_head_is_found_again(seed: int, yaw: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ict_fit, "_NOISE_M", 1e-5)  # exact points deserve to be believed
    model, coefficients = head_model(), known(seed)
    R = rotation(-9, yaw, 13).double().numpy()
    fit = fitted(model, seen(model, coefficients, R, 1100.0, (0.03, -0.01)), R)
    assert fit.coefficients == pytest.approx(coefficients, abs=0.02)
    assert pytest.approx(R, abs=2e-3) == fit.R
    assert fit.focal_px == pytest.approx(1100.0, rel=5e-3)
    assert fit.t == pytest.approx([0.03, -0.01, ict_fit.DISTANCE_M], abs=1e-3)


def test_pixels_are_those_of_the_points_fitted() -> None:
    model, R = head_model(), rotation(5, 20, 0).double().numpy()
    points = seen(model, known(3), R, 800.0, (-0.02, 0.05))
    fit = fitted(model, points, R)
    assert np.abs(pixels(fit, points_of(model, fit.coefficients)) - points[:, :2]).max() < 0.5


def test_expressions_stay_between_nothing_and_all_and_few_without_cause() -> None:
    model, R = head_model(), rotation(0, 10, 0).double().numpy()
    impossible = known(4)
    impossible[IDENTITIES : IDENTITIES + 2] = -0.6, 1.7
    fit = fitted(model, seen(model, impossible, R, 1000.0, (0, 0)), R)
    expressions = fit.coefficients[IDENTITIES:]
    assert (expressions >= 0).all() and (expressions <= 1).all()
    assert expressions[0] == 0.0
    assert fit.coefficients[FROZEN] == 0.0
    rest = fitted(model, seen(model, np.zeros(len(model.basis)), R, 1000.0, (0, 0)), R).coefficients
    assert (rest[IDENTITIES:] == 0).sum() >= EXPRESSIONS - 1


def test_a_few_wild_points_hardly_matter() -> None:
    model, R, coefficients = head_model(), rotation(0, -15, 0).double().numpy(), known(6)
    points = seen(model, coefficients, R, 1000.0, (0, 0))
    clean = fitted(model, points, R)
    wild = points.copy()
    wild[::40, :2] += 60.0
    fit = fitted(model, wild, R)
    assert np.abs(pixels(fit, model.mean) - pixels(clean, model.mean)).max() < 1.0


def test_the_jacobian_is_the_slope_of_the_projection() -> None:
    model, R = head_model(), rotation(10, 25, -5).double().numpy()
    coefficients, scale, shift, tiny = known(7), 1.1, np.array([0.02, -0.03, 0.01]), 1e-6

    def at(unknowns: Array) -> Array:
        turned = points_of(model, coefficients + unknowns[7:]) @ (Rotation.from_rotvec(unknowns[:3]).as_matrix() @ R).T
        return projected(scale * np.exp(unknowns[3]), turned, shift + unknowns[4:7])

    exact = ict_fit._jacobian(scale, points_of(model, coefficients) @ R.T, shift, model.basis @ R.T)
    for index, step in enumerate(tiny * np.eye(7 + len(coefficients))):
        slope = (at(step) - at(-step)) / (2 * tiny)
        assert exact[index] == pytest.approx(slope, abs=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_the_bounded_minimum_is_that_of_a_slow_solver(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, b = rng.normal(size=(60, 25)), rng.normal(size=60)
    low, high = np.full(25, -np.inf), np.full(25, np.inf)
    low[5:] = -rng.uniform(0, 0.1, 20)
    high[5:] = rng.uniform(0, 0.2, 20)
    found = bounded_minimum(A.T @ A, A.T @ b, low, high)
    assert found == pytest.approx(lsq_linear(A, b, (low, high), tol=1e-12).x, abs=1e-5)


def test_what_is_held_at_one_value_stays() -> None:
    found = bounded_minimum(np.eye(3), np.ones(3), np.array([-1.0, 0, -1]), np.array([2.0, 0, 0.5]))
    assert found == pytest.approx([1.0, 0.0, 0.5])


def test_contour_points_slide_to_the_silhouette_and_keep_their_motions() -> None:
    model = head_model(contours=9, places=4)
    mean, basis = slide_contours(model, np.zeros(len(model.basis)), np.diag([1.0, -1, -1]))
    assert np.array_equal(mean[9:], model.mean[9:])
    moved = np.abs(mean[:9, 0]) > np.abs(model.mean[:9, 0])
    assert moved.any()
    for point in np.flatnonzero(moved):
        assert mean[point] == pytest.approx(model.slide_mean[point, -1])
    assert np.array_equal(basis, model.basis)
    assert model.mean is not mean
