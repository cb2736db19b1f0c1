"""Cutting straight, turned and scaled crops out of large pictures without aliasing."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity(centre_px: Tensor, side_px: float, roll_deg: float, crop_px: int) -> Tensor:
    """[2, 3] float64 affine, picture px -> px of a square crop of `crop_px` about `centre_px` [2].

    `side_px` is the crop's side in the picture; what is turned clockwise by `roll_deg` there is upright in the crop.
    """
    scale, angle = crop_px / side_px, math.radians(roll_deg)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    shift = crop_px / 2 - turn @ centre_px.double()
    return torch.cat([turn, shift[:, None]], dim=1)


def apply_affine(affine: Tensor, points: Tensor) -> Tensor:
    """[2, 3] affine on points [..., 2]; the result has the points' dtype."""
    return (points.double() @ affine[:, :2].double().T + affine[:, 2].double()).to(points.dtype)


def invert_affine(affine: Tensor) -> Tensor:
    """[2, 3] float64 inverse of a [2, 3] affine."""
    linear = torch.linalg.inv(affine[:, :2].double())
    return torch.cat([linear, -(linear @ affine[:, 2:].double())], dim=1)


def warp(
    picture: Tensor, crop_from_picture: Tensor, size: tuple[int, int], outside: Literal["border", "zeros"] = "border"
) -> Tensor:
    """[C, H, W] -> [C, h, w], sampled where the similarity `crop_from_picture` [2, 3] (px -> px) says.

    Samples are bilinear; where the crop shrinks the picture, four per crop pixel of a picture reduced to block means.
    `outside` the picture lies its "border" colour or "zeros". Mirroring picture and affine mirrors the crop. However
    large the picture, little memory is needed beside the crop.
    """
    height, width = size
    picture_from_crop = invert_affine(crop_from_picture)
    scale = float(picture_from_crop[:, :2].det().abs().sqrt())
    corners = torch.tensor([[0, 0], [width, 0], [0, height], [width, height]], dtype=torch.float64)
    spread = apply_affine(picture_from_crop, corners)
    part, (x0, y0, block) = _block_means(picture, spread.amin(0), spread.amax(0), max(1, int(scale)))
    samples = 2 if scale > 1 else 1
    corner = torch.tensor([x0, y0], dtype=torch.float64)
    extent = torch.tensor([part.shape[2] * block, part.shape[1] * block], dtype=torch.float64)
    grid = 2 * (_sample_points(picture_from_crop, size, samples) - corner) / extent - 1
    crop = F.grid_sample(part[None], grid[None].to(part), padding_mode=outside, align_corners=False)
    return (F.avg_pool2d(crop, samples) if samples > 1 else crop)[0]


def _sample_points(picture_from_crop: Tensor, size: tuple[int, int], samples: int) -> Tensor:
    """[h·samples, w·samples, 2] float64: where in the picture the crop's samples lie."""
    y, x = ((torch.arange(n * samples, dtype=torch.float64) + 0.5) / samples for n in size)
    linear, shift = picture_from_crop[:, :2], picture_from_crop[:, 2]
    return x[None, :, None] * linear[:, 0] + y[:, None, None] * linear[:, 1] + shift


def _block_means(picture: Tensor, low: Tensor, high: Tensor, block: int) -> tuple[Tensor, tuple[int, int, int]]:
    """The picture between `low` and `high` [2] (x, y), reduced to means of block x block px.

    The blocks lie symmetrically about the region's middle; parts of blocks at the picture's border are dropped.
    Gives the reduced part [C, h, w] and (x, y) of its corner in the picture with the block's side.
    """
    block = min(block, (min(picture.shape[1:]) + 1) // 2)
    starts, counts = [], []
    for axis, length in ((0, picture.shape[2]), (1, picture.shape[1])):
        count = math.ceil((float(high[axis]) - float(low[axis])) / block) + 4
        start = round((float(low[axis]) + float(high[axis]) - count * block) / 2)
        whole = -(start // block), (length - start) // block - 1
        first, last = (min(max(k, whole[0]), whole[1]) for k in (0, count - 1))
        starts.append(start + first * block)
        counts.append(last - first + 1)
    (x0, y0), (columns, rows) = starts, counts
    region = picture[:, y0 : y0 + rows * block, x0 : x0 + columns * block]
    if block > 1:
        row_sums = region.unflatten(1, (rows, block)).sum(dim=2)
        region = row_sums.unflatten(2, (columns, block)).sum(dim=3) / block**2
    return region, (x0, y0, block)
