"""The encoder that belongs to the generator of `tools/train_generator.py`: a guess of the latents that make a picture.

A linear function of all pixels of a small picture gives one latent for all layers; a residual network that halves the
picture down to 4 px, then two dense layers, gives what is added to it for each layer. Made by
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
from ostec.weights.tensors import fill, read_weights, size_of

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

        def size(name: str, axis: int = 0) -> int:
            return size_of(tensors, name, source, axis)

        self.w_dim, values = size("w_avg"), size("linear.weight", 1)
        self.linear_px = math.isqrt(values // 3)
        if values != 3 * self.linear_px**2 or not 1 <= self.linear_px <= _LARGEST_PX:
            raise BadWeights(f"{source}: {values} values are no square picture in colour. {_REMEDY}")
        self.halvings = 0
        while f"{self.halvings}.conv.weight" in tensors:
            self.halvings += 1
        self.size_px = _LAST_PX << self.halvings
        if self.size_px > _LARGEST_PX:
            raise BadWeights(f"{source} halves a picture {self.halvings} times, which no encoder does. {_REMEDY}")
        channels, dense, self.num_ws = size("first.weight"), size("dense.weight"), size("out.weight")
        with torch.device("meta"):
            self.w_avg, self.w_std = (nn.Parameter(torch.empty(self.w_dim)) for _ in range(2))
            self.linear = nn.Linear(values, self.w_dim)
            self.first = nn.Conv2d(3, channels, 3, padding=1)
            for k in range(self.halvings):
                smaller = size(f"{k}.down.weight")
                conv, down = nn.Conv2d(channels, channels, 3, padding=1), nn.Conv2d(channels, smaller, 3, padding=1)
                skip = nn.Conv2d(channels, smaller, 1, bias=False)
                self.add_module(str(k), nn.ModuleDict({"conv": conv, "down": down, "skip": skip}))
                channels = smaller
            self.dense = nn.Linear(channels * _LAST_PX**2, dense)
            self.out = nn.ParameterDict({"weight": torch.empty(self.num_ws, self.w_dim, dense)})
        fill(self, tensors, source)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] sRGB 0..1, cropped as FFHQ is, to latents [N, num_ws, w_dim]."""
        linear = self.linear(_resized(pictures, self.linear_px).flatten(1) * 2 - 1)
        x = self.first(_resized(pictures, self.size_px) * 2 - 1)
        for k in range(self.halvings):
            layers = self.get_submodule(str(k))
            inner = layers.get_submodule("conv")(F.leaky_relu(x, _SLOPE))
            inner = layers.get_submodule("down")(F.leaky_relu(inner, _SLOPE))
            x = F.avg_pool2d(inner, 2) + layers.get_submodule("skip")(F.avg_pool2d(x, 2))
        x = F.leaky_relu(self.dense(F.leaky_relu(x, _SLOPE).flatten(1)), _SLOPE)
        differs = torch.einsum("ne,lwe->nlw", x, self.out["weight"])
        return self.w_avg + self.w_std * (linear[:, None] + differs)


def _resized(pictures: Tensor, size_px: int) -> Tensor:
    size = pictures.shape[-1]
    if size == size_px:
        return pictures
    return F.interpolate(pictures, (size_px, size_px), mode="bilinear", antialias=size > size_px, align_corners=False)


def load_face_encoder(path: Path, device: torch.device | str = "cpu") -> FaceEncoder:
    """The encoder in a safetensors file. Raises `MissingWeights`, `BadWeights`."""
    return FaceEncoder(read_weights(path, _REMEDY), str(path)).to(device)
