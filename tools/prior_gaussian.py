"""Learning the Gaussian model of `completion/prior/gaussian.py` from textures with holes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from prior_textures import Textures
from torch import Tensor

from ostec.completion.prior.gaussian import FaceGaussian
from ostec.light.shading import harmonics

COMPONENTS = 150
_SEEN_IN = 0.03
"""Share of the faces that must show a texel for it to be modelled."""
_ROUNDS, _INNER_ROUNDS = 15, 3
_LIGHT_STEPS, _LIGHT_SAMPLES, _LIGHT_STD = 4, 150.0, 0.2
_LIGHT_PRIOR_STD = torch.tensor([10.0, 0.4, 0.26, 0.12, 0.2, 0.26, 0.1, 0.13, 0.1])
_SCALES = torch.tensor([[30.0, 1.0, 0.5], [10.0, 3.0, 0.5], [3.0, 15.0, 0.3]])
_NOISE = 10.0
"""The rest, in units of the variance that the components leave over: it is far larger than that on new faces, and
smooth. Chosen on held-out training faces."""
_SPREAD_LIMITS = 0.2, 6.0


@dataclass(frozen=True)
class Albedo:
    """Textures without their light, [N, 3, P] and [N, P] on the domain, and the light's coefficients [N, 8, 3]."""

    colour: Tensor
    seen: Tensor
    light: Tensor


def domain_of(textures: Textures) -> Tensor:
    """[G, G] bool: where enough faces were seen, on either side."""
    share = textures.seen.mean(dim=0)[0]
    return (share + share.flip(1)) / 2 > _SEEN_IN


def without_light(textures: Textures, domain: Tensor) -> Albedo:
    """Fit each face's light, robustly, and take it away."""
    colours, lights = [], []
    for i in range(0, len(textures.names), 64):
        part = slice(i, i + 64)
        light = harmonics(textures.normals[part].movedim(1, -1)).flatten(1, 2)
        coefficients = _fit_light(light, textures.log_rgb[part], textures.seen[part])
        shading = (light[:, :, 1:] @ coefficients[:, 1:]).transpose(1, 2).unflatten(2, domain.shape)
        colours.append((textures.log_rgb[part] - shading)[:, :, domain])
        lights.append(coefficients[:, 1:])
    return Albedo(torch.cat(colours), textures.seen[:, 0, domain], torch.cat(lights))


def _fit_light(light: Tensor, log_rgb: Tensor, seen: Tensor) -> Tensor:
    """[B, 9, 3] from harmonics [B, G*G, 9], [B, 3, G, G] and [B, 1, G, G]."""
    colour, weight = log_rgb.flatten(2).transpose(1, 2), seen.flatten(1)
    prior = torch.diag(_LIGHT_PRIOR_STD**-2)
    trust = weight
    coefficients = torch.zeros(len(light), 9, 3)
    for _ in range(_LIGHT_STEPS):
        w = trust * (_LIGHT_SAMPLES / trust.sum(dim=1, keepdim=True).clamp(min=1)) / _LIGHT_STD**2
        weighted = light * w[:, :, None]
        factor = torch.linalg.cholesky(light.transpose(1, 2) @ weighted + prior)
        coefficients = torch.cholesky_solve(weighted.transpose(1, 2) @ colour, factor)
        misfit = (colour - light @ coefficients).square().mean(dim=2)
        trust = weight / (1 + misfit / _LIGHT_STD**2)
    return coefficients


def learn(albedo: Albedo, domain: Tensor, faces: Tensor) -> FaceGaussian:
    """The model of the `faces` [M] int64 among them."""
    colour, seen, light = albedo.colour[faces], albedo.seen[faces], albedo.light[faces]
    mirror = _mirror_order(domain)
    mean, basis, left_over = _components(colour, seen, mirror)
    spread = _spread(colour, seen, mean, basis, left_over, mirror)
    light_mean = light.mean(dim=0)
    covariance = torch.cov(light.flatten(1).T) + 1e-5 * torch.eye(24)
    values, vectors = torch.linalg.eigh(covariance)
    light_basis = (vectors * values.clamp(min=0).sqrt()).view(8, 3, 24)
    scales = _SCALES * torch.stack([left_over, torch.ones(()), torch.ones(())])
    plane = basis.view(3, -1, basis.shape[1])
    return FaceGaussian(domain, mean, plane, light_mean, light_basis, spread, scales, _NOISE * left_over)


def _components(colour: Tensor, seen: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean [3, P], basis [3P, K], variance left over) by filling the holes and decomposing in turn.

    Each face counts together with its mirror image, so every component is symmetric or antisymmetric, and the two
    kinds are found apart.
    """
    known = seen[:, None]
    mean = _symmetric((colour * known).sum(dim=0) / known.sum(dim=0).clamp(min=1), mirror)
    offset = ((colour - mean) * known).sum(dim=2, keepdim=True) / known.sum(dim=2, keepdim=True).clamp(min=1)
    filled = torch.where(known > 0, colour, mean + offset)
    basis, left_over = mean, mean.new_zeros(())
    for _ in range(_ROUNDS):
        off = filled - mean
        kinds = [_principal((off + sign * off[:, :, mirror]).flatten(1) / 2) for sign in (1, -1)]
        values, vectors = torch.cat([k[0] for k in kinds]), torch.cat([k[1] for k in kinds], dim=1)
        top = values.argsort(descending=True)[:COMPONENTS]
        values, vectors = values[top], vectors[:, top]
        total = off.flatten(1).square().sum() / len(off)
        left_over = ((total - values.sum()) / (off[0].numel() - COMPONENTS)).clamp(min=1e-6)
        kept = (values - left_over).clamp(min=1e-9)
        for _ in range(_INNER_ROUNDS):
            z = (filled - mean).flatten(1) @ vectors * (kept / (kept + left_over))
            off = (z @ vectors.T).view_as(filled)
            filled = torch.where(known > 0, colour, mean + off)
        mean = _symmetric(((colour - off) * known).sum(dim=0) / known.sum(dim=0).clamp(min=1), mirror)
        basis = vectors * kept.sqrt()
    return mean, basis, left_over


def _principal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues [K] and eigenvectors [D, K] of the covariance of [N, D], N < D."""
    values, vectors = torch.linalg.eigh(rows @ rows.T / len(rows))
    values, vectors = values[-COMPONENTS:], vectors[:, -COMPONENTS:]
    return values, rows.T @ vectors / (values.clamp(min=1e-9) * len(rows)).sqrt()


def _spread(colour: Tensor, seen: Tensor, mean: Tensor, basis: Tensor, left_over: Tensor, mirror: Tensor) -> Tensor:
    """[P]: how much more than the average texel each one strays from the components."""
    known = seen[:, None]
    off = ((colour - mean) * known).flatten(1)
    z = off @ basis / (basis.square().sum(dim=0) + left_over)
    squares = ((off - z @ basis.T).view_as(colour).square() * known).mean(dim=1)
    misfit = squares.sum(dim=0) / seen.sum(dim=0).clamp(min=1)
    misfit = (misfit + misfit[mirror]) / 2
    often = seen.mean(dim=0) > 0.5
    return (misfit / misfit[often].mean()).clamp(*_SPREAD_LIMITS).sqrt()


def _symmetric(picture: Tensor, mirror: Tensor) -> Tensor:
    return (picture + picture[:, mirror]) / 2


def _mirror_order(domain: Tensor) -> Tensor:
    """[P]: which texel of the domain mirrors each."""
    number = torch.full(domain.shape, -1)
    number[domain] = torch.arange(int(domain.sum()))
    return number.flip(1)[domain]
