"""MobileFaceNet trained with ArcFace: whether two pictures show the same person.

Sources: "MobileFaceNets", arXiv 1804.07573, table 1; "ArcFace", arXiv 1801.07698. The layers, their names and
activations (ReLU6 and ReLU, not PReLU) are those of foamliu/MobileFaceNet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ostec.networks.named_tensors import NORM_PARTS, NamedTensors
from ostec.weights.open import expecting
from ostec.weights.tensors import read_weights, require_finite

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STRIDES = (2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1)
"""Of the bottlenecks."""
_LAYERS = (
    ("conv1.0", "conv1.1"),
    ("dw_conv.depthwise", "dw_conv.bn1"),
    ("dw_conv.pointwise", "dw_conv.bn2"),
    *(
        (f"features.{i}.conv.{conv}", f"features.{i}.conv.{norm}")
        for i in range(len(_STRIDES))
        for conv, norm in (("0.0", "0.1"), ("1.0", "1.1"), ("2", "3"))
    ),
    ("conv2.0", "conv2.1"),
    ("gdconv.depthwise", "gdconv.bn"),
    ("conv3", "bn"),
)
"""(convolution, the batch normalisation behind it)."""
_REMEDY = (
    "It is the network of https://github.com/foamliu/MobileFaceNet (Apache-2.0) as safetensors with upstream's names."
)


class MobileFaceNet(NamedTensors):
    """The network, batch normalisations folded into the convolutions before them. Differentiable in the pictures."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """`tensors` by upstream's names, of any width; counters of batches are left out.

        Raises `BadWeights` naming `source` unless all names and shapes agree, all numbers are finite and no variance
        is negative.
        """
        super().__init__()
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
        with expecting("a MobileFaceNet", source, _REMEDY):
            require_finite(tensors, source)
            for conv, norm in _LAYERS:
                self.fold(tensors, conv, norm)
            known = {f"{norm}.{part}" for _, norm in _LAYERS for part in NORM_PARTS} | {"conv3.bias"}
            unknown = tensors.keys() - known - {f"{conv}.weight" for conv, _ in _LAYERS}
            if unknown:
                raise ValueError(f"it has the tensor {min(unknown)!r}")
            self.keep("mean", torch.tensor(_MEAN)[:, None, None])
            self.keep("std", torch.tensor(_STD)[:, None, None])
            with torch.no_grad():
                self(torch.zeros(1, 3, 112, 112))

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, 112, 112] sRGB 0..1, cut by `arcface_crop` -> embeddings [N, 128] of length 1; compare by cosine."""
        x = F.relu6(self.conv((images - self.get("mean")) / self.get("std"), "conv1.0", stride=2))
        x = self.conv(self.conv(x, "dw_conv.depthwise").relu(), "dw_conv.pointwise").relu()
        for i, stride in enumerate(_STRIDES):
            x = self._bottleneck(x, f"features.{i}.conv", stride)
        x = F.relu6(self.conv(x, "conv2.0"))
        x = F.conv2d(x, self.get("gdconv.depthwise.weight"), self.get("gdconv.depthwise.bias"), groups=x.shape[1])
        return F.normalize(self.conv(x, "conv3").flatten(1), dim=1)

    def _bottleneck(self, x: Tensor, name: str, stride: int) -> Tensor:
        """MobileNetV2's block (arXiv 1801.04381): widen, depthwise convolution, project; a shortcut if it fits."""
        y = F.relu6(self.conv(x, f"{name}.0.0"))
        y = self.conv(F.relu6(self.conv(y, f"{name}.1.0", stride)), f"{name}.2")
        return x + y if x.shape == y.shape else y


def load_mobilefacenet(path: Path) -> MobileFaceNet:
    """The network in a safetensors file. Raises `MissingWeights`, `BadWeights`."""
    return MobileFaceNet(read_weights(path, _REMEDY), str(path))
