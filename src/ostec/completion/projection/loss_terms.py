"""The terms of the search's loss, one function each.

Pictures are [N, 3, R, R], sRGB 0..1; `mask` [N, 1, R, R] is 1 where the target is known. Each term gives [N], at
least 0, and is differentiable in `generated`. Source: the paper, section 3.4; the scales are its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Wang et al., "Multi-scale structural similarity for image quality assessment", 2003, section 3.2."""
_WINDOW_PX, _SIGMA_PX = 11, 1.5
_C1, _C2 = 0.01**2, 0.03**2


def log_cosh(generated: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean log cosh of the difference in grey levels 0..255: square for small errors, absolute for large ones."""
    return _mean_log_cosh(255 * (generated - target) * mask)


def ms_ssim_loss(generated: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """1 - multi-scale SSIM of the masked pictures, 0..2; of five scales as many as fit, their weights rescaled."""
    first, second = generated * mask, target * mask
    count = max(1, min(len(_SCALE_WEIGHTS), int(math.log2(first.shape[-1] / _WINDOW_PX)) + 1))
    total = sum(_SCALE_WEIGHTS[:count])
    product = torch.ones_like(first[:, 0, 0, 0])
    for scale, weight in enumerate(_SCALE_WEIGHTS[:count]):
        luminance, contrast = _ssim_parts(first, second)
        part = luminance * contrast if scale == count - 1 else contrast
        product = product * part.mean(dim=(1, 2, 3)).clamp(min=1e-4) ** (weight / total)
        first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return 1 - product


def feature_loss(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean log cosh of the difference of a network's features [N, C, h, w] of the masked pictures."""
    return _mean_log_cosh(features - wanted)


def latent_penalty(w_plus: Tensor, w_avg: Tensor) -> Tensor:
    """Mean absolute distance of the latents [N, L, W] from the mean latent [W], times W."""
    return (w_plus - w_avg).abs().mean(dim=(1, 2)) * w_avg.shape[0]


def realism_loss(discriminator: Callable[[Tensor], Tensor], generated: Tensor) -> Tensor:
    """softplus(-D), the loss that StyleGAN2 trains its generator with: small where the discriminator finds the picture
    real. (The released code adds D itself, whose descent makes pictures less real.)"""
    logits = torch.cat([discriminator(picture[None] * 2 - 1) for picture in generated])
    return F.softplus(-logits[:, 0])


def landmark_loss(points_px: Tensor, wanted_px: Tensor, size_px: int) -> Tensor:
    """Mean squared distance of landmarks [N, P, 2] from their targets, as a fraction of the picture's side."""
    return ((points_px - wanted_px) / size_px).square().sum(dim=2).mean(dim=1)


def heat_map_loss(maps: Tensor, wanted: Tensor) -> Tensor:
    """Squared difference of heat maps [N, P, h, w], mean over pixels, sum over landmarks."""
    return (maps - wanted).square().mean(dim=(2, 3)).sum(dim=1)


def identity_loss(embeddings: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine of embeddings [N, E]: 0..2."""
    return 1 - F.cosine_similarity(embeddings, wanted, dim=1)


def _mean_log_cosh(x: Tensor) -> Tensor:
    """[N] of [N, C, H, W], without overflow."""
    return (x.abs() + F.softplus(-2 * x.abs()) - math.log(2)).mean(dim=(1, 2, 3))


def _ssim_parts(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """(luminance, contrast and structure), each [N, 3, h, w], under a Gaussian window."""
    size = min(_WINDOW_PX, first.shape[-1])
    at = torch.arange(size, dtype=first.dtype, device=first.device) - (size - 1) / 2
    window = (-at.square() / (2 * _SIGMA_PX**2)).exp()
    window = window / window.sum()

    def smooth(x: Tensor) -> Tensor:
        planes = x.reshape(-1, 1, *x.shape[2:])
        planes = F.conv2d(F.conv2d(planes, window[None, None, :, None]), window[None, None, None, :])
        return planes.view(*x.shape[:2], *planes.shape[2:])

    mean_1, mean_2, square_1, square_2, product = smooth(
        torch.cat([first, second, first * first, second * second, first * second])
    ).chunk(5)
    spread_1, spread_2 = square_1 - mean_1.square(), square_2 - mean_2.square()
    luminance = (2 * mean_1 * mean_2 + _C1) / (mean_1.square() + mean_2.square() + _C1)
    contrast = (2 * (product - mean_1 * mean_2) + _C2) / (spread_1 + spread_2 + _C2)
    return luminance, contrast
