"""What the Gaussian model of faces promises, on small random models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_prior import MODEL, NORMALS, mirror_order, sample
from torch import Tensor

from ostec.completion.prior.gaussian import FaceGaussian, _noise, _with_light, condition


def condition_slowly(model: FaceGaussian, log_rgb: Tensor, seen: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """`condition` by the textbook formula on the full covariance matrix, in double precision."""
    mean, basis = (t.double() for t in _with_light(model, normals))
    flat, rest = basis.flatten(0, 1), model.rest.double()
    noise = torch.diag(_noise(model).double().repeat(3))
    covariance = flat @ flat.T + torch.block_diag(rest, rest, rest)
    smooth, known = covariance - noise, seen.repeat(3).nonzero()[:, 0]
    gain = smooth[:, known] @ torch.linalg.inv(covariance[known][:, known])
    moved = mean + (gain @ (log_rgb.double() - mean).flatten()[known]).view_as(mean)
    variance = (smooth - gain @ smooth[known]).diagonal().view_as(mean).mean(dim=0)
    return moved.float(), variance.clamp(min=0).sqrt().float()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_fast_way_agrees_with_the_textbook(share: float) -> None:
    log_rgb = sample(1)
    seen = torch.rand(log_rgb.shape[1]) < share
    for fast, slow in zip(*(f(MODEL, log_rgb, seen, NORMALS) for f in (condition, condition_slowly)), strict=True):
        assert (fast - slow).abs().max() < 2e-3


def test_hidden_texels_have_no_say() -> None:
    log_rgb, other = sample(1), sample(2)
    seen = torch.rand(log_rgb.shape[1]) < 0.5
    poisoned = torch.where(seen, log_rgb, other)
    for first, second in zip(*(condition(MODEL, x, seen, NORMALS) for x in (log_rgb, poisoned)), strict=True):
        assert torch.equal(first, second)


def test_a_face_of_the_model_is_recovered_from_its_half() -> None:
    model = replace(MODEL, scales=MODEL.scales * torch.tensor([1e-4, 1, 1]), noise=torch.tensor(1e-6))
    log_rgb = sample(3, model)
    half = torch.arange(len(NORMALS)) % 2 == 0
    mean, _ = condition(model, log_rgb, half, NORMALS)
    before, _ = condition(model, log_rgb, torch.zeros_like(half), NORMALS)
    assert (mean - log_rgb)[:, ~half].abs().max() < 0.03 * (before - log_rgb)[:, ~half].abs().max()


def test_mirrored_faces_are_completed_to_mirrored_faces() -> None:
    order = mirror_order(MODEL.domain)
    log_rgb, seen = sample(4), torch.rand(len(NORMALS)) < 0.4
    flipped = NORMALS[order] * torch.tensor([-1.0, 1, 1])
    assert torch.allclose(flipped, NORMALS, atol=1e-6)
    mean, std = condition(MODEL, log_rgb, seen, NORMALS)
    mirrored, mirrored_std = condition(MODEL, log_rgb[:, order], seen[order], flipped)
    assert (mirrored - mean[:, order]).abs().max() < 1e-3
    assert (mirrored_std - std[order]).abs().max() < 1e-3


def test_the_stated_deviation_is_that_of_the_errors() -> None:
    seen = torch.arange(len(NORMALS)) % 3 == 0
    squares, variance = torch.zeros(len(NORMALS)), torch.zeros(len(NORMALS))
    for seed in range(200):
        log_rgb = sample(seed)
        mean, std = condition(MODEL, log_rgb, seen, NORMALS)
        squares += (mean - log_rgb).square().mean(dim=0)
        variance = std.square()
    ratio = (squares / 200)[~seen].mean() / (variance[~seen] + MODEL.noise).mean()
    assert 0.85 < float(ratio) < 1.15


def test_more_seen_is_less_doubt() -> None:
    log_rgb = sample(5)
    few = torch.rand(len(NORMALS)) < 0.2
    _, wide = condition(MODEL, log_rgb, few, NORMALS)
    _, narrow = condition(MODEL, log_rgb, few | (torch.rand(len(NORMALS)) < 0.4), NORMALS)
    assert (narrow <= wide + 1e-4).all() and narrow.mean() < 0.9 * wide.mean()
