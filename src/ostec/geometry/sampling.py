"""Pictures resampled: at single points, in crops without aliasing, and as means of bins."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.align import apply_affine, invert_affine
from ostec.geometry.compiled import compiled

_PIECES = 8


def sample(picture: Tensor, at: Tensor, mode: Literal["bilinear", "bicubic"] = "bilinear") -> Tensor:
    """[C, H, W] at [..., 2] (x, y; -1..1 from border to border) -> [C, ...]; outside, the border pixels' values.

    `grid_sample` on all cores: torch uses one thread per picture, so the points are split over several.
    """
    points = at.reshape(-1, 2)
    each = -(-len(points) // _PIECES)
    pieces = F.pad(points, (0, 0, 0, _PIECES * each - len(points))).view(_PIECES, 1, each, 2)
    pictures = picture.expand(_PIECES, -1, -1, -1)
    sampled = F.grid_sample(pictures, pieces, mode, "border", align_corners=False)
    return sampled[:, :, 0].transpose(0, 1).flatten(1)[:, : len(points)].view(len(picture), *at.shape[:-1])


def warp(
    picture: Tensor, crop_from_picture: Tensor, size: tuple[int, int], outside: Literal["border", "zeros"] = "border"
) -> Tensor:
    """[C, H, W] -> [C, h, w], cut where the similarity `crop_from_picture` [2, 3] (px -> px) says.

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


def pixels_inside(crop_from_picture: Tensor, picture_size: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """[h, w] bool: which pixel centres of a crop of this size lie in the picture; both sizes are (height, width)."""
    at = _sample_points(invert_affine(crop_from_picture), size, 1)
    return ((at >= 0) & (at <= torch.tensor(picture_size[::-1]))).all(dim=-1)


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


def means_by_bin(values: Tensor, weight: Tensor, index: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """([C, bins], [bins]): weighted means of `values` [C, N] by `index` [N] in 0..bins-1, and the sums of `weight` [N].

    Values and indices of weight 0 are ignored. The mean of an empty bin is 0.
    """
    sums, total = np.zeros((len(values), bins)), np.zeros(bins)
    _add_to_bins(values.contiguous().numpy(), weight.numpy(), index.numpy(), sums, total)
    return torch.from_numpy(sums / np.maximum(total, 1e-6)).float(), torch.from_numpy(total).float()


@compiled()
def _add_to_bins(values, weight, index, sums, total):
    """A third of the time of `np.bincount` for each channel."""
    for n in range(len(weight)):
        if weight[n] > 0:
            total[index[n]] += weight[n]
            for c in range(len(values)):
                sums[c, index[n]] += weight[n] * values[c, n]
