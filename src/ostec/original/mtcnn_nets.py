"""The three networks of MTCNN: one proposes faces at every place, one sorts them out, one places five points.

Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE Signal
Processing Letters 2016, with the layers and the weights of the PyPI package `mtcnn` 1.0.0 (MIT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostec.weights.tensors import fill

PROPOSAL_PX, REFINE_PX, OUTPUT_PX = 12, 24, 48
"""What the networks see of a face; the first looks at every second pixel."""


def _conv(channels_in: int, channels_out: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels_out, kernel), nn.PReLU(channels_out)]


def _pool(kernel: int) -> nn.Module:
    return nn.MaxPool2d(kernel, stride=2, ceil_mode=True)


def _dense(features_in: int, features_out: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features_in, features_out), nn.PReLU(features_out)]


class _Net(nn.Module):
    """A trunk, and `box` and `face` of its features, made by `head(number of outputs)`."""

    def __init__(self, head: Callable[[int], nn.Module], *trunk: nn.Module) -> None:
        super().__init__()
        self.trunk, self.box, self.face = nn.Sequential(*trunk), head(4), head(2)

    def _features(self, pictures: Tensor) -> Tensor:
        """Of pictures with their channels last, as a processor pools them several times as fast."""
        return self.trunk(pictures.contiguous(memory_format=torch.channels_last))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """[N, 3, S, S] in -1..1 -> shifts of x0, y0, x1, y1 [N, 4] over the box's sides, probability [N].

        P-Net is fully convolutional: [N, 3, H, W] -> [N, 4, h, w] and [N, h, w]; the cell of row r and column c begins
        at pixel 2r, 2c.
        """
        features = self._features(pictures)
        return self.box(features), F.softmax(self.face(features), dim=1)[:, 1]


class _OutputNet(_Net):
    def __init__(self, *trunk: nn.Module) -> None:
        super().__init__(partial(nn.Linear, 256), *trunk)
        self.points = nn.Linear(256, 10)

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """[N, 3, 48, 48] in -1..1 -> as before, and points [N, 5, 2] over the box's sides."""
        features = self._features(pictures)
        points = self.points(features).view(-1, 2, 5).transpose(1, 2)
        return self.box(features), F.softmax(self.face(features), dim=1)[:, 1], points


class MtcnnNets(nn.Module):
    """The three, from one state dict."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """Raises `BadWeights` naming `source` unless `tensors` are the networks' weights."""
        super().__init__()
        with torch.device("meta"):
            first = *_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3)
            self.proposal = _Net(partial(nn.Conv2d, 32, kernel_size=1), *first)
            second = *_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2), *_dense(576, 128)
            self.refine = _Net(partial(nn.Linear, 128), *second)
            third = *_conv(3, 32, 3), _pool(3), *_conv(32, 64, 3), _pool(3), *_conv(64, 64, 3), _pool(2)
            self.output = _OutputNet(*third, *_conv(64, 128, 2), *_dense(1152, 256))
        fill(self, tensors, source)
