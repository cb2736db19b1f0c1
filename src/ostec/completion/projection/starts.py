"""Where a search starts: the best of random latents, or the MAP estimate where latents are normally distributed."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from torch import Tensor

from ostec.completion.projection.loss import ViewLoss
from ostec.completion.projection.pyramid import Pyramid, downsample, downsample_known

_TRIED_PX, _LARGEST_TRIED_PX, _TRIED_AT_ONCE = 64, 128, 64
_MAP_PX = 32
_NOISE_STD = 0.055
"""Of a pixel, 0..1: the error that remains in such a picture, and some more as neighbours err alike."""
_ROUNDS, _DIFFERENCE, _CHUNK = 3, 0.25, 32


@torch.no_grad()
def best_random_latents(pyramid: Pyramid, loss: ViewLoss, views: int, count: int, seed: int) -> Tensor:
    """[N, L, W]: for each of the N = `views` of the loss's target, the best of the mean latent and `count` random ones.

    They are compared by the loss of small pictures; if those do not show what the picture will be, the mean latent is
    returned.
    """
    generator, size_px = pyramid.generator, pyramid.usable_size(_TRIED_PX)
    if size_px > _LARGEST_TRIED_PX:
        return generator.w_avg.repeat(views, generator.num_ws, 1)
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed)).to(generator.w_avg)
    candidates = torch.cat([generator.w_avg[None], generator.mapping(z)])[:, None].expand(-1, generator.num_ws, -1)
    losses = []
    for w_plus in candidates.split(max(1, _TRIED_AT_ONCE // views)):
        pictures = pyramid.picture(w_plus, size_px)
        of_pairs = loss(pictures.repeat_interleave(views, dim=0), w_plus.repeat_interleave(views, dim=0))
        losses.append(of_pairs.view(-1, views))
    return candidates[torch.cat(losses).nan_to_num(math.inf).argmin(dim=0)]


@torch.no_grad()
def better_latents(pyramid: Pyramid, loss: ViewLoss, first: Tensor, second: Tensor) -> Tensor:
    """[N, L, W]: of two starts for each view the one whose small picture has the smaller loss."""
    size_px = pyramid.usable_size(_TRIED_PX)
    losses = [loss(pyramid.picture(w_plus, size_px), w_plus).nan_to_num(math.inf) for w_plus in (first, second)]
    return torch.where((losses[0] <= losses[1])[:, None, None], first, second)


class MapStart:
    """The MAP estimate of a latent that is standard normal about the mean one, by a few steps of Gauss-Newton.

    With independent noise on the pixels it minimises the squared error of the known pixels, over the noise's variance,
    plus the squared distance from the mean latent. The Jacobian is that at the mean latent throughout: such a generator
    is nearly linear in pictures this small, and the residuals are exact. Its generator must work in float32: in
    bfloat16 the differences that the Jacobian is made of are mostly rounding.
    """

    def __init__(self, pyramid: Pyramid) -> None:
        self.pyramid = pyramid
        self._side_px = min(_MAP_PX, pyramid.generator.resolution)

    @torch.no_grad()
    def __call__(self, image: Tensor, trust: Tensor, start: Tensor) -> Tensor:
        """[N, L, W]: the latents `start`, moved by the same vector in every layer, for pictures [N, 3, R, R], 0..1,
        whose pixels are weighted by `trust` [N, 1, R, R]."""
        wanted, known = downsample_known(image, trust, self._side_px)
        weight = (known / _NOISE_STD**2).expand_as(wanted).flatten(1)
        identity, jacobian = torch.eye(start.shape[2]).to(start), self.jacobian
        hessian = torch.stack([jacobian.T @ (pixels[:, None] * jacobian) for pixels in weight]) + identity
        factor, w_plus = torch.linalg.cholesky(hessian), start
        for _ in range(_ROUNDS):
            residual = (wanted - self._small(w_plus)).flatten(1)
            downhill = (weight * residual) @ jacobian - (w_plus.mean(dim=1) - self.pyramid.generator.w_avg)
            w_plus = w_plus + torch.cholesky_solve(downhill[..., None], factor).mT
        return w_plus

    @cached_property
    def jacobian(self) -> Tensor:
        """[3 P², W]: of small pictures by a latent that all layers share, at the mean latent; by differences."""
        generator, columns = self.pyramid.generator, []
        mean = generator.w_avg.expand(1, generator.num_ws, -1)
        for steps in (_DIFFERENCE * torch.eye(len(generator.w_avg)).to(generator.w_avg)).split(_CHUNK):
            ahead, behind = (self._small(mean + s[:, None]) for s in (steps, -steps))
            columns.append((ahead - behind).flatten(1) / (2 * _DIFFERENCE))
        return torch.cat(columns).T.contiguous()

    def _small(self, w_plus: Tensor) -> Tensor:
        """[N, 3, P, P], about 0..1; on a GPU without TF32, whose rounding the differences would magnify."""
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            picture = self.pyramid.picture(w_plus, self.pyramid.usable_size(self._side_px))
        return downsample(picture, self._side_px)
