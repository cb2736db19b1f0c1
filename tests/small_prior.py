"""A small prior of the synthetic head, with components and light of its own."""

from __future__ import annotations

import torch
from synthetic import SHAPE, head
from torch import Tensor

from ostec.completion.prior.face_prior import FacePrior, ReferenceHead
from ostec.completion.prior.gaussian import FaceGaussian
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.light.shading import harmonics

GRID_PX = 16


def mirror_order(domain: Tensor) -> Tensor:
    """[P]: which texel of the domain mirrors each."""
    number = torch.full(domain.shape, -1)
    number[domain] = torch.arange(int(domain.sum()))
    return number.flip(1)[domain]


def _model() -> tuple[FaceGaussian, Tensor]:
    texels = bake_texels(head(), (GRID_PX, GRID_PX), rasterise)
    domain = texels.inside & texels.inside.flip(1)
    normals = texels.normals[domain]
    draw = torch.Generator().manual_seed(0)
    y, x = domain.nonzero().float().unbind(dim=1)
    u, v = (x + 0.5) / GRID_PX * 2 - 1, (y + 0.5) / GRID_PX * 2 - 1
    waves = [torch.cos(3 * u) * v, torch.sin(2 * u), torch.sin(3 * u) * v, torch.cos(4 * v), torch.cos(2 * u + 0 * v)]
    tint = torch.rand(3, len(waves), generator=draw) * 0.5 + 0.5
    basis = 0.25 * torch.stack(waves, dim=1) * tint[:, None, :]
    mean = torch.tensor([-0.5, -0.8, -1.0])[:, None] + 0.1 * torch.cos(5 * u)
    light_basis = torch.zeros(8, 3, 2)
    light_basis[0, :, 0], light_basis[2, :, 1] = 0.2, 0.2
    scales = torch.tensor([[0.002, 1.0, 0.5], [0.002, 4.0, 0.3]])
    spread = 1 + 0.3 * u.abs()
    gaussian = FaceGaussian(domain, mean, basis, torch.zeros(8, 3), light_basis, spread, scales, torch.tensor(0.0005))
    return gaussian, normals


MODEL, NORMALS = _model()


def sample(seed: int, model: FaceGaussian = MODEL) -> Tensor:
    """[3, P]: the log colours of a random face of the model, with its noise."""
    draw = torch.Generator().manual_seed(1000 + seed)
    y, x = model.domain.nonzero().double().unbind(dim=1)
    here = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    across = (y[:, None] - y) ** 2 + (x[:, None] + x - (GRID_PX - 1)) ** 2
    rest = sum(v * ((-here / (2 * s**2)).exp() + r * (-across / (2 * s**2)).exp()) for v, s, r in model.scales.tolist())
    assert isinstance(rest, Tensor)
    rest = (rest + float(model.noise) * torch.eye(len(y))) * torch.outer(model.spread, model.spread)
    peculiar = (torch.linalg.cholesky(rest) @ torch.randn(len(y), 3, generator=draw).double()).T.float()
    z = torch.randn(model.basis.shape[2], generator=draw)
    light = torch.randn(model.light_basis.shape[2], generator=draw)
    shading = harmonics(NORMALS)[:, 1:] @ (model.light_basis @ light)
    return model.mean + model.basis @ z + shading.T + peculiar


def small_prior() -> FacePrior:
    """The model laid out on the synthetic head."""
    face = head()
    landmarks = face.vertices[SHAPE.landmark_vertices]
    return FacePrior(MODEL, ReferenceHead("synthetic", face.vertices, SHAPE.uv, landmarks), torch.tensor(1.0))
