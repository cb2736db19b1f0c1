"""FAN, the face alignment network: heat maps of the 68 landmarks.

Sources: "How far are we from solving the 2D & 3D Face Alignment problem?", arXiv 1703.07332, section 3 (stacked
hourglasses of hierarchical, parallel, multi-scale blocks); names of the tensors, input and crop of 1adrianb/
face-alignment (BSD-3-Clause). How many stacks, levels and features there are comes from the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.named_tensors import NamedTensors
from ostec.weights.open import expecting
from ostec.weights.tensors import read_weights, require_finite

CROP_PX = 256
HEAT_PX = 64
_POINTS = 68
_FACE_PX = 224
"""Side of the picture in FAN's crop."""
_MARGIN_PX = (CROP_PX - _FACE_PX) // 2
_LEAST_HEAT = 1e-6
_REMEDY = "`ostec models get fan` downloads 2DFAN4-11f355bf06.pth.tar."


class Fan(NamedTensors):
    """The network. `tensors` is the state dict; raises `BadWeights` naming `source` where it is another's."""

    corner_px: Tensor

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the network") -> None:
        super().__init__()
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
        require_finite(tensors, source, _REMEDY)
        self.stacks = sum(bool(re.fullmatch(r"l\d+\.weight", name)) for name in tensors)
        self.levels = sum(bool(re.fullmatch(r"m0\.b1_\d+\.conv1\.weight", name)) for name in tensors)
        self.register_buffer("corner_px", torch.tensor([float(_MARGIN_PX), 0.0]), persistent=False)
        with expecting("a FAN", source, _REMEDY):
            for name, tensor in tensors.items():
                self.keep(name, tensor)
            with torch.no_grad():
                points = self.heat_maps(torch.zeros(1, 3, HEAT_PX, HEAT_PX)).shape[1]
            if points != _POINTS:
                raise ValueError(f"it finds {points}, not {_POINTS} landmarks")

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] sRGB 0..1, cropped as FFHQ is, to landmarks [N, 68, 2] px, iBUG order. Differentiable."""
        points_px = peaks(self.heat_maps(fan_crop(pictures))) * (CROP_PX / HEAT_PX)
        return (points_px - self.corner_px) * (pictures.shape[-1] / _FACE_PX)

    def predict(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] sRGB 0..1, cropped as FFHQ is, to heat maps [N, 68, 64, 64]. Differentiable."""
        return self.heat_maps(fan_crop(pictures))

    def target(self, landmarks_px: Tensor, picture_px: int) -> Tensor:
        """[N, 68, 64, 64]: a Gaussian of one pixel about each landmark [N, 68, 2] of pictures of this side, as FAN was
        trained with."""
        at = (landmarks_px * (_FACE_PX / picture_px) + self.corner_px) * (HEAT_PX / CROP_PX)
        centres = torch.arange(HEAT_PX, device=at.device) + 0.5
        across, down = ((-((centres - at[..., k, None]) ** 2) / 2).exp() for k in (0, 1))
        return down[..., :, None] * across[..., None, :]

    def heat_maps(self, crops: Tensor) -> Tensor:
        """[N, 3, 256, 256] sRGB 0..1, as `fan_crop` cuts them, to [N, 68, 64, 64] of the last stack. Differentiable."""
        x = self.norm(self.conv(crops, "conv1", stride=2), "bn1").relu()
        x = F.avg_pool2d(self._block(x, "conv2"), 2)
        x = self._block(self._block(x, "conv3"), "conv4")
        heat = x
        for stack in range(self.stacks):
            y = self._block(self._hourglass(x, f"m{stack}", self.levels), f"top_m_{stack}")
            y = self.norm(self.conv(y, f"conv_last{stack}"), f"bn_end{stack}").relu()
            heat = self.conv(y, f"l{stack}")
            if stack < self.stacks - 1:
                x = x + self.conv(y, f"bl{stack}") + self.conv(heat, f"al{stack}")
        return heat

    def _hourglass(self, x: Tensor, name: str, level: int) -> Tensor:
        y = self._block(F.avg_pool2d(x, 2), f"{name}.b2_{level}")
        y = self._hourglass(y, name, level - 1) if level > 1 else self._block(y, f"{name}.b2_plus_{level}")
        y = self._block(y, f"{name}.b3_{level}")
        return self._block(x, f"{name}.b1_{level}") + F.interpolate(y, scale_factor=2.0, mode="nearest")

    def _block(self, x: Tensor, name: str) -> Tensor:
        parts, part = [], x
        for index in (1, 2, 3):
            part = self.conv(self.norm(part, f"{name}.bn{index}").relu(), f"{name}.conv{index}")
            parts.append(part)
        if self.has(f"{name}.downsample.2.weight"):
            x = self.conv(self.norm(x, f"{name}.downsample.0").relu(), f"{name}.downsample.2")
        return x + torch.cat(parts, dim=1)


def fan_crop(pictures: Tensor) -> Tensor:
    """[N, 3, S, S], cropped as FFHQ is, to the [N, 3, 256, 256] that FAN was trained for. Differentiable.

    face-alignment cuts a square of side 200/195 (width + height) of the face's box, its centre 0.12 heights above the
    box's. In 40 near-frontal portraits cropped as FFHQ is, the box of the landmarks makes that a square of 1.09 ± 0.05
    pictures about (0.51, 0.585); a detector's box has the forehead in it, so its square is larger and higher. This one
    lies between: 256/224 = 1.14 pictures about (0.5, 0.571). What lies outside the picture is black, as there.
    """
    shrinks = pictures.shape[-1] > _FACE_PX
    inner = F.interpolate(pictures, (_FACE_PX, _FACE_PX), mode="bilinear", antialias=shrinks, align_corners=False)
    return F.pad(inner, (_MARGIN_PX, _MARGIN_PX, 0, CROP_PX - _FACE_PX))


def peaks(heat: Tensor) -> Tensor:
    """[N, P, H, W] to [N, P, 2]: where each map is highest, px from its corner, pixel centres at +0.5. Differentiable.

    Between pixels it is the top of the parabola through the logarithms of the highest pixel and its neighbours, which
    is exact for the Gaussians that FAN is trained with ("Distribution-Aware Coordinate Representation", arXiv
    1910.06278, section 3.2); the quarter of a pixel that face-alignment moves towards the higher neighbour has no
    gradient, and a mean over the map is biased by noise far from the peak.
    """
    height, width = heat.shape[2:]
    best = heat.flatten(2).argmax(dim=2)
    log = F.pad(heat.clamp_min(_LEAST_HEAT).log(), (1, 1, 1, 1), mode="replicate").flatten(2)
    column, row = best % width, best // width
    here = (row + 1) * (width + 2) + column + 1

    def offset(step: int) -> Tensor:
        before, top, after = (log.gather(2, (here + move)[:, :, None])[:, :, 0] for move in (-step, 0, step))
        return (after - before) / (2 * (2 * top - before - after)).clamp_min(_LEAST_HEAT)

    return torch.stack([column + 0.5 + offset(1), row + 0.5 + offset(width + 2)], dim=2)


def load_fan(path: Path) -> Fan:
    """The network in a `.pth.tar`, TorchScript or safetensors file. Raises `MissingWeights`, `BadWeights`."""
    return Fan(read_weights(path, _REMEDY), str(path))
