"""StyleGAN2's generator, for use and not for training.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, sections 2 and 4, appendix B:
weight demodulation, skip connections, fixed noise. Sizes come from the tensors. Where every public format keeps weights
at unit scale, these are ready to use (`stylegan2_files` sees to that).

In the plain formulas the style multiplies activations and not weights, which is the same thing: only gradients
with respect to the latent are needed, so none with respect to a weight is ever computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from copy import copy, deepcopy
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.networks.stylegan2_fused import FixedParts, FusedLayer, kernels
from ostec.weights.tensors import fill, size_of

Latents = tuple[Tensor, ...]

SLOPE, GAIN = 0.2, math.sqrt(2)
"""Of the leaky ReLU, and what follows it."""
_EPS = 1e-8
_FIRST_PX = 4
_NATIVE_BFLOAT16 = (8, 0)
"""The first compute capability with bfloat16 in hardware (Ampere); older GPUs emulate it, slower than float32."""
_FUSED_FROM = 1 << 21


class Generator(nn.Module):
    """Latents to pictures.

    `tensors` by these names, float32, where r is 4, 8, 16, … up to the resolution:

        w_avg [W]                       the mean latent
        mapping.{i}.weight [W, Z or W], mapping.{i}.bias [W]
        const [C, 4, 4]                 what synthesis begins with
        {r}.up, {r}.conv, {r}.rgb       the convolutions of a resolution (4 has no up), each with
            .weight [O, I, k, k], .bias [O], .style_weight [I, W], .style_bias [I] and, but for rgb, .noise [r, r]
        clamp []                        bound of activations; infinity where there is none

    Raises `BadWeights` naming `source` where one is missing, of a wrong shape, or holds a number that is not finite.
    """

    w_avg: Tensor
    const: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the generator") -> None:
        super().__init__()
        tensors, self.clamp = split_clamp(tensors, source)
        width = size_of(tensors, "w_avg", source)
        channels, size = size_of(tensors, "const", source), _FIRST_PX
        with torch.device("meta"):
            self.register_buffer("w_avg", torch.empty(width))
            self.register_buffer("const", torch.empty(channels, _FIRST_PX, _FIRST_PX))
            self.mapping_layers, self.blocks = nn.ModuleList(), list[_Block]()
            while (name := f"mapping.{len(self.mapping_layers)}.weight") in tensors:
                fan_in = width if len(self.mapping_layers) else size_of(tensors, name, source, 1)
                self.mapping_layers.append(nn.Linear(fan_in, width))
            while not self.blocks or f"{size}.conv.weight" in tensors:
                out = [
                    size_of(tensors, f"{size}.{kind}.weight", source) for kind in ("up", "conv")[size == _FIRST_PX :]
                ]
                self.blocks.append(_Block(size, (channels, *out), width))
                self.add_module(str(size), self.blocks[-1])
                channels, size = out[-1], 2 * size
        fill(self, {name.replace("mapping.", "mapping_layers."): t for name, t in tensors.items()}, source)
        self.fused_from: float = _FUSED_FROM
        """On a CPU, layers of at least so many activations work in fewer passes over memory (`stylegan2_fused`), row by
        row; of smaller ones a row is too little work, and the plain formulas are faster."""
        self.conv_dtype = torch.float32
        """Of convolutions; the picture is summed up in float32 in any case."""
        self.resolution = size // 2
        self.num_ws = 2 * len(self.blocks)

    @property
    def z_dim(self) -> int:
        """How many numbers a random input has."""
        first = next(iter(self.mapping_layers), None)
        return first.in_features if isinstance(first, nn.Linear) else self.w_avg.shape[0]

    @property
    def has_normal_latents(self) -> bool:
        """Latents are standard normal about the mean one, as nothing maps them."""
        return not self.mapping_layers

    def mapping(self, z: Tensor) -> Tensor:
        """[N, Z], standard normal, to latents [N, W]."""
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must be [N, {self.z_dim}], not {list(z.shape)}")
        x = z * (z.square().mean(dim=1, keepdim=True) + _EPS).rsqrt()
        for layer in self.mapping_layers:
            x = F.leaky_relu(layer(x), SLOPE) * GAIN
        return x

    def synthesis(
        self, w_plus: Tensor, resolution: int | None = None, noise: Literal["const", "none"] = "const"
    ) -> Tensor:
        """Latents [N, num_ws, W], one for each layer, to pictures [N, 3, R, R], about -1..1, not clipped.

        `resolution` R stops at a smaller picture of the pyramid and does no more work than that takes; only the first
        2 log2(R) - 2 latents count then.
        """
        width, resolution = self.w_avg.shape[0], resolution or self.resolution
        if w_plus.ndim != 3 or w_plus.shape[1:] != (self.num_ws, width):
            raise ValueError(f"w_plus must be [N, {self.num_ws}, {width}], not {list(w_plus.shape)}")
        if resolution not in (_FIRST_PX << k for k in range(len(self.blocks))):
            raise ValueError(f"resolution must be a power of two from {_FIRST_PX} to {self.resolution}")
        x, picture = self.const.expand(len(w_plus), -1, -1, -1), None
        exact = self.conv_dtype == torch.float32
        on_cpu = exact and x.device.type == "cpu"
        if on_cpu or not exact:
            x = x.contiguous(memory_format=torch.channels_last)
        for k, block in enumerate(self.blocks):
            latents = w_plus[:, max(0, 2 * k - 1) : 2 * k + 2].unbind(dim=1)
            with nullcontext() if exact else torch.autocast(x.device.type, self.conv_dtype):
                fused = on_cpu and block.activations >= self.fused_from
                x, rgb = (block.fused if fused else block)(x, latents, noise == "const", self.clamp)
            picture = rgb.float() if picture is None else upsampled(picture) + rgb.float()
            if block.size == resolution:
                break
        assert picture is not None
        return picture

    def reduced(self) -> Generator:
        """The same generator in bfloat16 where its GPU computes in that natively, else itself: for all but the last
        steps of a search."""
        device = self.w_avg.device
        native = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _NATIVE_BFLOAT16
        return self.in_bfloat16() if native else self

    def in_bfloat16(self) -> Generator:
        """The same generator, on the same weights, with convolutions in bfloat16."""
        other = copy(self)
        other.conv_dtype = torch.bfloat16
        return other

    def tunable(self) -> tuple[Generator, list[Tensor]]:
        """A copy that works by the plain formulas, and the weights of its synthesis, which take gradients; noise, the
        mean latent and the mapping are left as they are."""
        copied = deepcopy(self)
        copied.fused_from = math.inf
        weights = [
            copied.const,
            *(t for block in copied.blocks for name, t in block.named_buffers() if not name.endswith("noise")),
        ]
        return copied, [weight.requires_grad_() for weight in weights]


def split_clamp(tensors: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], float]:
    """The tensors without `clamp`, and its value. Raises `BadWeights` naming `source`."""
    if "clamp" not in tensors or tensors["clamp"].numel() != 1:
        raise BadWeights(f"{source} lacks the tensor 'clamp', or it is no single number.")
    return {name: tensor for name, tensor in tensors.items() if name != "clamp"}, float(tensors["clamp"])


class _Block(nn.Module):
    """One resolution: (up) → conv → picture."""

    def __init__(self, size: int, channels: tuple[int, ...], width: int) -> None:
        """`channels`: of what comes in and of what the convolutions give, one or two."""
        super().__init__()
        self.size = size
        self.up = None if size == _FIRST_PX else _Styled("up", channels[0], channels[1], width, size)
        self.conv = _Styled("conv", channels[-2], channels[-1], width, size)
        self.rgb = _Styled("rgb", channels[-1], 3, width, None)
        self.activations = channels[-1] * size**2

    def forward(self, x: Tensor, latents: Latents, noise: bool, clamp: float) -> tuple[Tensor, Tensor]:
        """(features, picture) from features and the latents [N, W] of the layers in turn."""
        if self.up is not None:
            x = self.up(x, latents[0], noise, clamp)
        x = self.conv(x, latents[-2], noise, clamp)
        return x, self.rgb(x, latents[-1], noise, clamp)

    def fused(self, x: Tensor, latents: Latents, noise: bool, clamp: float) -> tuple[Tensor, Tensor]:
        """The same on the CPU, faster."""
        if self.up is not None:
            x, _ = self.up.fused(x, latents[0], noise, clamp, None)
        to_picture = self.rgb.weight[:, :, 0, 0] * self.rgb.style(latents[-1])[:, None]
        x, picture = self.conv.fused(x, latents[-2], noise, clamp, to_picture)
        return x, clamped(picture + self.rgb.bias[:, None, None], clamp)


class _Styled(nn.Module):
    """A convolution whose input channels a latent scales."""

    weight: Tensor
    bias: Tensor
    style_weight: Tensor
    style_bias: Tensor
    noise: Tensor | None

    def __init__(self, kind: str, channels: int, out: int, width: int, noise_px: int | None) -> None:
        super().__init__()
        self.kind = kind
        kernel = 1 if kind == "rgb" else 3
        self.register_buffer("weight", torch.empty(out, channels, kernel, kernel))
        self.register_buffer("bias", torch.empty(out))
        self.register_buffer("style_weight", torch.empty(channels, width))
        self.register_buffer("style_bias", torch.empty(channels))
        self.register_buffer("noise", torch.empty(noise_px, noise_px) if noise_px else None)
        self._kernels: tuple[Tensor, Tensor] | None = None

    def style(self, w: Tensor) -> Tensor:
        """[N, I] of latents [N, W]."""
        return F.linear(w, self.style_weight, self.style_bias)

    def size(self, style: Tensor) -> Tensor:
        """[N, O]: what brings the output back to unit size (demodulation)."""
        return (style.square() @ self.weight.square().sum(dim=(2, 3)).T + _EPS).rsqrt()

    def fused(
        self, x: Tensor, w: Tensor, noise: bool, clamp: float, to_picture: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(features, picture [N, 3, H, W] by `to_picture` [N, 3, O]) on the CPU, channels last."""
        up, style = self.kind == "up", self.style(w)
        if self._kernels is None:
            self._kernels = kernels(self.weight, up)
        assert self.noise is not None
        added = self.noise if noise else torch.zeros_like(self.noise)
        to_picture = x.new_zeros(len(x), 0, self.weight.shape[0]) if to_picture is None else to_picture
        layer = FixedParts(self._kernels, added, self.bias, clamp, up)
        return FusedLayer.apply(x, style, self.size(style), to_picture, layer)  # pyright: ignore[reportReturnType]

    def forward(self, x: Tensor, w: Tensor, noise: bool, clamp: float) -> Tensor:
        style = self.style(w)
        x = x * style[:, :, None, None]
        if self.kind == "rgb":
            return clamped(F.conv2d(x, self.weight, self.bias), clamp)
        if self.kind == "up":
            x = blurred(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2), padding=1, gain=4)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = x * self.size(style)[:, :, None, None]
        if noise and self.noise is not None:
            x = x + self.noise
        return activated(x, self.bias, clamp)


