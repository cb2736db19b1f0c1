"""ResNet-50 without its last layer, as Deep3DFaceRecon (torchvision's) and the style encoder (Keras's) have it.

Source: "Deep Residual Learning for Image Recognition" (He et al., CVPR 2016, arXiv 1512.03385), table 1.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.nn import functional as F

from ostec.networks.named_tensors import EPS, NamedTensors

BLOCKS = tuple(f"layer{stage}.{i}" for stage, depth in enumerate((3, 4, 6, 3), start=1) for i in range(depth))


class ResNet50(NamedTensors):
    """Pictures to features. Batch normalisations are folded into the convolutions before them."""

    def __init__(
        self, tensors: Mapping[str, Tensor], eps: float = EPS, early_stride: bool = False, pool_padding: int = 1
    ) -> None:
        """`tensors` by torchvision's names, of any width; convolutions may have biases.

        `eps` is that of the batch normalisations; with `early_stride` the first convolution of a block shrinks the
        picture, as in the paper, else the second. Raises `KeyError`, `RuntimeError` where a tensor is missing or of a
        wrong size.
        """
        super().__init__()
        self._early_stride, self._pool_padding = early_stride, pool_padding
        self.fold(tensors, "conv1", "bn1", eps)
        for block in BLOCKS:
            for layer in (1, 2, 3):
                self.fold(tensors, f"{block}.conv{layer}", f"{block}.bn{layer}", eps)
            if block.endswith(".0"):
                self.fold(tensors, f"{block}.downsample.0", f"{block}.downsample.1", eps)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, C, H / 32, W / 32], rounded up; C is 2048 at full width."""
        x = F.max_pool2d(self.conv(pictures, "conv1", stride=2).relu_(), 3, 2, self._pool_padding)
        for block in BLOCKS:
            x = self._block(x, block)
        return x

    def _block(self, x: Tensor, name: str) -> Tensor:
        shortcut = f"{name}.downsample.0"
        stride = 2 if name.endswith(".0") and not name.startswith("layer1") else 1
        first, second = (stride, 1) if self._early_stride else (1, stride)
        straight = self.conv(x, shortcut, stride) if name.endswith(".0") else x
        x = self.conv(x, f"{name}.conv1", first).relu_()
        x = self.conv(x, f"{name}.conv2", second).relu_()
        return (self.conv(x, f"{name}.conv3") + straight).relu_()
