"""ArcFace's IResNet: whether two pictures show the same person.

Sources: "ArcFace", arXiv 1801.07698, section 3.2 (BN-convolution-BN-PReLU-convolution-BN blocks, then BN, linear, BN);
layer names of `arcface_torch` in deepinsight/insightface. Depth (18 to 200) and widths come from the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.weights.tensors import read_weights, require_finite

EPS = 1e-5
_SIDE_PX = 112
_REMEDY = "Save `backbone.pth` of an IResNet from InsightFace's arcface_torch model zoo."


class IResNet(nn.Module):
    """Pictures to embeddings. `tensors` is the state dict; raises `BadWeights` naming `source` where it is another."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the network") -> None:
        super().__init__()
        require_finite(tensors, source)
        self._names = {name: name.replace(".", "_") for name in tensors if not name.endswith("num_batches_tracked")}
        for name, safe in self._names.items():
            self.register_buffer(safe, tensors[name].float())
        self.blocks = [
            f"layer{stage}.{index}"
            for stage in range(1, 5)
            for index in range(sum(f"layer{stage}.{i}.conv1.weight" in tensors for i in range(100)))
        ]
        try:
            with torch.no_grad():
                self(torch.zeros(1, 3, _SIDE_PX, _SIDE_PX))
        except (KeyError, RuntimeError) as error:
            raise BadWeights(f"{source} is not an IResNet: {str(error).splitlines()[0]}.") from error

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, 112, 112] sRGB 0..1, cut by `arcface_crop` -> embeddings [N, E] of length 1; compare by cosine."""
        x = F.conv2d(pictures * 2 - 1, self._get("conv1.weight"), padding=1)
        x = F.prelu(self._norm(x, "bn1"), self._get("prelu.weight"))
        for block in self.blocks:
            x = self._block(x, block)
        x = F.linear(self._norm(x, "bn2").flatten(1), self._get("fc.weight"), self._get("fc.bias"))
        return F.normalize(self._norm(x, "features"), dim=1)

    def _block(self, x: Tensor, name: str) -> Tensor:
        shrinks = f"{name}.downsample.0.weight" in self._names
        straight = x
        if shrinks:
            straight = F.conv2d(x, self._get(f"{name}.downsample.0.weight"), stride=2)
            straight = self._norm(straight, f"{name}.downsample.1")
        x = F.conv2d(self._norm(x, f"{name}.bn1"), self._get(f"{name}.conv1.weight"), padding=1)
        x = F.prelu(self._norm(x, f"{name}.bn2"), self._get(f"{name}.prelu.weight"))
        x = F.conv2d(x, self._get(f"{name}.conv2.weight"), stride=2 if shrinks else 1, padding=1)
        return self._norm(x, f"{name}.bn3") + straight

    def _norm(self, x: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (
            self._get(f"{name}.{part}") for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=EPS)

    def _get(self, name: str) -> Tensor:
        return self.get_buffer(self._names[name])


def load_iresnet(path: Path) -> IResNet:
    """The network in a `.pth` or `.safetensors` file. Raises `MissingWeights`, `BadWeights`."""
    tensors = read_weights(path, _REMEDY)
    try:
        return IResNet(tensors, str(path))
    except BadWeights as error:
        raise BadWeights(f"{error} {_REMEDY}") from error
