"""LPIPS v0.1: how different two pictures look, by features of a network trained to recognise things.

Source: "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", arXiv 1801.03924, section 3. Trunks
are torchvision's state dicts of VGG16, AlexNet and SqueezeNet 1.1, heads the authors' linear ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.networks.named_tensors import NamedTensors
from ostec.weights.open import expecting
from ostec.weights.tensors import read_weights, require_finite

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""Of RGB in -1..1."""
_EPS = 1e-10
_REMEDY = (
    "Trunks: vgg16-397923af.pth, alexnet-owt-7be5be79.pth or squeezenet1_1-b8a52dc0.pth from "
    "https://download.pytorch.org/models/ ; heads: v0.1/vgg.pth, alex.pth or squeeze.pth of the same network from "
    "https://github.com/richzhang/PerceptualSimilarity (lpips/weights)."
)


_CONV, _RELU, _FIRE = ("conv", 3, 1, 1), ("relu",), ("fire",)
_PAIR = (_CONV, _RELU)
_SHRINK = ("pool", 2, False)
_LAYOUTS: Mapping[str, tuple[tuple[tuple, ...], tuple[int, ...]]] = {
    "vgg": (
        (*_PAIR * 2, _SHRINK, *_PAIR * 2, _SHRINK, *_PAIR * 3, _SHRINK, *_PAIR * 3, _SHRINK, *_PAIR * 3),
        (3, 8, 15, 22, 29),
    ),
    "alex": (
        (("conv", 11, 4, 2), _RELU, ("pool", 3, False), ("conv", 5, 1, 2), _RELU, ("pool", 3, False), *_PAIR * 3),
        (1, 4, 7, 9, 11),
    ),
    "squeeze": (
        (("conv", 3, 2, 0), _RELU, *(("pool", 3, True), _FIRE, _FIRE) * 2, ("pool", 3, True), *(_FIRE,) * 4),
        (1, 4, 7, 9, 10, 11, 12),
    ),
}
"""Trunk -> its layers in the order of torchvision's `features.N`, and after which of them features are taken.

A layer is ("conv", kernel, stride, padding), ("relu",), ("pool", kernel, ceil_mode) or ("fire",).
"""