def activated(x: Tensor, bias: Tensor, clamp: float, gain: float = 1.0) -> Tensor:
    """Bias, leaky ReLU, gain, and the bound, which the gain scales too."""
    x = F.leaky_relu(x + bias.view(-1, *[1] * (x.ndim - 2)), SLOPE) * (GAIN * gain)
    return clamped(x, clamp * gain)


def clamped(x: Tensor, clamp: float) -> Tensor:
    """`x` bounded."""
    return x.clamp(-clamp, clamp) if math.isfinite(clamp) else x


def blurred(x: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """Each channel under [1, 3, 3, 1] ⊗ [1, 3, 3, 1] / 64 · gain, with `padding` zeros on every side."""
    kernel = _filter(x.dtype, x.device) * gain
    return F.conv2d(x, kernel.expand(x.shape[1], 1, 4, 4), stride=stride, padding=padding, groups=x.shape[1])


def upsampled(picture: Tensor) -> Tensor:
    """[N, C, H, W] at twice the size."""
    kernel = _filter(picture.dtype, picture.device) * 4
    channels = picture.shape[1]
    return F.conv_transpose2d(picture, kernel.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)


@lru_cache
def _filter(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[4, 4]; kept, as each copy to a GPU makes the search wait."""
    with torch.inference_mode(False), torch.no_grad():
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=dtype, device=device) / 8
        return torch.outer(taps, taps)
