"""MediaPipe's FaceMesh V2 in torch, with room for what training adds: more points, how sure each is, a part map.

Source: the model card "MediaPipe Face Mesh V2"; its layers are those of BlazeFace (arXiv 1907.05047) with a bottleneck.
Sizes follow from the shapes of the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostec.errors import BadWeights
from ostec.networks.blaze import SameConv2d
from ostec.weights.shipped import read_tensors
from ostec.weights.tensors import fill, size_of

INPUT_PX = 256
PARTS = ("background", "skin", "ear", "neck", "lips", "eye", "brow", "hair", "glasses", "occluder")
"""Classes of the part map, in the order of its channels."""


class Bottleneck(nn.Module):
    """1x1 to half the channels, depthwise 3x3, 1x1, beside a shortcut; each followed by PReLU but the depthwise one.

    With stride 2 the first convolution is 2x2, the shortcut a 2x2 max pool; its new channels are zeros at the end.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        narrow = channels_out // 2
        self.narrow = nn.Sequential(nn.Conv2d(channels_in, narrow, stride, stride), nn.PReLU(narrow))
        self.depthwise = SameConv2d(narrow, narrow, 3, groups=narrow)
        self.widen = nn.Conv2d(narrow, channels_out, 1)
        self.act = nn.PReLU(channels_out)
        self.stride, self.new_channels = stride, channels_out - channels_in

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]; H and W are multiples of the stride."""
        shortcut = F.max_pool2d(x, 2) if self.stride == 2 else x
        if self.new_channels:
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels))
        return self.act(self.widen(self.depthwise(self.narrow(x))) + shortcut)


class PartDecoder(nn.Module):
    """From features of five resolutions to a part map, coarse to fine."""

    def __init__(self, channels: list[int], width: int, parts: int) -> None:
        """`channels`: of the features, finest first."""
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(own, width, 1) for own in channels)
        self.mix = nn.ModuleList(
            nn.Sequential(SameConv2d(width, width, 3, groups=width), nn.Conv2d(width, width, 1), nn.PReLU(width))
            for _ in channels[:-1]
        )
        self.out = nn.Conv2d(width, parts, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features, finest first, each half the size of the one before -> logits [N, parts, 2H, 2W]."""
        return F.interpolate(self.coarse(features), scale_factor=2.0, mode="bilinear", align_corners=False)

    def coarse(self, features: list[Tensor]) -> Tensor:
        """The logits at the size of the finest features, [N, parts, H, W]."""
        x = self.lateral[-1](features[-1])
        for k in reversed(range(len(self.mix))):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") + self.lateral[k](features[k])
            x = x + self.mix[k](x)
        return self.out(x)


class FaceNet(nn.Module):
    """Points, their uncertainty, presence and parts of one face in a crop."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """`tensors` by name; those of `spread` and `decoder` may be absent. Raises `BadWeights` naming `source`."""
        super().__init__()
        widths, blocks = _stages(tensors, source)
        with torch.device("meta"):
            self.stem = nn.Sequential(SameConv2d(3, widths[0], 3, stride=2), nn.PReLU(widths[0]))
            self.stages = nn.ModuleList()
            for k, (width, count) in enumerate(zip(widths, blocks, strict=True)):
                first = Bottleneck(widths[k - 1], width, stride=2) if k else Bottleneck(width, width)
                self.stages.append(nn.Sequential(first, *(Bottleneck(width, width) for _ in range(count - 1))))
            self.points = nn.Conv2d(widths[-1], size_of(tensors, "points.weight", source), 2)
            self.presence = nn.Conv2d(widths[-1], 1, 2)
            self.spread = self.decoder = None
            if "spread.weight" in tensors:
                self.spread = nn.Conv2d(widths[-1], size_of(tensors, "spread.weight", source), 2)
            if "decoder.out.weight" in tensors:
                parts = size_of(tensors, "decoder.out.weight", source)
                levels = sum(name.startswith("decoder.lateral") for name in tensors) // 2
                width = size_of(tensors, "decoder.lateral.0.weight", source)
                self.decoder = PartDecoder(widths[:levels], width, parts)
        fill(self, tensors, source)

    def features(self, crops: Tensor) -> list[Tensor]:
        """[N, 3, 256, 256] RGB 0..1 -> the features of each stage, finest first: 128 px, then halves down to 2 px."""
        x, found = self.stem(crops.contiguous(memory_format=torch.channels_last)), []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 256, 256] RGB 0..1 -> points [N, P, 3] in crop px (smaller z is nearer), presence logits [N].

        The first 468 points are FaceMesh's; then the subject's right and left iris, each its centre and four points
        on the rim; then what training added.
        """
        last = self.features(crops)[-1]
        return self.points(last).view(len(crops), -1, 3), self.presence(last).view(-1)


def load_face_net(path: Path) -> FaceNet:
    """The network in a file. Raises `MissingWeights`, `BadWeights`."""
    return FaceNet(read_tensors(path), str(path))


def _stages(tensors: Mapping[str, Tensor], source: str) -> tuple[list[int], list[int]]:
    """(Channels, number of blocks) of each stage."""
    widths: list[int] = []
    blocks: list[int] = []
    while f"stages.{len(widths)}.0.widen.weight" in tensors:
        k = len(widths)
        widths.append(size_of(tensors, f"stages.{k}.0.widen.weight", source))
        blocks.append(sum(name.startswith(f"stages.{k}.") and name.endswith("widen.weight") for name in tensors))
    if not widths:
        raise BadWeights(f"{source} does not hold the weights of FaceNet: it lacks 'stages.0.0.widen.weight'.")
    return widths, blocks