class Trunk(NamedTensors):
    """The convolutions of VGG16, AlexNet or SqueezeNet 1.1 (arXiv 1602.07360), of any width."""

    kind: str
    """Which of them: "vgg", "alex" or "squeeze"."""
    tap_channels: list[int]

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """`tensors` by torchvision's names; those not of `features` are left out. Raises `BadWeights`."""
        super().__init__()
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
        places = {name.split(".")[1] for name in tensors}
        kinds = [
            kind
            for kind, (layers, _) in _LAYOUTS.items()
            if places == {str(i) for i, layer in enumerate(layers) if layer[0] in ("conv", "fire")}
        ]
        if not kinds:
            raise BadWeights(
                f"{source} is none of torchvision's VGG16, AlexNet and SqueezeNet 1.1, by its tensor names."
            )
        self.kind = kinds[0]
        self._layers, self._taps = _LAYOUTS[self.kind]
        require_finite(tensors, source)
        widths = [3]
        with expecting("a trunk of LPIPS", source, ""):
            for i, layer in enumerate(self._layers):
                name, channels = f"features.{i}", widths[-1]
                if layer[0] == "conv":
                    channels = self._keep_conv(tensors, name, channels, layer[1])
                elif layer[0] == "fire":
                    few = self._keep_conv(tensors, f"{name}.squeeze", channels, 1)
                    channels = sum(self._keep_conv(tensors, f"{name}.expand{k}x{k}", few, k) for k in (1, 3))
                widths.append(channels)
        self.tap_channels = [widths[tap + 1] for tap in self._taps]

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, 3, H, W], normalised -> features [N, C, h, w] of every tap, fine to coarse, >= 0."""
        taps = []
        for i, (kind, *how) in enumerate(self._layers):
            if kind == "conv":
                weight, bias = self.get(f"features.{i}.weight"), self.get(f"features.{i}.bias")
                x = F.conv2d(x, weight, bias, how[1], how[2])
            elif kind == "fire":  # few channels, then many by 1x1 beside many by 3x3
                few = self.conv(x, f"features.{i}.squeeze").relu()
                x = torch.cat([self.conv(few, f"features.{i}.expand{k}x{k}") for k in (1, 3)], dim=1).relu()
            else:
                x = x.relu() if kind == "relu" else F.max_pool2d(x, how[0], 2, ceil_mode=how[1])
            if i in self._taps:
                taps.append(x)
        return taps

    def _keep_conv(self, tensors: Mapping[str, Tensor], name: str, channels: int, kernel: int) -> int:
        """Stores a convolution, and gives its channels. Raises `ValueError`, `KeyError`."""
        weight, bias = (tensors[f"{name}.{part}"] for part in ("weight", "bias"))
        if weight.shape[1:] != (channels, kernel, kernel) or bias.shape != weight.shape[:1] or not len(bias):
            raise ValueError(f"'{name}.weight' is {list(weight.shape)} and its bias {list(bias.shape)}")
        self.keep(f"{name}.weight", weight)
        self.keep(f"{name}.bias", bias)
        return len(weight)


class Lpips(NamedTensors):
    """The distance of a trunk and its heads. Differentiable with respect to the pictures."""

    def __init__(
        self,
        trunk: Mapping[str, Tensor],
        heads: Mapping[str, Tensor],
        sources: tuple[str, str] = ("the trunk's state dict", "the heads' state dict"),
    ) -> None:
        """`trunk`: torchvision's state dict, recognised by its names; `heads`: `lin{i}.model.1.weight` [1, C, 1, 1].

        Raises `BadWeights` naming one of `sources` unless all names and shapes agree and all numbers are finite.
        """
        super().__init__()
        self.trunk = Trunk(trunk, sources[0])
        wanted = {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate(self.trunk.tap_channels)}
        if wanted != {name: tuple(head.shape) for name, head in heads.items()}:
            raise BadWeights(f"{sources[1]} does not hold the LPIPS heads of a {self.trunk.kind} trunk: {wanted}.")
        require_finite(heads, sources[1])
        for i, name in enumerate(wanted):
            self.keep(f"head{i}", heads[name].flatten())
        self.keep("shift", torch.tensor(_SHIFT)[:, None, None])
        self.keep("scale", torch.tensor(_SCALE)[:, None, None])
        self.eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """[N, 3, H, W] each, sRGB 0..1 -> distances [N] >= 0. Sides of at least 32 px."""
        return self.compare(self.features(first), self.features(second))

    def features(self, pictures: Tensor) -> list[Tensor]:
        """[N, 3, H, W] sRGB 0..1 -> features [N, C, h, w] >= 0, not normalised, fine to coarse.

        Of VGG16 these are block1_conv2, block2_conv2, block3_conv3, block4_conv3 and block5_conv3 after their ReLUs.
        """
        return self.trunk((2 * pictures - 1 - self.get("shift")) / self.get("scale"))

    def compare(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances [N] of pictures whose `features` are known."""
        heads = [self.get(f"head{i}") for i in range(len(self.trunk.tap_channels))]
        squares = ((_unit(a) - _unit(b)).square() for a, b in zip(first, second, strict=True))
        layers = [torch.einsum("nchw,c->nhw", s, h).mean(dim=(1, 2)) for s, h in zip(squares, heads, strict=True)]
        return torch.stack(layers).sum(dim=0)


def _unit(features: Tensor) -> Tensor:
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + _EPS)


def load_lpips(trunk: Path, heads: Path) -> Lpips:
    """LPIPS of a trunk's file and a heads' file, `.safetensors` or `.pth`. Raises `MissingWeights`, `BadWeights`."""
    with expecting("a network of LPIPS", trunk, _REMEDY):
        return Lpips(read_weights(trunk, _REMEDY), read_weights(heads, _REMEDY), (str(trunk), str(heads)))
