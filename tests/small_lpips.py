"""A small VGG16 with LPIPS heads, and NVIDIA's TorchScript file of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ostec.networks.lpips import Lpips

WIDTHS = (4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32)
"""A sixteenth of VGG16's."""
PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
HEADS = (4, 8, 16, 32, 32)


class Weights:
    """Random weights, by the order of the layers."""

    def __init__(self) -> None:
        sizes = zip((3, *WIDTHS), WIDTHS, strict=False)
        self.kernels = [torch.randn(out, inside, 3, 3) * (2 / 9 / inside) ** 0.5 for inside, out in sizes]
        self.biases = [torch.randn(width) * 0.1 for width in WIDTHS]
        self.heads = [torch.rand(width) for width in HEADS]

    def trunk(self) -> dict[str, Tensor]:
        """By torchvision's names."""
        named = {f"features.{place}.weight": kernel for place, kernel in zip(PLACES, self.kernels, strict=True)}
        return named | {f"features.{place}.bias": bias for place, bias in zip(PLACES, self.biases, strict=True)}

    def named_heads(self) -> dict[str, Tensor]:
        """By their authors' names."""
        return {f"lin{i}.model.1.weight": head[None, :, None, None] for i, head in enumerate(self.heads)}

    def lpips(self) -> Lpips:
        """The network."""
        return Lpips(self.trunk(), self.named_heads())


class _Script(nn.Module):
    """As `vgg16.pt`: the layers below one module, the heads beside it, and the layers that LPIPS does without."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.layers = nn.Module()
        for i, (kernel, bias) in enumerate(zip(weights.kernels, weights.biases, strict=True), start=1):
            layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, 1, 1)
            layer.weight.data, layer.bias.data = kernel, bias  # pyright: ignore[reportOptionalMemberAccess]
            self.layers.add_module(f"conv{i}", layer)
        self.layers.add_module("fc1", nn.Linear(7, 5))
        for i, head in enumerate(weights.heads):
            self.register_buffer(f"lpips{i}", head[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x


def save_script(weights: Weights, path: Path) -> Path:
    """Write the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(_Script(weights)), path)
    return path
