"""MobileFaceNet trained with ArcFace: whether two pictures show the same person.

Sources: "MobileFaceNets", arXiv 1804.07573, table 1; "ArcFace", arXiv 1801.07698. The layers, their names and
activations (ReLU6 and ReLU, not PReLU) are those of foamliu/MobileFaceNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostec.weights.open import expecting
from ostec.weights.tensors import fill, read_weights, size_of

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STRIDES = (2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1)
"""Of the bottlenecks."""
_LAST_PX = 7
"""Side of the last feature map of a 112 px crop."""
_REMEDY = (
    "It is the network of https://github.com/foamliu/MobileFaceNet (Apache-2.0) as safetensors with upstream's names."
)


class FixedBatchNorm2d(nn.Module):
    """Batch normalisation by stored statistics."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> the same shape."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


def _conv(channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)


def _relu6_block(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, FixedBatchNorm2d(conv.out_channels), nn.ReLU6())


class Bottleneck(nn.Module):
    """MobileNetV2's block (arXiv 1801.04381): widen, depthwise convolution, project; a shortcut if it fits."""

    def __init__(self, channels_in: int, hidden: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _relu6_block(_conv(channels_in, hidden)),
            _relu6_block(_depthwise(hidden, stride)),
            _conv(hidden, channels_out),
            FixedBatchNorm2d(channels_out),
        )
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class SeparableConv(nn.Module):
    """Depthwise and pointwise convolution, a ReLU after each."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.depthwise, self.bn1 = _depthwise(channels_in), FixedBatchNorm2d(channels_in)
        self.pointwise, self.bn2 = _conv(channels_in, channels_out), FixedBatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]."""
        x = self.bn1(self.depthwise(x)).relu()
        return self.bn2(self.pointwise(x)).relu()


class GlobalConv(nn.Module):
    """Each channel's map weighted and summed: a mean that knows where things are in the crop."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, _LAST_PX, groups=channels, bias=False)
        self.bn = FixedBatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, 7, 7] -> [N, C, 1, 1]."""
        return self.bn(self.depthwise(x))


class MobileFaceNet(nn.Module):
    """The network. Differentiable with respect to the pictures."""

    mean: Tensor
    std: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """`tensors` by upstream's names, of any width; counters of batches are left out.

        Raises `BadWeights` naming `source` unless all names and shapes agree, all numbers are finite and no variance
        is negative.
        """
        super().__init__()
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}

        def channels(layer: str) -> int:
            return size_of(tensors, f"{layer}.weight", source)

        with torch.device("meta"):
            self.conv1 = _relu6_block(_conv(3, channels("conv1.0"), 3, stride=2))
            width = channels("dw_conv.pointwise")
            self.dw_conv = SeparableConv(channels("conv1.0"), width)
            blocks = []
            for i, stride in enumerate(_STRIDES):
                hidden, out = channels(f"features.{i}.conv.0.0"), channels(f"features.{i}.conv.2")
                blocks.append(Bottleneck(width, hidden, out, stride))
                width = out
            self.features = nn.Sequential(*blocks)
            last, embedded = channels("conv2.0"), channels("conv3")
            self.conv2 = _relu6_block(_conv(width, last))
            self.gdconv = GlobalConv(last)
            self.conv3 = nn.Conv2d(last, embedded, 1)
            self.bn = FixedBatchNorm2d(embedded)
        fill(self, tensors, source)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, 112, 112] sRGB 0..1, cut by `arcface_crop` -> embeddings [N, 128] of length 1; compare by cosine."""
        x = self.dw_conv(self.conv1((images - self.mean) / self.std))
        x = self.gdconv(self.conv2(self.features(x)))
        return F.normalize(self.bn(self.conv3(x)).flatten(1), dim=1)


def load_mobilefacenet(path: Path) -> MobileFaceNet:
    """The network in a safetensors file. Raises `MissingWeights`, `BadWeights`."""
    with expecting("a MobileFaceNet", path, _REMEDY):
        return MobileFaceNet(read_weights(path, _REMEDY), str(path))
