"""StyleGAN2's generator and discriminator as they are trained.

Sources: "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 2 and appendix B; "Progressive
Growing of GANs", ICLR 2018, section 4.1 (weights are kept at unit scale and multiplied when used).
The formulas are those of `ostec.networks.stylegan2`, arranged for training: the smoothing of a layer that changes the
size is part of its kernel, so that a layer is one convolution; noise is drawn anew for every picture. `tensors()` gives
the names and scales of the classes in the package, and a test compares the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.networks.stylegan2 import GAIN, SLOPE
from ostec.networks.stylegan2_discriminator import with_spread

_GENERATOR = {4: 236, 8: 236, 16: 236, 32: 192, 64: 128, 128: 64, 256: 32}
_DISCRIMINATOR = {256: 32, 128: 64, 64: 96, 32: 128, 16: 160, 8: 176, 4: 176}
_LATENT, _DENSE = 240, 152
_MAPPING_LAYERS, _MAPPING_RATE = 4, 0.01
_EXACT_PX = 16
"""Up to here everything is float32, whatever the rest is."""
_EPS = 1e-8
_SHARE = math.sqrt(0.5)
_UNBOUNDED = math.inf


@dataclass(frozen=True)
class Sizes:
    """Of both networks."""

    size_px: int
    latent: int
    generator: Mapping[int, int]
    """Side in px -> channels."""
    discriminator: Mapping[int, int]
    dense: int

    @classmethod
    def of(cls, size_px: int, share: float = 1.0) -> Sizes:
        """For pictures of `size_px`; `share` of the channels is for trying things out."""

        def part(count: int) -> int:
            return max(8, round(count * share))

        kept = [px for px in _GENERATOR if px <= size_px]
        if size_px not in kept:
            raise ValueError(f"pictures can be {', '.join(map(str, _GENERATOR))} px, not {size_px}")
        generator = {px: part(_GENERATOR[px]) for px in kept}
        return cls(size_px, part(_LATENT), generator, {px: part(_DISCRIMINATOR[px]) for px in kept}, part(_DENSE))


def _fir() -> Tensor:
    """[1, 1, 4, 4]: the filter of a layer that changes the size."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return torch.outer(row, row)[None, None]


def smoothing(kernel_px: int, gain: float = 1.0) -> Tensor:
    """[k², (k + 3)²]: the matrix from a kernel to one that also does what the filter does before or after it."""
    single = torch.eye(kernel_px**2).view(-1, 1, kernel_px, kernel_px)
    return F.conv2d(single, _fir() * gain, padding=3).flatten(1)


def smoothed(weight: Tensor, matrix: Tensor) -> Tensor:
    """A kernel [O, I, k, k] times such a matrix: [O, I, k + 3, k + 3]."""
    side = weight.shape[-1] + 3
    return (weight.flatten(2) @ matrix).unflatten(2, (side, side))


class Scaled(nn.Module):
    """A weight at unit scale and a bias; `rate` slows its learning down."""

    def __init__(self, shape: tuple[int, ...], bias: float | None = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape) / rate)
        self.own_bias = None if bias is None else nn.Parameter(torch.full(shape[:1], bias / rate))
        self.rate, self.gain = rate, rate / math.sqrt(math.prod(shape[1:]))

    def ready(self) -> Tensor:
        """The weight as it is used."""
        return self.weight * self.gain

    def bias(self) -> Tensor:
        """The bias as it is used."""
        assert self.own_bias is not None
        return self.own_bias * self.rate

    def tensors(self, name: str) -> dict[str, Tensor]:
        """`name`.weight and `name`.bias."""
        found = {f"{name}.weight": self.ready()}
        return found if self.own_bias is None else found | {f"{name}.bias": self.bias()}


