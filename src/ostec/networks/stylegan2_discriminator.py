"""StyleGAN2's discriminator, for use as a measure of realism.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 4.1 (residual), and
"Progressive Growing of GANs", ICLR 2018, section 3 (standard deviation over the minibatch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.networks.stylegan2 import activated, blurred, split_clamp
from ostec.weights.tensors import fill, size_of

_GROUP = 4
_EPS = 1e-8
_SHARE = math.sqrt(0.5)
"""Each of two branches, so that their sum is as large as either."""


class Discriminator(nn.Module):
    """Pictures to logits: above 0 leans to real.

    `tensors` by these names, float32, where r is the resolution, half of it, … down to 8:

        rgb.weight [C, 3, 1, 1], rgb.bias [C]
        {r}.conv.weight [C, C, 3, 3], {r}.conv.bias [C]
        {r}.down.weight [D, C, 3, 3], {r}.down.bias [D]
        {r}.skip.weight [D, C, 1, 1]
        last.conv.weight [D, D + 1, 3, 3], last.conv.bias [D]
        last.dense.weight [E, 16 D], last.dense.bias [E], last.out.weight [1, E], last.out.bias [1]
        clamp []        bound of activations; infinity where there is none

    Raises `BadWeights` naming `source` where one is missing, of a wrong shape, or holds a number that is not finite.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the discriminator") -> None:
        super().__init__()
        names = (name.partition(".") for name in tensors)
        self.sizes = sorted((int(r) for r, _, rest in names if rest == "conv.weight" and r.isdigit()), reverse=True)
        self.resolution = self.sizes[0] if self.sizes else 4
        tensors, self.clamp = split_clamp(tensors, source)
        channels = size_of(tensors, "rgb.weight", source)
        with torch.device("meta"):
            self.rgb = nn.Conv2d(3, channels, 1)
            for size in self.sizes:
                smaller = size_of(tensors, f"{size}.down.weight", source)
                conv, down = nn.Conv2d(channels, channels, 3), nn.Conv2d(channels, smaller, 3)
                skip = nn.Conv2d(channels, smaller, 1, bias=False)
                self.add_module(str(size), nn.ModuleDict({"conv": conv, "down": down, "skip": skip}))
                channels = smaller
            last = size_of(tensors, "last.conv.weight", source)
            dense = nn.Linear(last * 16, size_of(tensors, "last.dense.weight", source))
            conv, out = nn.Conv2d(channels + 1, last, 3), nn.Linear(dense.out_features, 1)
            self.last = nn.ModuleDict({"conv": conv, "dense": dense, "out": out})
        fill(self, tensors, source)

    def forward(self, picture: Tensor) -> Tensor:
        """[N, 3, R, R], -1..1, to logits [N, 1]."""
        if picture.ndim != 4 or picture.shape[1:] != (3, self.resolution, self.resolution):
            raise ValueError(
                f"pictures must be [N, 3, {self.resolution}, {self.resolution}], not {list(picture.shape)}"
            )
        x = self._conv(picture, "rgb")
        for size in self.sizes:
            skip = F.conv2d(blurred(x, padding=1, stride=2), self.get_parameter(f"{size}.skip.weight")) * _SHARE
            x = self._conv(x, f"{size}.conv", padding=1)
            x = self._conv(blurred(x, padding=2), f"{size}.down", stride=2, gain=_SHARE) + skip
        x = self._conv(with_spread(x), "last.conv", padding=1).flatten(1)
        x = activated(
            F.linear(x, self.get_parameter("last.dense.weight")), self.get_parameter("last.dense.bias"), math.inf
        )
        return F.linear(x, self.get_parameter("last.out.weight"), self.get_parameter("last.out.bias"))

    def _conv(self, x: Tensor, name: str, padding: int = 0, stride: int = 1, gain: float = 1.0) -> Tensor:
        x = F.conv2d(x, self.get_parameter(f"{name}.weight"), stride=stride, padding=padding)
        return activated(x, self.get_parameter(f"{name}.bias"), self.clamp, gain)


def with_spread(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C + 1, H, W]: with how much the pictures of a group differ, a constant plane."""
    group = min(_GROUP, len(x))
    if len(x) % group:
        raise ValueError(f"{len(x)} pictures do not part into groups of {group}")
    spread = (x.unflatten(0, (group, -1)).var(dim=0, unbiased=False) + _EPS).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)
