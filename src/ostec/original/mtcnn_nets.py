"""The three networks of MTCNN: one proposes faces at every place, one sorts them out, one places five points.

Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE Signal
Processing Letters 2016, with the layers and the weights of the PyPI package `mtcnn` 1.0.0 (MIT).
"""

from __future__ import annotations

from collections.abc import Mapping

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


def _channels_last(pictures: Tensor) -> Tensor:
    """As a processor pools them several times as fast."""
    return pictures.contiguous(memory_format=torch.channels_last)


class ProposalNet(nn.Module):
    """P-Net, fully convolutional."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(*_conv(3, 10, 3), _pool(2), *_conv(10, 16, 3), *_conv(16, 32, 3))
        self.box, self.face = nn.Conv2d(32, 4, 1), nn.Conv2d(32, 2, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] in -1..1 -> shifts of x0, y0, x1, y1 [N, 4, h, w] over the cell's side, probability [N, h, w].

        The cell of row r and column c begins at pixel 2r, 2c.
        """
        features = self.trunk(_channels_last(pictures))
        return self.box(features), F.softmax(self.face(features), dim=1)[:, 1]


class RefineNet(nn.Module):
    """R-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_conv(3, 28, 3), _pool(3), *_conv(28, 48, 3), _pool(3), *_conv(48, 64, 2), *_dense(576, 128)
        )
        self.box, self.face = nn.Linear(128, 4), nn.Linear(128, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 24, 24] in -1..1 -> shifts of the box [N, 4] over its sides, probability [N]."""
        features = self.trunk(_channels_last(crops))
        return self.box(features), F.softmax(self.face(features), dim=1)[:, 1]


class OutputNet(nn.Module):
    """O-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            *_conv(3, 32, 3),
            _pool(3),
            *_conv(32, 64, 3),
            _pool(3),
            *_conv(64, 64, 3),
            _pool(2),
            *_conv(64, 128, 2),
            *_dense(1152, 256),
        )
        self.box, self.points, self.face = nn.Linear(256, 4), nn.Linear(256, 10), nn.Linear(256, 2)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, 3, 48, 48] in -1..1 -> shifts of the box [N, 4], probability [N], points [N, 5, 2] over its sides."""
        features = self.trunk(_channels_last(crops))
        points = self.points(features).view(-1, 2, 5).transpose(1, 2)
        return self.box(features), F.softmax(self.face(features), dim=1)[:, 1], points


class MtcnnNets(nn.Module):
    """The three, from one state dict."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """Raises `BadWeights` naming `source` unless `tensors` are the networks' weights."""
        super().__init__()
        with torch.device("meta"):
            self.proposal, self.refine, self.output = ProposalNet(), RefineNet(), OutputNet()
        fill(self, tensors, source)