class Styled(nn.Module):
    """A convolution whose input channels a latent scales."""

    noise: Tensor | None
    smoothing: Tensor

    def __init__(self, kind: str, channels: int, out: int, latent: int, size_px: int) -> None:
        super().__init__()
        self.kind = kind
        kernel = 1 if kind == "rgb" else 3
        self.conv = Scaled((out, channels, kernel, kernel))
        self.style = Scaled((channels, latent), bias=1.0)
        self.strength = None if kind == "rgb" else nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", None if kind == "rgb" else torch.randn(size_px, size_px))
        self.register_buffer("smoothing", smoothing(kernel, gain=4), persistent=False)

    def forward(self, x: Tensor, w: Tensor, draw: torch.Generator | None) -> Tensor:
        """Noise from `draw`; without it, the fixed noise."""
        weight, style = self.conv.ready(), F.linear(w, self.style.ready(), self.style.bias())
        x = x * style.to(x.dtype)[:, :, None, None]
        if self.kind == "rgb":
            return F.conv2d(x, weight.to(x.dtype), self.conv.bias().to(x.dtype)).float()
        size = (style.square() @ weight.square().sum(dim=(2, 3)).T + _EPS).rsqrt() * GAIN
        if self.kind == "up":
            kernel = smoothed(weight, self.smoothing).transpose(0, 1)
            x = F.conv_transpose2d(x, kernel.to(x.dtype), stride=2, padding=2)
        else:
            x = F.conv2d(x, weight.to(x.dtype), padding=1)
        noise = self.noise
        if draw is not None:
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, generator=draw)
        assert noise is not None and self.strength is not None
        added = (noise * (self.strength * GAIN)).to(x.dtype)
        x = torch.addcmul(added, x, size.to(x.dtype)[:, :, None, None])
        return F.leaky_relu(x + (self.conv.bias() * GAIN).to(x.dtype)[:, None, None], SLOPE)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Ready to use."""
        own = self.style.tensors("style")
        found = self.conv.tensors(name)
        found |= {f"{name}.style_weight": own["style.weight"], f"{name}.style_bias": own["style.bias"]}
        if self.noise is None or self.strength is None:
            return found
        return found | {f"{name}.noise": self.noise * self.strength}


class TrainedGenerator(nn.Module):
    """Latents to pictures. `large_dtype` is the number format above 16 px."""

    fir: Tensor

    def __init__(self, sizes: Sizes, large_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.z_dim, self.large_dtype, latent = sizes.latent, large_dtype, sizes.latent
        self.mapping_layers = nn.ModuleList(
            Scaled((latent, latent), rate=_MAPPING_RATE) for _ in range(_MAPPING_LAYERS)
        )
        self.const = nn.Parameter(torch.randn(sizes.generator[4], 4, 4))
        self.blocks = nn.ModuleDict()
        before = sizes.generator[4]
        for px, channels in sizes.generator.items():
            layers = {} if px == 4 else {"up": Styled("up", before, channels, latent, px)}
            layers["conv"] = Styled("conv", channels, channels, latent, px)
            layers["rgb"] = Styled("rgb", channels, 3, latent, px)
            self.blocks[str(px)] = nn.ModuleDict(layers)
            before = channels
        self.num_ws = 2 * len(self.blocks)
        self.register_buffer("fir", (_fir() * 4).expand(3, 1, 4, 4).clone(), persistent=False)

    def mapping(self, z: Tensor) -> Tensor:
        """[N, Z] to [N, W]."""
        x = z * (z.square().mean(dim=1, keepdim=True) + _EPS).rsqrt()
        for layer in self.mapping_layers:
            layer = cast(Scaled, layer)
            x = F.leaky_relu(F.linear(x, layer.ready(), layer.bias()), SLOPE) * GAIN
        return x

    def synthesis(self, w_plus: Tensor, draw: torch.Generator | None = None, size_px: int | None = None) -> Tensor:
        """[N, num_ws, W] to pictures [N, 3, R, R], about -1..1; `size_px` asks for what there is at a smaller size."""
        x = self.const.expand(len(w_plus), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        picture = None
        for k, (px, block) in enumerate(self.blocks.items()):
            latents = w_plus[:, max(0, 2 * k - 1) : 2 * k + 2].unbind(dim=1)
            layers = cast(nn.ModuleDict, block)
            if int(px) > _EXACT_PX:
                x = x.to(self.large_dtype)
            if "up" in layers:
                x = layers["up"](x, latents[0], draw)
            x = layers["conv"](x, latents[-2], draw)
            rgb = layers["rgb"](x, latents[-1], draw)
            if picture is not None:
                rgb = rgb + F.conv_transpose2d(picture, self.fir, stride=2, padding=1, groups=3)
            picture = rgb
            if int(px) == size_px:
                break
        assert picture is not None
        return picture

    @torch.no_grad()
    def tensors(self, latents: int = 16384) -> dict[str, Tensor]:
        """What `ostec.networks.stylegan2.Generator` is made of; the mean latent is that of so many, fixed ones."""
        found = {"const": self.const, "clamp": torch.tensor(_UNBOUNDED), "w_avg": self.mean_latent(latents)}
        for i, layer in enumerate(self.mapping_layers):
            found |= cast(Scaled, layer).tensors(f"mapping.{i}")
        for px, block in self.blocks.items():
            for kind, layer in cast(nn.ModuleDict, block).items():
                found |= cast(Styled, layer).tensors(f"{px}.{kind}")
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    @torch.no_grad()
    def mean_latent(self, latents: int) -> Tensor:
        """[W]: the mean of so many latents, always the same ones."""
        z = torch.randn(latents, self.z_dim, generator=torch.Generator().manual_seed(0))
        return self.mapping(z.to(self.const.device)).mean(dim=0)


class TrainedDiscriminator(nn.Module):
    """Pictures to logits: above 0 leans to real. `large_dtype` is the number format above 16 px."""

    of_skip: Tensor
    of_down: Tensor

    def __init__(self, sizes: Sizes, large_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.large_dtype = large_dtype
        channels = dict(sorted(sizes.discriminator.items(), reverse=True))
        self.rgb = Scaled((channels[sizes.size_px], 3, 1, 1))
        self.blocks = nn.ModuleDict()
        for px in [px for px in channels if px > 4]:
            own, smaller = channels[px], channels[px // 2]
            layers = {"conv": Scaled((own, own, 3, 3)), "down": Scaled((smaller, own, 3, 3))}
            self.blocks[str(px)] = nn.ModuleDict({**layers, "skip": Scaled((smaller, own, 1, 1), bias=None)})
        last = channels[4]
        self.last_conv, self.last_dense = Scaled((last, last + 1, 3, 3)), Scaled((sizes.dense, last * 16))
        self.last_out = Scaled((1, sizes.dense))
        self.register_buffer("of_skip", smoothing(1, gain=_SHARE), persistent=False)
        self.register_buffer("of_down", smoothing(3), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """[N, 3, R, R], -1..1, to logits [N]; N is a multiple of 4, or less."""
        px = picture.shape[-1]
        x = picture.to(self.large_dtype if px > _EXACT_PX else torch.float32, memory_format=torch.channels_last)
        x = _layer(x, self.rgb.ready(), self.rgb.bias())
        for px, block in self.blocks.items():
            x = x if int(px) > _EXACT_PX else x.float()
            conv, down, skip = (cast(Scaled, cast(nn.ModuleDict, block)[kind]) for kind in ("conv", "down", "skip"))
            straight = F.conv2d(x, smoothed(skip.ready(), self.of_skip).to(x.dtype), stride=2, padding=1)
            x = _layer(x, conv.ready(), conv.bias(), padding=1)
            x = (
                _layer(x, smoothed(down.ready(), self.of_down), down.bias(), gain=_SHARE, stride=2, padding=2)
                + straight
            )
        x = _layer(with_spread(x.float()), self.last_conv.ready(), self.last_conv.bias(), padding=1).flatten(1)
        x = F.leaky_relu(F.linear(x, self.last_dense.ready(), self.last_dense.bias()), SLOPE) * GAIN
        return F.linear(x, self.last_out.ready(), self.last_out.bias())[:, 0]

    @torch.no_grad()
    def tensors(self) -> dict[str, Tensor]:
        """What `ostec.networks.stylegan2_discriminator.Discriminator` is made of."""
        found = {"clamp": torch.tensor(_UNBOUNDED)} | self.rgb.tensors("rgb")
        for px, block in self.blocks.items():
            for kind, layer in cast(nn.ModuleDict, block).items():
                found |= cast(Scaled, layer).tensors(f"{px}.{kind}")
        found |= self.last_conv.tensors("last.conv") | self.last_dense.tensors("last.dense")
        found |= self.last_out.tensors("last.out")
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}


def _layer(x: Tensor, weight: Tensor, bias: Tensor, gain: float = 1.0, stride: int = 1, padding: int = 0) -> Tensor:
    """Convolution, bias, leaky ReLU and gain; the gain may be applied first, because leaky ReLU commutes with a
    positive scale."""
    weight, bias = (t * (GAIN * gain) for t in (weight, bias))
    return F.leaky_relu(F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), stride, padding), SLOPE)


def mixed(w: Tensor, other: Tensor, num_ws: int, share: float, draw: torch.Generator) -> Tensor:
    """[N, num_ws, W] from two latents [N, W] each: with the chance `share`, from some layer on the other one."""
    n = len(w)
    cut = torch.randint(1, num_ws, (n,), generator=draw, device=w.device)
    cut = torch.where(torch.rand(n, generator=draw, device=w.device) < share, cut, num_ws)
    first = torch.arange(num_ws, device=w.device) < cut[:, None]
    return torch.where(first[:, :, None], w[:, None], other[:, None])
