"""A generator's smaller pictures, for coarse-to-fine search."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.interfaces import Generator

_LARGEST_PX = 256
"""Above it, only the generator's own resolution is used."""
_SAMPLES, _SEED, _UNEXPLAINED = 4, 0, 0.5


class Pyramid:
    """A generator's pictures at powers of two, with the colours of the full picture.

    What the skip architecture has summed up at a resolution is not yet the picture: later layers add contrast. Gain and
    offset of each channel, measured on a few random faces, correct that; a size at which they explain less than half of
    the variance is not used. All of it is measured once, where it is first needed, and lives as long as the pyramid.
    """

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self._samples: tuple[Tensor, Tensor] | None = None
        self._colours: dict[int, tuple[Tensor, Tensor] | None] = {}

    def usable_size(self, size_px: int) -> int:
        """The smallest size from this power of two on that shows what the picture will be; of 0, the full size."""
        while 0 < size_px < self.generator.resolution and size_px <= _LARGEST_PX:
            if self._colour(size_px) is not None:
                return size_px
            size_px *= 2
        return self.generator.resolution

    def picture(self, w_plus: Tensor, size_px: int) -> Tensor:
        """[N, 3, S, S], about 0..1, not clipped, of latents [N, L, W]; S is a size that `usable_size` gives."""
        picture = self.generator.synthesis(w_plus, size_px)
        if size_px < self.generator.resolution:
            colour = self._colour(size_px)
            assert colour is not None, f"{size_px} px is no usable size"
            gain, offset = colour
            picture = picture * gain + offset
        return picture / 2 + 0.5

    def _colour(self, size_px: int) -> tuple[Tensor, Tensor] | None:
        """(gain, offset), each [3, 1, 1], that turn the small picture into the full one made smaller; or None."""
        if size_px not in self._colours:
            self._colours[size_px] = self._measured(size_px)
        return self._colours[size_px]

    @torch.no_grad()
    def _measured(self, size_px: int) -> tuple[Tensor, Tensor] | None:
        if self._samples is None:
            z = torch.randn(_SAMPLES, self.generator.z_dim, generator=torch.Generator().manual_seed(_SEED))
            w = self.generator.mapping(z.to(self.generator.w_avg))
            w_plus = w[:, None].expand(-1, self.generator.num_ws, -1)
            full = self.generator.synthesis(w_plus)
            self._samples = w_plus, downsample(full, min(_LARGEST_PX, full.shape[-1]))
        w_plus, full = self._samples
        small, wanted = self.generator.synthesis(w_plus, size_px), downsample(full, size_px)
        x, y = (t - t.mean(dim=(0, 2, 3), keepdim=True) for t in (small, wanted))
        gain = (x * y).sum(dim=(0, 2, 3)) / x.square().sum(dim=(0, 2, 3)).clamp(min=1e-8)
        gain = gain[:, None, None]
        if float((y - gain * x).square().sum() / y.square().sum()) >= _UNEXPLAINED:
            return None
        return gain, wanted.mean(dim=(0, 2, 3))[:, None, None] - gain * small.mean(dim=(0, 2, 3))[:, None, None]


def downsample(picture: Tensor, size_px: int) -> Tensor:
    """Means over squares of [N, C, R, R] down to `size_px`, a divisor of R."""
    return picture if picture.shape[-1] == size_px else F.avg_pool2d(picture, picture.shape[-1] // size_px)


def downsample_known(image: Tensor, trust: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """An image [N, C, R, R] and its trust [N, 1, R, R] at a smaller size: means over what is trusted."""
    smaller = downsample(trust, size_px)
    return downsample(image * trust, size_px) / smaller.clamp(min=1e-6), smaller
