"""ArcFace's IResNet: whether two pictures show the same person.

Sources: "ArcFace", arXiv 1801.07698, section 3.2 (BN-convolution-BN-PReLU-convolution-BN blocks, then BN, linear, BN);
layer names of `arcface_torch` in deepinsight/insightface. Depth (18 to 200) and widths come from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.named_tensors import NORM_PARTS, NamedTensors
from ostec.weights.open import expecting
from ostec.weights.tensors import read_weights, require_finite

_SIDE_PX = 112
_REMEDY = "Save `backbone.pth` of an IResNet from InsightFace's arcface_torch model zoo."


class IResNet(NamedTensors):
    """Pictures to embeddings. Batch normalisations behind convolutions and the dense layer are folded into them.

    `tensors` is the state dict; where these normalisations have been folded already, their tensors are missing and the
    convolutions have biases. Raises `BadWeights` naming `source` where it is another network's.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the network") -> None:
        super().__init__()
        require_finite(tensors, source)
        self.blocks = [
            f"layer{stage}.{index}"
            for stage in range(1, 5)
            for index in range(sum(f"layer{stage}.{i}.conv1.weight" in tensors for i in range(100)))
        ]
        with expecting("an IResNet", source, ""):
            self.fold(tensors, "conv1", "bn1")
            self.fold(tensors, "fc", "features")
            for block in self.blocks:
                self.fold(tensors, f"{block}.conv1", f"{block}.bn2")
                self.fold(tensors, f"{block}.conv2", f"{block}.bn3")
                if f"{block}.downsample.0.weight" in tensors:
                    self.fold(tensors, f"{block}.downsample.0", f"{block}.downsample.1")
            norms = [
                f"{norm}.{part}" for norm in ("bn2", *(f"{block}.bn1" for block in self.blocks)) for part in NORM_PARTS
            ]
            for name in (*norms, "prelu.weight", *(f"{block}.prelu.weight" for block in self.blocks)):
                self.keep(name, tensors[name])
            with torch.no_grad():
                self(torch.zeros(1, 3, _SIDE_PX, _SIDE_PX))

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, 112, 112] sRGB 0..1, cut by `arcface_crop` -> embeddings [N, E] of length 1; compare by cosine."""
        x = F.prelu(self.conv(pictures * 2 - 1, "conv1"), self.get("prelu.weight"))
        for block in self.blocks:
            x = self._block(x, block)
        x = F.linear(self.norm(x, "bn2").flatten(1), self.get("fc.weight"), self.get("fc.bias"))
        return F.normalize(x, dim=1)

    def _block(self, x: Tensor, name: str) -> Tensor:
        shrinks = self.has(f"{name}.downsample.0.weight")
        straight = self.conv(x, f"{name}.downsample.0", stride=2) if shrinks else x
        x = F.prelu(self.conv(self.norm(x, f"{name}.bn1"), f"{name}.conv1"), self.get(f"{name}.prelu.weight"))
        return self.conv(x, f"{name}.conv2", stride=2 if shrinks else 1) + straight


def load_iresnet(path: Path) -> IResNet:
    """The network in a `.pth` or `.safetensors` file. Raises `MissingWeights`, `BadWeights`."""
    with expecting("an IResNet", path, _REMEDY):
        return IResNet(read_weights(path, _REMEDY), str(path))
