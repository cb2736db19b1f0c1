"""Whether pictures show the same person: embeddings of faces by a network that was trained with ArcFace.

Sources: "ArcFace", arXiv 1801.07698; the similarity of landmarks by Umeyama, PAMI 1991, in the plane, where it has a
closed form.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.geometry.align import ARCFACE_POINTS_PX, ARCFACE_SIZE_PX, arcface_crop
from ostec.geometry.warp import warp

_SMALL_PX = 256
"""Pictures up to this side, cropped as FFHQ is, hold a face at less than twice the scale of the crop."""


@torch.inference_mode()
def identity_similarity(
    net: nn.Module, first: Tensor, second: Tensor, landmarks_first_px: Tensor, landmarks_second_px: Tensor
) -> float:
    """Cosine in -1..1 of the embeddings of two faces: higher is more alike.

    Pictures [3, H, W] sRGB 0..1, of different sizes if need be; landmarks [68, 2] px, iBUG order. Raises `BadGeometry`
    where landmarks coincide or are not finite.
    """
    pairs = ((first, landmarks_first_px), (second, landmarks_second_px))
    one, other = net(torch.stack([_crop(picture, _five_points(points_px)) for picture, points_px in pairs]))
    return float((one @ other).clamp(-1, 1))


def embeddings(net: nn.Module, pictures: Tensor, landmarks_px: Tensor) -> Tensor:
    """[N, E] of length 1, of pictures [N, 3, H, W] sRGB 0..1 with landmarks [N, 68, 2] px, iBUG order.

    Differentiable in the pictures. Pictures of up to 256 px, as the search has them, are cut without leaving their
    device; there landmarks that coincide give NaN. For larger ones it raises `BadGeometry`.
    """
    points_px = _five_points(landmarks_px)
    if max(pictures.shape[2:]) <= _SMALL_PX:
        return net(small_crops(pictures.float(), points_px))
    return net(torch.stack([_crop(picture, points) for picture, points in zip(pictures, points_px, strict=True)]))


def small_crops(pictures: Tensor, points_px: Tensor) -> Tensor:
    """[N, 3, 112, 112] of pictures [N, 3, H, W] with five points [N, 5, 2], as `ARCFACE_POINTS_PX` has them.

    On the pictures' device, what `arcface_crop` and `warp` make where the crop is larger than half of what it shows: a
    mean of 2 x 2 samples where it shrinks the picture, one sample where it does not.
    """
    wanted, centres, offsets = _template(pictures.device)
    found = points_px.double()
    wanted_mean, found_mean = wanted.mean(dim=0), found.mean(dim=1, keepdim=True)
    a, b = found - found_mean, wanted - wanted_mean
    spread = a.square().sum(dim=(1, 2))
    cos = (a * b).sum(dim=(1, 2)) / spread
    sin = (a[..., 0] * b[:, 1] - a[..., 1] * b[:, 0]).sum(dim=1) / spread
    crop_scale = (cos.square() + sin.square())[:, None, None]
    turn = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    samples = centres + (crop_scale < 1) * offsets - wanted_mean
    at = samples @ turn / crop_scale + found_mean
    size = torch.stack([torch.full_like(at[..., 0], pictures.shape[axis]) for axis in (3, 2)], dim=2)
    grid = (2 * at / size - 1).view(-1, 2 * ARCFACE_SIZE_PX, 2 * ARCFACE_SIZE_PX, 2).to(pictures)
    crops = F.avg_pool2d(F.grid_sample(pictures, grid, padding_mode="border", align_corners=False), 2)
    return crops + (0 * crop_scale[..., None]).to(pictures)  # of NaN positions it makes colours of the border


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _template(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where the five points should lie, the pixel centres of the crop, each four times, and a quarter pixel from them.

    [5, 2], [M, 2] and [M, 2] float64; kept, because each would be a transfer to the device.
    """
    steps = torch.arange(2 * ARCFACE_SIZE_PX)
    parts = (steps // 2 + 0.5, steps % 2 * 0.5 - 0.25)
    grids = (torch.stack(torch.meshgrid(part, part, indexing="xy"), dim=2).view(-1, 2) for part in parts)
    centres, offsets = (grid.to(device, torch.float64) for grid in grids)
    return ARCFACE_POINTS_PX.to(device, torch.float64), centres, offsets


def _crop(picture: Tensor, points_px: Tensor) -> Tensor:
    """[3, 112, 112] of a picture [3, H, W] of any size."""
    return warp(picture.float(), arcface_crop(points_px.cpu()), (ARCFACE_SIZE_PX, ARCFACE_SIZE_PX))


def _five_points(landmarks_px: Tensor) -> Tensor:
    """[..., 5, 2] of landmarks [..., 68, 2]: middles of the eyes, nose tip, corners of the mouth."""
    eyes = [landmarks_px[..., low : low + 6, :].mean(dim=-2) for low in (36, 42)]
    return torch.stack([*eyes, *(landmarks_px[..., index, :] for index in (30, 48, 54))], dim=-2)
