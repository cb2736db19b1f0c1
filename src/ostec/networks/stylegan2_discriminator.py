"""StyleGAN2's discriminator, for use as a judge of realism.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 4.1 (residual), and
"Progressive Growing of GANs", ICLR 2018, section 3 (standard deviation over the minibatch).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.networks.stylegan2 import activated, blurred
from ostec.weights.tensors import Reader

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
        read = Reader(tensors, source)
        sizes = sorted(
            (int(r) for r, _, rest in (n.partition(".") for n in tensors) if rest == "conv.weight" and r.isdigit())
        )
        self.sizes = sizes[::-1]
        self.resolution = self.sizes[0] if sizes else 4

        def keep(name: str, shape: tuple[int | None, ...]) -> int:
            tensor = read(name, shape)
            self.register_buffer(name.replace(".", "_"), tensor)
            return tensor.shape[0]

        self.clamp = float(read("clamp", (), finite=False))
        channels = keep("rgb.weight", (None, 3, 1, 1))
        keep("rgb.bias", (channels,))
        for size in self.sizes:
            keep(f"{size}.conv.weight", (channels, channels, 3, 3))
            keep(f"{size}.conv.bias", (channels,))
            smaller = keep(f"{size}.down.weight", (None, channels, 3, 3))
            keep(f"{size}.down.bias", (smaller,))
            keep(f"{size}.skip.weight", (smaller, channels, 1, 1))
            channels = smaller
        last = keep("last.conv.weight", (None, channels + 1, 3, 3))
        keep("last.conv.bias", (last,))
        dense = keep("last.dense.weight", (None, last * 16))
        keep("last.dense.bias", (dense,))
        keep("last.out.weight", (1, dense))
        keep("last.out.bias", (1,))
        read.finish()

    def forward(self, picture: Tensor) -> Tensor:
        """[N, 3, R, R], -1..1, to logits [N, 1]."""
        if picture.ndim != 4 or picture.shape[1:] != (3, self.resolution, self.resolution):
            raise ValueError(
                f"pictures must be [N, 3, {self.resolution}, {self.resolution}], not {list(picture.shape)}"
            )
        x = activated(F.conv2d(picture, self._get("rgb.weight")), self._get("rgb.bias"), self.clamp)
        for size in self.sizes:
            skip = F.conv2d(blurred(x, padding=1, stride=2), self._get(f"{size}.skip.weight")) * _SHARE
            x = F.conv2d(x, self._get(f"{size}.conv.weight"), padding=1)
            x = activated(x, self._get(f"{size}.conv.bias"), self.clamp)
            x = F.conv2d(blurred(x, padding=2), self._get(f"{size}.down.weight"), stride=2)
            x = activated(x, self._get(f"{size}.down.bias"), self.clamp, _SHARE) + skip
        x = F.conv2d(with_spread(x), self._get("last.conv.weight"), padding=1)
        x = activated(x, self._get("last.conv.bias"), self.clamp).flatten(1)
        x = activated(F.linear(x, self._get("last.dense.weight")), self._get("last.dense.bias"), math.inf)
        return F.linear(x, self._get("last.out.weight"), self._get("last.out.bias"))

    def _get(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "_"))


def with_spread(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, C + 1, H, W]: with how much the pictures of a group differ, a constant plane."""
    group = min(_GROUP, len(x))
    if len(x) % group:
        raise ValueError(f"{len(x)} pictures do not part into groups of {group}")
    spread = (x.unflatten(0, (group, -1)).var(dim=0, unbiased=False) + _EPS).sqrt().mean(dim=(1, 2, 3))
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)
