"""What the Blaze family of networks (BlazeFace, FaceMesh) is built of.

Source: "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", arXiv 1907.05047, section 3.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: an odd pixel of the border goes to the right and the bottom."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels_in, channels_out, kernel, stride, padding, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)]."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in input.shape[2:])
            input = F.pad(input, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(input)


class BlazeBlock(nn.Module):
    """Depthwise 3x3 and pointwise convolution beside a shortcut, then the activation `act`.

    With stride 2 the shortcut is a 2x2 max pool; new channels of the shortcut are zeros at the end.
    """

    def __init__(self, channels_in: int, channels_out: int, act: nn.Module, stride: int = 1) -> None:
        super().__init__()
        depthwise = SameConv2d(channels_in, channels_in, 3, stride, groups=channels_in)
        self.convs = nn.Sequential(depthwise, nn.Conv2d(channels_in, channels_out, 1))
        self.act = act
        self.stride = stride
        self.new_channels = channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]; H and W are multiples of the stride."""
        shortcut = F.max_pool2d(x, 2) if self.stride == 2 else x
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return self.act(self.convs(x) + shortcut)
