"""The encoder that belongs to the generator of `tools/train_generator.py`: a guess of the latents that make a picture.

A line through all pixels of a small picture says most of it, one latent for all layers; a residual network that halves
the picture down to 4 px, then two dense layers, say what is to be added for each layer. Made by
`tools/train_encoder.py`; sizes come from the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.weights.tensors import Reader, read_weights

_REMEDY = "It is what tools/train_encoder.py writes."
_LAST_PX, _LARGEST_PX = 4, 1024
_SLOPE = 0.2


class FaceEncoder(nn.Module):
    """Pictures to latents.

    `tensors` by these names, for k = 0, 1, … as often as the picture is halved:

        w_avg [W], w_std [W]                                the mean latent, and how latents differ from it
        linear.weight [W, 3 P²], linear.bias [W]            of the picture at P px
        first.weight [C, 3, 3, 3], first.bias [C]
        {k}.conv.weight [C, C, 3, 3], {k}.conv.bias [C]
        {k}.down.weight [D, C, 3, 3], {k}.down.bias [D]     after it, means over 2 x 2 px
        {k}.skip.weight [D, C, 1, 1]
        dense.weight [E, 16 D], dense.bias [E]
        out.weight [L, W, E]

    Raises `BadWeights` naming `source` where one is missing, of a wrong shape, or holds a number that is not finite.
    """

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the encoder") -> None:
        super().__init__()
        read = Reader(tensors, source)

        self._names: list[str] = []

        def keep(name: str, shape: tuple[int | None, ...]) -> int:
            tensor = read(name, shape)
            self._names.append(name)
            self.register_parameter(name.replace(".", "_"), nn.Parameter(tensor))
            return tensor.shape[0]

        self.w_dim = keep("w_avg", (None,))
        keep("w_std", (self.w_dim,))
        keep("linear.weight", (self.w_dim, None))
        keep("linear.bias", (self.w_dim,))
        values = self._get("linear.weight").shape[1]
        self.linear_px = math.isqrt(values // 3)
        if values != 3 * self.linear_px**2 or not 1 <= self.linear_px <= _LARGEST_PX:
            raise BadWeights(f"{source}: {values} values are no square picture in colour. {_REMEDY}")
        channels = keep("first.weight", (None, 3, 3, 3))
        keep("first.bias", (channels,))
        self.halvings = 0
        while f"{self.halvings}.conv.weight" in tensors:
            name = str(self.halvings)
            keep(f"{name}.conv.weight", (channels, channels, 3, 3))
            keep(f"{name}.conv.bias", (channels,))
            smaller = keep(f"{name}.down.weight", (None, channels, 3, 3))
            keep(f"{name}.down.bias", (smaller,))
            keep(f"{name}.skip.weight", (smaller, channels, 1, 1))
            channels, self.halvings = smaller, self.halvings + 1
        self.size_px = _LAST_PX << self.halvings
        if self.size_px > _LARGEST_PX:
            raise BadWeights(f"{source} halves a picture {self.halvings} times, which no encoder does. {_REMEDY}")
        dense = keep("dense.weight", (None, channels * _LAST_PX**2))
        keep("dense.bias", (dense,))
        self.num_ws = keep("out.weight", (None, self.w_dim, dense))
        read.finish()

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] sRGB 0..1, cropped as FFHQ is, to latents [N, num_ws, w_dim]."""
        flat = _resized(pictures, self.linear_px).flatten(1) * 2 - 1
        linear = F.linear(flat, self._get("linear.weight"), self._get("linear.bias"))
        pictures = _resized(pictures, self.size_px)
        x = F.conv2d(pictures * 2 - 1, self._get("first.weight"), self._get("first.bias"), padding=1)
        for k in range(self.halvings):
            inner = F.leaky_relu(x, _SLOPE)
            inner = F.conv2d(inner, self._get(f"{k}.conv.weight"), self._get(f"{k}.conv.bias"), padding=1)
            inner = F.leaky_relu(inner, _SLOPE)
            inner = F.conv2d(inner, self._get(f"{k}.down.weight"), self._get(f"{k}.down.bias"), padding=1)
            x = F.avg_pool2d(inner, 2) + F.conv2d(F.avg_pool2d(x, 2), self._get(f"{k}.skip.weight"))
        x = F.linear(F.leaky_relu(x, _SLOPE).flatten(1), self._get("dense.weight"), self._get("dense.bias"))
        differs = torch.einsum("ne,lwe->nlw", F.leaky_relu(x, _SLOPE), self._get("out.weight"))
        return self._get("w_avg") + self._get("w_std") * (linear[:, None] + differs)

    def tensors(self) -> dict[str, Tensor]:
        """What such an encoder is made of."""
        return {name: self._get(name) for name in self._names}

    def _get(self, name: str) -> Tensor:
        return self.get_parameter(name.replace(".", "_"))


def _resized(pictures: Tensor, size_px: int) -> Tensor:
    size = pictures.shape[-1]
    if size == size_px:
        return pictures
    return F.interpolate(pictures, (size_px, size_px), mode="bilinear", antialias=size > size_px, align_corners=False)


def load_face_encoder(path: Path, device: torch.device | str = "cpu") -> FaceEncoder:
    """The encoder in a safetensors file. Raises `MissingWeights`, `BadWeights`."""
    return FaceEncoder(read_weights(path, _REMEDY), str(path)).to(device).eval().requires_grad_(False)
