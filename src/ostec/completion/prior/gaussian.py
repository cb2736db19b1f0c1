"""A Gaussian model of facial texture, and its prediction of hidden texels from the seen ones.

The log colour of a face on a coarse grid is light + skin + the rest, all Gaussian and independent:

    light   second-order harmonics of the normals, with coefficients as portraits have them;
    skin    mean + basis · z, z ~ N(0, 1): probabilistic principal components (Tipping and Bishop, 1999);
    rest    what the others do not explain: smooth at several scales, and correlated between both sides.

So the hidden texels' mean given the seen ones is exact. The rest is needed because without its correlations every
smooth deviation (a shadow, a fringe) would be strong evidence about the skin.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ostec.light.shading import harmonics


@dataclass(frozen=True, eq=False)
class FaceGaussian:
    """P texels of a G x G grid, in the order of `domain.nonzero()`; colours are logs of sRGB (`log_colour`)."""

    domain: Tensor
    """[G, G] bool, mirror-symmetric: the texels that the model covers."""
    mean: Tensor
    """[3, P]."""
    basis: Tensor
    """[3, P, K], each column as long as its standard deviation."""
    light_mean: Tensor
    """[8, 3]: coefficients of the harmonics but the constant one."""
    light_basis: Tensor
    """[8, 3, Q]."""
    spread: Tensor
    """[P]: standard deviation of the rest, relative to the average texel's."""
    scales: Tensor
    """[S, 3]: variance, length in cells, and correlation between mirrored texels, of each scale of the rest."""
    noise: Tensor
    """[]: variance of what is left after that, independent from texel to texel."""

    @property
    def grid_px(self) -> int:
        """G."""
        return self.domain.shape[0]

    @cached_property
    def rest(self) -> Tensor:
        """[P, P]: covariance of the rest, noise included."""
        y, x = self.domain.nonzero().float().unbind(dim=1)
        rows = (y[:, None] - y).square()
        here, across = rows + (x[:, None] - x).square(), rows + (x[:, None] + x - (self.grid_px - 1)).square()
        total = torch.zeros_like(here)
        for variance, length, alike in self.scales.tolist():
            total += variance * ((-here / (2 * length**2)).exp() + alike * (-across / (2 * length**2)).exp())
        return total * self.spread[:, None] * self.spread + torch.diag(_noise(self))


def condition(model: FaceGaussian, log_rgb: Tensor, seen: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """(mean [3, P], standard deviation [P]) of the log colours, given those of the texels in `seen`.

    `log_rgb` [3, P] is read where `seen` [P] bool; `normals` [P, 3], unit, head frame. The deviation is the root mean
    square over channels, without the noise.
    """
    mean, basis = _with_light(model, normals)
    known, covariance, width = seen.nonzero()[:, 0], model.rest, basis.shape[2]
    count = len(known)
    if not count:
        variance = covariance.diagonal() - _noise(model) + basis.square().sum(dim=2).mean(dim=0)
        return mean, variance.sqrt()
    lower = torch.linalg.cholesky(covariance[known][:, known])
    columns, deviation = basis[:, known], (log_rgb - mean)[:, known]
    smooth = covariance[:, known].clone()
    smooth[known, torch.arange(count)] -= _noise(model)[known]
    stacked = torch.cat([columns.permute(1, 0, 2).reshape(count, 3 * width), deviation.T, smooth.T], dim=1)
    white = torch.linalg.solve_triangular(lower, stacked, upper=False)
    white_basis, white_deviation, gain = white.split([3 * width, 3, smooth.shape[0]], dim=1)
    planes = white_basis.reshape(count, 3, width).permute(1, 0, 2)
    precision = torch.eye(width) + planes.flatten(0, 1).T @ planes.flatten(0, 1)
    factor = torch.linalg.cholesky(precision)
    z = torch.cholesky_solve((planes.flatten(0, 1).T @ white_deviation.T.reshape(-1))[:, None], factor)[:, 0]
    unexplained = white_deviation.T - planes @ z
    free = basis - gain.T @ planes
    spare = torch.linalg.solve_triangular(factor, free.flatten(0, 1).T, upper=False).square().sum(dim=0)
    variance = covariance.diagonal() - _noise(model) - gain.square().sum(dim=0) + spare.view(3, -1).mean(dim=0)
    return mean + basis @ z + unexplained @ gain, variance.clamp(min=0).sqrt()


def _with_light(model: FaceGaussian, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [3, P] and basis [3, P, K + Q] of light and skin together, on a face with these normals."""
    light = harmonics(normals)[:, 1:]
    mean = model.mean + (light @ model.light_mean).T
    modes = torch.einsum("ph,hcq->cpq", light, model.light_basis)
    return mean, torch.cat([model.basis, modes], dim=2)


def _noise(model: FaceGaussian) -> Tensor:
    return model.noise * model.spread.square()
