"""FAN by its public definition, put together from torch's own modules, with few features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Three convolutions of a half, a quarter and a quarter of the features, side by side, beside a shortcut."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(features), nn.Conv2d(features, out // 2, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(out // 2), nn.Conv2d(out // 2, out // 4, 3, padding=1, bias=False)
        self.bn3, self.conv3 = nn.BatchNorm2d(out // 4), nn.Conv2d(out // 4, out // 4, 3, padding=1, bias=False)
        self.downsample = None
        if features != out:
            narrow = nn.Conv2d(features, out, 1, bias=False)
            self.downsample = nn.Sequential(nn.BatchNorm2d(features), nn.ReLU(), narrow)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(self.bn1(x).relu())
        second = self.conv2(self.bn2(first).relu())
        third = self.conv3(self.bn3(second).relu())
        return torch.cat([first, second, third], 1) + (x if self.downsample is None else self.downsample(x))


class Hourglass(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        for level in (4, 3, 2, 1):
            for branch in ("b1", "b2", "b3", *(("b2_plus",) if level == 1 else ())):
                self.add_module(f"{branch}_{level}", Block(features, features))

    def forward(self, x: Tensor) -> Tensor:
        blocks = dict(self.named_children())
        sides, y = {}, x
        for level in (4, 3, 2, 1):
            sides[level] = blocks[f"b1_{level}"](y)
            y = blocks[f"b2_{level}"](F.avg_pool2d(y, 2))
        y = blocks["b2_plus_1"](y)
        for level in (1, 2, 3, 4):
            y = blocks[f"b3_{level}"](y).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) + sides[level]
        return y


class SmallFan(nn.Module):
    """Heat maps of every stack."""

    def __init__(self, stacks: int = 2, features: int = 16, points: int = 68) -> None:
        super().__init__()
        self.stacks = stacks
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8)
        self.conv2, self.conv3, self.conv4 = Block(8, 12), Block(12, 12), Block(12, features)
        for i in range(stacks):
            self.add_module(f"m{i}", Hourglass(features))
            self.add_module(f"top_m_{i}", Block(features, features))
            self.add_module(f"conv_last{i}", nn.Conv2d(features, features, 1))
            self.add_module(f"bn_end{i}", nn.BatchNorm2d(features))
            self.add_module(f"l{i}", nn.Conv2d(features, points, 1))
            if i < stacks - 1:
                self.add_module(f"bl{i}", nn.Conv2d(features, features, 1))
                self.add_module(f"al{i}", nn.Conv2d(points, features, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        parts = dict(self.named_children())
        x = F.avg_pool2d(self.conv2(self.bn1(self.conv1(x)).relu()), 2)
        x = self.conv4(self.conv3(x))
        heats = []
        for i in range(self.stacks):
            y = parts[f"top_m_{i}"](parts[f"m{i}"](x))
            y = parts[f"bn_end{i}"](parts[f"conv_last{i}"](y)).relu()
            heats.append(parts[f"l{i}"](y))
            if i < self.stacks - 1:
                x = x + parts[f"bl{i}"](y) + parts[f"al{i}"](heats[-1])
        return heats


def small_fan(**sizes: int) -> SmallFan:
    """With random weights, statistics included."""
    torch.manual_seed(0)
    net = SmallFan(**sizes)
    for name, buffer in net.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 1.5) if name.endswith("var") else buffer.uniform_(-0.3, 0.3)
    for parameter in net.parameters():
        parameter.data.add_(torch.randn_like(parameter) / max(parameter[0].numel(), 16) ** 0.5)
    return net.eval().requires_grad_(False)
