"""What tells portraits from a generator's, so that the generator learns to draw what it cannot remember.

A loss that compares pixels is least where the picture is a mean of all that could be there: a blur. A discriminator
does not accept blurs. This one sees every portrait twice, shrunk whole and through a window at full size, which is a
quarter of the work of seeing it at full size; windows are many, so that few portraits last longer.

Sources: "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020 (discriminator, non-saturating loss, R1 now
and then); "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, section 3.1 (a pixel loss for
what is seen, a discriminator of patches for the crispness).
"""

from __future__ import annotations

import torch
from generator_networks import Sizes, TrainedDiscriminator
from generator_portraits import shrunk
from torch import Tensor, nn
from torch.nn import functional as F

_CHANNELS = {64: 32, 32: 64, 16: 96, 8: 128, 4: 128}
_DENSE = 96
_RATE, _BETAS, _EPS = 0.002, (0.0, 0.99), 1e-8
_R1_EVERY, _R1_WEIGHT = 16, 0.5


class Critic(nn.Module):
    """A discriminator and its optimiser. Pictures are [N, 3, R, R], -1..1."""

    def __init__(self, size_px: int, share: float) -> None:
        super().__init__()
        self.size_px = min(size_px, max(_CHANNELS))
        channels = {px: max(8, round(c * share)) for px, c in _CHANNELS.items() if px <= self.size_px}
        sizes = Sizes(self.size_px, 0, {}, channels, max(8, round(_DENSE * share)))
        self.network = TrainedDiscriminator(sizes)
        self.optimiser = torch.optim.Adam(self.network.parameters(), _RATE, _BETAS, _EPS)

    def doubt(self, made: Tensor, draw: torch.Generator) -> Tensor:
        """What the generator has to lessen: high where pictures are told from portraits."""
        self.network.requires_grad_(False)
        return F.softplus(-self.network(self.seen(made, draw))).mean()

    def learn(self, real: Tensor, made: Tensor, draw: torch.Generator, step: int) -> float:
        """One step; the loss."""
        self.network.requires_grad_(True)
        made, real = self.seen(made.detach(), draw), self.seen(real, draw)
        loss = F.softplus(self.network(made)).mean() + F.softplus(-self.network(real)).mean()
        total = loss
        if step % _R1_EVERY == 0:
            real = real.requires_grad_()
            (slope,) = torch.autograd.grad(self.network(real).sum(), real, create_graph=True)
            total = loss + _R1_EVERY * _R1_WEIGHT / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        self.optimiser.step()
        return float(loss.detach())

    def seen(self, pictures: Tensor, draw: torch.Generator) -> Tensor:
        """[2 N, 3, S, S]: every picture shrunk whole, and a window of it."""
        room = pictures.shape[-1] - self.size_px
        corners = (torch.rand(len(pictures), 2, generator=draw) * (room + 1)).long().tolist()
        side = self.size_px
        windows = [p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)]
        return torch.cat([shrunk(pictures, side), torch.stack(windows)])
