"""MediaPipe's selfie segmentation in torch: how likely each pixel shows a person, hair and clothes included.

Weights of `selfie_segmentation.tflite` in MediaPipe 0.10.21. The encoder is MobileNetV3's (arXiv 1905.02244,
section 5), the decoder merges scales by channel attention.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ostec.networks.blaze import SameConv2d
from ostec.weights.shipped import DATA_DIR, read_tensors
from ostec.weights.tensors import fill

INPUT_PX = 256


class Gate(nn.Module):
    """Squeeze-and-excitation (arXiv 1709.01507): maps channel means to channel weights in 0..1."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, 1, 1]."""
        return self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))).sigmoid()


class InvertedResidual(nn.Module):
    """MobileNetV3's block: widen, depthwise convolution, gate where `squeezed` > 0, project; a shortcut if it fits."""

    def __init__(
        self, channels: tuple[int, int, int], kernel: int, stride: int = 1, squeezed: int = 0, hard: bool = True
    ) -> None:
        """`channels` = (in, widened, out); `hard` takes hard-swish as the activation, else ReLU."""
        super().__init__()
        channels_in, widened, channels_out = channels
        self.expand = nn.Conv2d(channels_in, widened, 1)
        self.depthwise = SameConv2d(widened, widened, kernel, stride, groups=widened)
        self.gate = Gate(widened, squeezed) if squeezed else None
        self.project = nn.Conv2d(widened, channels_out, 1)
        self.act = nn.Hardswish() if hard else nn.ReLU()
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H / stride, W / stride]."""
        wide = self.act(self.depthwise(self.act(self.expand(x))))
        if self.gate is not None:
            wide = wide * self.gate(wide)
        out = self.project(wide)
        return out + x if self.shortcut else out


class GlobalHead(nn.Module):
    """Features weighted by channel, from their means over the picture."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.features = nn.Conv2d(channels_in, channels_out, 1)
        self.gate = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] -> [N, out, H, W]."""
        return F.relu(self.features(x)) * self.gate(x.mean(dim=(2, 3), keepdim=True)).sigmoid()


class UpBlock(nn.Module):
    """Doubles the size of coarse features and adds the encoder's features of that size."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels_in, channels, 1)
        self.gate = Gate(channels, channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.depthwise = SameConv2d(channels, channels, 3, groups=channels)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """[N, in, H, W], [N, C, 2H, 2W] -> [N, C, 2H, 2W]."""
        coarse = self.project(F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False))
        mixed = F.relu(self.mix(coarse + fine * self.gate(coarse + fine)))
        return mixed + F.relu(self.depthwise(mixed))


class SelfieNet(nn.Module):
    """The segmentation network."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """`tensors`: the 110 tensors by name, of any float type. Raises `BadWeights` naming `source`."""
        super().__init__()
        with torch.device("meta"):
            self.stem = nn.Sequential(SameConv2d(3, 16, 3, stride=2), nn.Hardswish())
            self.to_64 = InvertedResidual((16, 16, 16), 3, stride=2, squeezed=8, hard=False)
            first = InvertedResidual((16, 72, 24), 3, stride=2, hard=False)
            self.to_32 = nn.Sequential(first, InvertedResidual((24, 88, 24), 3, hard=False))
            first = InvertedResidual((24, 96, 32), 5, stride=2, squeezed=24)
            rest = (InvertedResidual((32, wide, 32), 5, squeezed=wide // 4) for wide in (128, 128, 96, 96))
            self.to_16 = nn.Sequential(first, *rest)
            self.head = GlobalHead(32, 128)
            self.from_16, self.from_32, self.from_64 = UpBlock(128, 24), UpBlock(24, 16), UpBlock(16, 16)
            self.mask = nn.ConvTranspose2d(16, 1, 2, stride=2)
        fill(self, tensors, source)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, 256, 256] RGB 0..1 -> [N, 256, 256] probability of a person."""
        at_128 = self.stem(pictures)
        at_64 = self.to_64(at_128)
        at_32 = self.to_32(at_64)
        up = self.from_16(self.head(self.to_16(at_32)), at_32)
        up = self.from_64(self.from_32(up, at_64), at_128)
        return self.mask(up)[:, 0].sigmoid()


def load_selfie_net() -> SelfieNet:
    """The network with the shipped weights. Raises `MissingWeights`, `BadWeights`."""
    path = DATA_DIR / "selfie_segmentation.safetensors"
    return SelfieNet(read_tensors(path), str(path))


@torch.inference_mode()
def person_mask(net: SelfieNet, rgb: Tensor) -> Tensor:
    """[256, 256] in 0..1: the probability of a person in `rgb` [3, h, w] 0..1, which is stretched to 256 x 256."""
    size = (INPUT_PX, INPUT_PX)
    picture = rgb[None].float()
    if picture.shape[2:] != size:
        picture = F.interpolate(picture, size, mode="bilinear", align_corners=False, antialias=True)
    return net(picture)[0]
