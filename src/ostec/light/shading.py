"""Shading of a face as a smooth function of the normal, fitted to the visible skin; ambient occlusion of cavities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ostec.geometry.raster import interpolate
from ostec.types import Face

_DARKEST = 0.02
_PRIOR_STD = torch.tensor([10.0, 0.25, 0.25, 0.25, 0.1, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)
"""Prior standard deviation of each coefficient, log units."""
_SKIN_SAMPLES, _SKIN_STD = 150.0, 0.2
_PAIR_SAMPLES, _PAIR_STD = 300.0, 0.12
"""Effective number of independent samples (neighbouring texels are correlated), and the standard deviation of skin."""
_IRLS_STEPS = 8
_LIMIT, _CHROMA_LIMIT = 0.3, 0.05
_ALBEDO = torch.tensor([0.6, 0.4, 0.35])
"""Linear red, green and blue albedo of skin; chosen by eye, not measured."""
_GAMMA = 2.2


@dataclass(frozen=True)
class Shading:
    """log(sRGB) of plain skin as second-order spherical harmonics of the normal in the head frame."""

    coefficients: Tensor
    """[9, 3]."""

    def log_skin(self, normals: Tensor) -> Tensor:
        """[..., 3]: log colour of plain skin with normals [..., 3]; bounded, because it extrapolates."""
        light = harmonics(normals)[..., 1:] @ self.coefficients[1:]
        luminance = light.mean(dim=-1, keepdim=True)
        chroma = light - luminance
        return self.coefficients[0] + _bounded(luminance, _LIMIT) + _bounded(chroma, _CHROMA_LIMIT)


def fit_shading(
    log_rgb: Tensor, normals: Tensor, weight: Tensor, pairs: tuple[Tensor, Tensor, Tensor] | None = None
) -> Shading:
    """Robust fit to samples of skin (iteratively reweighted least squares).

    `log_rgb` [N, 3], `normals` [N, 3] unit, head frame, `weight` [N] >= 0. `pairs`: differences of log colour and of
    `harmonics` between the two sides of the face, [M, 3] and [M, 9], and their weights [M]; they do not depend on the
    colour of the skin.
    """
    samples = [(harmonics(normals), log_rgb, weight, _SKIN_SAMPLES, _SKIN_STD)]
    if pairs is not None:
        colour_step, harmonic_step, pair_weight = pairs
        samples.append((harmonic_step, colour_step, pair_weight, _PAIR_SAMPLES, _PAIR_STD))
    coefficients = torch.zeros(9, 3, dtype=torch.float64)
    known = log_rgb[weight > 0.1 * weight.max()]
    coefficients[0] = known.median(dim=0).values if len(known) else -0.7
    for _ in range(_IRLS_STEPS):
        normal = torch.diag(_PRIOR_STD**-2)
        right = torch.zeros_like(coefficients)
        for matrix, value, share, count, std in samples:
            A, y = matrix.double(), value.double()
            misfit = (y - A @ coefficients).square().mean(dim=1)
            w = share.double() / (1 + misfit / std**2)
            w = w * count / (w.sum().clamp(min=1e-9) * std**2)
            normal, right = normal + A.T @ (w[:, None] * A), right + A.T @ (w[:, None] * y)
        coefficients = torch.linalg.solve(normal, right)
    return Shading(coefficients.float())


def _bounded(value: Tensor, limit: float) -> Tensor:
    return limit * torch.tanh(value / limit)


def log_colour(rgb: Tensor) -> Tensor:
    """log of sRGB, bounded below so that black stays finite."""
    return rgb.clamp(min=_DARKEST).log()


def harmonics(normals: Tensor) -> Tensor:
    """[..., 9]: real spherical harmonics of unit vectors [..., 3] to order two, without their constants."""
    x, y, z = normals.unbind(-1)
    one = torch.ones_like(x)
    return torch.stack([one, x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], dim=-1)


def cavity_shade(face: Face) -> Tensor:
    """[3, Hu, Wu]: log colour to add to that of open skin in cavities; [3, 1, 1] zeros without ambient occlusion.

    Where the share s of the directions is open, walls of albedo a reflect a, a², ... of the rest onto one another:
    s / (1 - a (1 - s)).
    """
    topology = face.reconstruction.topology
    if topology.ambient_occlusion is None:
        return torch.zeros(3, 1, 1)
    hidden = interpolate(face.texels, 1 - topology.ambient_occlusion[:, None], topology.faces).clamp(0, 0.99)
    hidden = hidden.movedim(-1, 0)
    return ((1 - hidden) / (1 - _ALBEDO[:, None, None] * hidden)).log() / _GAMMA
