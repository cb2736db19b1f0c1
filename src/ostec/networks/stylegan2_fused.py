"""StyleGAN2's layers on the CPU: the same sums as `stylegan2`, in far fewer passes over memory.

At high resolution most of the time is not arithmetic but reading and writing activations. So here

- channels come last, the layout in which the CPU's convolutions are fastest;
- the style multiplies the weights of a convolution (they are small), but the gradient is not taken through them: with
  u = style · x, the gradient of the style is the sum of x · gradient of u, which is computed anyway;
- smoothing, demodulation, noise, bias, leaky ReLU and bound are one pass, and so is their backward pass, which also
  adds the gradient of the picture's 1 × 1 convolution;
- nothing is kept for the backward pass but the activations themselves.

`FusedLayer` gives what `stylegan2._Styled` gives, to rounding; a test compares them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.bands import Bands
from ostec.geometry.compiled import compiled

_SLOPE, _GAIN = np.float32(0.2), np.float32(math.sqrt(2))
_UNBOUNDED = 3e38
_PARTS = 16
"""Sums are taken over this many bands of rows and then added up, whatever the number of threads."""


class FixedParts(NamedTuple):
    """What a layer needs besides the tensors that take gradients."""

    kernels: tuple[Tensor, Tensor]
    """As `kernels` makes them."""
    noise: Tensor
    """[H, W]."""
    bias: Tensor
    """[O]."""
    clamp: float
    up: bool


class FusedLayer(torch.autograd.Function):
    """conv or up-conv, and the picture that a 1 × 1 convolution makes of its activations."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, style: Tensor, size: Tensor, rgb_weight: Tensor, layer: FixedParts
    ) -> tuple[Tensor, Tensor]:
        """(activations [N, O, H, W], picture [N, 3, H, W] without bias) from x [N, I, h, w], channels last.

        `style` [N, I] and `size` [N, O] scale what goes in and comes out of the kernels; `rgb_weight` [N, K, O], K = 3
        or 0.
        """
        kernel, _ = layer.kernels
        outs, clamp = [], min(layer.clamp, _UNBOUNDED)
        for item, own, scale in zip(x.split(1), style, size, strict=True):
            shape = _arrays(scale, layer.noise, layer.bias)
            if layer.up:
                weight = (kernel * own[:, None, None, None]).contiguous(memory_format=torch.channels_last)
                wide = F.conv_transpose2d(item, weight, stride=2)
                out = _empty(1, kernel.shape[1], 2 * x.shape[2], 2 * x.shape[3])
                _over_rows(_smooth_rows, _rows(out), np.float32(clamp), _rows(wide), _rows(out), shape)
            else:
                weight = (kernel * own[None, :, None, None]).contiguous(memory_format=torch.channels_last)
                out = F.conv2d(item, weight, padding=1)
                _over_rows(_activate_rows, _rows(out), np.float32(clamp), _rows(out), shape)
            outs.append(out)
        activations = outs[0] if len(outs) == 1 else torch.cat(outs)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, style, size, rgb_weight, activations)
        ctx.layer = layer._replace(clamp=clamp)
        flat = activations.permute(0, 2, 3, 1).flatten(1, 2)
        picture = (flat @ rgb_weight.transpose(1, 2)).unflatten(1, activations.shape[2:]).permute(0, 3, 1, 2)
        return activations, picture

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Gradients of x, style, size and rgb_weight."""
        x, style, size, rgb_weight, activations = ctx.saved_tensors
        nothing = x.new_zeros(len(x), 0, *activations.shape[2:])
        of_activations, of_picture = (nothing if gradient is None else gradient for gradient in gradients)
        if not of_picture.shape[1]:
            rgb_weight = rgb_weight[:, :0]
        of_x, of_style, of_size, of_rgb = [], [], [], []
        for i in range(len(x)):
            planes = [t[i : i + 1] for t in (activations, of_activations, of_picture)]
            inner, by_size, by_rgb = _deactivate(planes, size[i], rgb_weight[i], ctx.layer)
            of_size.append(by_size)
            of_rgb.append(by_rgb)
            if ctx.layer.up:
                wide = _empty(1, inner.shape[1], inner.shape[2] + 1, inner.shape[3] + 1)
                _over_rows(_smooth_back_rows, _rows(wide), _rows(inner), _rows(wide))
                back = F.conv2d(wide, ctx.layer.kernels[1], stride=2)
            else:
                back = F.conv2d(inner, ctx.layer.kernels[1], padding=1)
            of_style.append(_scale_back(_rows(back), _rows(x[i : i + 1]), _array(style[i])))
            of_x.append(back)
        gradient = of_x[0] if len(of_x) == 1 else torch.cat(of_x)
        return (
            gradient,
            torch.stack(of_style),
            torch.stack(of_size),
            torch.stack(of_rgb) if len(rgb_weight[0]) else None,
            None,
        )


def kernels(weight: Tensor, up: bool) -> tuple[Tensor, Tensor]:
    """A weight [O, I, 3, 3] in the layouts that the forward and the backward pass want."""
    last = torch.channels_last
    if up:
        forward = weight.transpose(0, 1).contiguous(memory_format=last)
        return forward, forward
    return weight.contiguous(memory_format=last), weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=last)


def _deactivate(
    planes: Sequence[Tensor], size: Tensor, rgb: Tensor, layer: FixedParts
) -> tuple[Tensor, Tensor, Tensor]:
    """(gradient of the convolution's output [1, O, H, W], of `size` [O], of `rgb` [K, O]).

    `planes`: the activations [1, O, H, W], their gradient and the picture's; the last two may have no channels.
    """
    _, channels, height, _ = planes[0].shape
    inner = _empty(*planes[0].shape)
    by_size, by_rgb = np.zeros((_PARTS, channels), np.float32), np.zeros((_PARTS, len(rgb), channels), np.float32)
    arrays = tuple(map(_rows, (*planes, inner))), _arrays(size, layer.noise, layer.bias, rgb)

    def part(low: int, high: int) -> None:
        for i in range(low, high):
            first, last = height * i // _PARTS, height * (i + 1) // _PARTS
            _deactivate_rows(first, last, np.float32(layer.clamp), (by_size[i], by_rgb[i]), *arrays)

    with Bands() as bands:
        bands(_PARTS, inner[0, 0].numel() * channels // _PARTS, part)
    return inner, torch.from_numpy(by_size.sum(axis=0)) / size, torch.from_numpy(by_rgb.sum(axis=0))


def _over_rows(work: Callable[..., object], out: NDArray, *arguments: Any) -> None:
    """Calls `work(low, high, *arguments)` for bands of the rows of `out`."""
    with Bands() as bands:
        bands(len(out), out[0].size, lambda low, high: work(low, high, *arguments))


def _scale_back(back: NDArray, x: NDArray, style: NDArray) -> Tensor:
    """Gradient of the style; scales `back` in place."""
    sums, height = np.zeros((_PARTS, len(style)), np.float32), len(x)

    def part(low: int, high: int) -> None:
        for i in range(low, high):
            _scale_rows(height * i // _PARTS, height * (i + 1) // _PARTS, back, x, style, sums[i])

    with Bands() as bands:
        bands(_PARTS, x.size // _PARTS, part)
    return torch.from_numpy(sums.sum(axis=0))


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, memory_format=torch.channels_last)


def _rows(t: Tensor) -> NDArray:
    """[1, C, H, W] as [H, W, C]; a view where channels come last."""
    return t.detach()[0].permute(1, 2, 0).contiguous().numpy()


def _array(t: Tensor) -> NDArray:
    return t.detach().contiguous().numpy()


def _arrays(*tensors: Tensor) -> tuple[NDArray, ...]:
    return tuple(map(_array, tensors))


@compiled(fastmath={"contract", "nsz"}, error_model="numpy")
def _activate_rows(low, high, clamp, out, shape):
    """Rows low..high-1 of `out`, in place."""
    size, noise, bias = shape
    for y in range(low, high):
        for x in range(out.shape[1]):
            n = noise[y, x]
            for c in range(out.shape[2]):
                z = out[y, x, c] * size[c] + n + bias[c]
                z = (z if z > 0 else z * _SLOPE) * _GAIN
                out[y, x, c] = min(max(z, -clamp), clamp)


@compiled(fastmath={"contract", "nsz"}, error_model="numpy")
def _smooth_rows(low, high, clamp, wide, out, shape):
    """Rows low..high-1 of `out`: `wide` under [1, 3, 3, 1] / 4 along both axes, one zero around it, then activated."""
    size, noise, bias = shape
    width, channels = wide.shape[1], wide.shape[2]
    row = np.zeros((width + 2, channels), np.float32)
    near, far = np.float32(0.75), np.float32(0.25)
    for y in range(low, high):
        for x in range(width):
            for c in range(channels):
                row[x + 1, c] = near * wide[y, x, c]
            if y > 0:
                for c in range(channels):
                    row[x + 1, c] += far * wide[y - 1, x, c]
            if y + 1 < wide.shape[0]:
                for c in range(channels):
                    row[x + 1, c] += near * wide[y + 1, x, c]
            if y + 2 < wide.shape[0]:
                for c in range(channels):
                    row[x + 1, c] += far * wide[y + 2, x, c]
        for x in range(out.shape[1]):
            n = noise[y, x]
            for c in range(channels):
                s = far * (row[x, c] + row[x + 3, c]) + near * (row[x + 1, c] + row[x + 2, c])
                z = s * size[c] + n + bias[c]
                z = (z if z > 0 else z * _SLOPE) * _GAIN
                out[y, x, c] = min(max(z, -clamp), clamp)


@compiled(fastmath={"contract", "nsz"}, error_model="numpy")
def _deactivate_rows(low, high, clamp, sums, planes, shape):
    """Rows low..high-1 of `inner`, and sums for the gradients of `size` (times it) and `rgb`."""
    by_size, by_rgb = sums
    out, gradient, picture, inner = planes
    size, noise, bias, rgb = shape
    one = np.float32(1)
    for y in range(low, high):
        for x in range(out.shape[1]):
            n = noise[y, x]
            for c in range(out.shape[2]):
                inner[y, x, c] = gradient[y, x, c] if gradient.shape[2] else np.float32(0)
            if rgb.shape[0] == 3:
                p, q, r = picture[y, x, 0], picture[y, x, 1], picture[y, x, 2]
                for c in range(out.shape[2]):
                    inner[y, x, c] += p * rgb[0, c] + q * rgb[1, c] + r * rgb[2, c]
                    by_rgb[0, c] += p * out[y, x, c]
                    by_rgb[1, c] += q * out[y, x, c]
                    by_rgb[2, c] += r * out[y, x, c]
            for c in range(out.shape[2]):
                a = out[y, x, c]
                turn = _GAIN if a > 0 else _GAIN * _SLOPE
                g = inner[y, x, c] * turn if abs(a) < clamp else np.float32(0)
                by_size[c] += g * (a * (one / turn) - n - bias[c])
                inner[y, x, c] = g * size[c]


@compiled(fastmath={"contract", "nsz"}, error_model="numpy")
def _smooth_back_rows(low, high, inner, wide):
    """Rows low..high-1 of `wide`: the transpose of `_smooth_rows`' smoothing."""
    height, width, channels = inner.shape
    row = np.zeros((width + 4, channels), np.float32)
    near, far = np.float32(0.75), np.float32(0.25)
    for y in range(low, high):
        for x in range(width):
            for c in range(channels):
                row[x + 2, c] = near * inner[y, x, c] if y < height else np.float32(0)
            if y + 1 < height:
                for c in range(channels):
                    row[x + 2, c] += far * inner[y + 1, x, c]
            if y >= 1:
                for c in range(channels):
                    row[x + 2, c] += near * inner[y - 1, x, c]
            if y >= 2:
                for c in range(channels):
                    row[x + 2, c] += far * inner[y - 2, x, c]
        for x in range(wide.shape[1]):
            for c in range(channels):
                wide[y, x, c] = far * (row[x, c] + row[x + 3, c]) + near * (row[x + 1, c] + row[x + 2, c])


@compiled(fastmath={"contract", "nsz"}, error_model="numpy")
def _scale_rows(low, high, back, x, style, sums):
    """`back` times the style in rows low..high-1, in place, and sums of `back` times `x` before that."""
    for y in range(low, high):
        for i in range(x.shape[1]):
            for c in range(x.shape[2]):
                u = back[y, i, c]
                sums[c] += u * x[y, i, c]
                back[y, i, c] = u * style[c]
