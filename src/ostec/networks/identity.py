"""Whether pictures show the same person: embeddings of faces by a network that was trained with ArcFace.

Sources: "ArcFace", arXiv 1801.07698; the similarity of landmarks by Umeyama, PAMI 1991, in the plane, where it has a
closed form.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.geometry.align import ARCFACE_POINTS_PX, ARCFACE_SIZE_PX, arcface_crop
from ostec.geometry.sampling import warp

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
    device; there landmarks that coincide give NaN. For larger ones it raises `BadGeometry`. Only the crops go to the
    network's device.
    """
    points_px = _five_points(landmarks_px)
    if max(pictures.shape[2:]) <= _SMALL_PX:
        crops = small_crops(pictures.float(), points_px)
    else:
        crops = torch.stack([_crop(picture, points) for picture, points in zip(pictures, points_px, strict=True)])
    return net(crops.to(next(chain(net.parameters(), net.buffers()), pictures).device))


def small_crops(pictures: Tensor, points_px: Tensor) -> Tensor:
    """[N, 3, 112, 112] of pictures [N, 3, H, W] with five points [N, 5, 2], as `ARCFACE_POINTS_PX` has them.

    On the pictures' device, what `arcface_crop` and `warp` make where the crop is larger than half of what it shows: a
    mean of 2 x 2 samples where it shrinks the picture, one sample where it does not.
    """
    wanted, found = _template(pictures.device), points_px.double()
    wanted_mean, found_mean = wanted.mean(dim=0), found.mean(dim=1)
    a, b = found - found_mean[:, None], wanted - wanted_mean
    spread = a.square().sum(dim=(1, 2))
    cos = (a * b).sum(dim=(1, 2)) / spread
    sin = (a[..., 0] * b[:, 1] - a[..., 1] * b[:, 0]).sum(dim=1) / spread
    crop_scale = cos.square() + sin.square()
    x_axis, y_axis = (torch.stack(axis, dim=1) / crop_scale[:, None] for axis in ((cos, -sin), (sin, cos)))
    samples = 2 if max(pictures.shape[2:]) > ARCFACE_SIZE_PX else 1  # none is smaller than its crop otherwise
    steps = torch.arange(samples * ARCFACE_SIZE_PX, device=pictures.device, dtype=torch.float64)
    inner = (steps % samples - (samples - 1) / 2) / samples
    at = (steps // samples + 0.5) + (crop_scale < 1)[:, None] * inner
    x, y = (at - mean for mean in wanted_mean)
    places = x[:, None, :, None] * x_axis[:, None, None] + y[:, :, None, None] * y_axis[:, None, None]
    width_height = torch.full_like(wanted_mean, pictures.shape[3])
    width_height[1:] = pictures.shape[2]
    grid = (2 / width_height) * (places + found_mean[:, None, None]) - 1
    crops = F.grid_sample(pictures, grid.to(pictures), padding_mode="border", align_corners=False)
    return F.avg_pool2d(crops, samples) + (0 * crop_scale).to(pictures)[:, None, None, None]  # NaN stays NaN


@lru_cache(maxsize=4)
@torch.inference_mode(False)
def _template(device: torch.device) -> Tensor:
    """Where the five points should lie, [5, 2] float64; kept, because it would be a transfer at each step."""
    return ARCFACE_POINTS_PX.to(device, torch.float64)


def _crop(picture: Tensor, points_px: Tensor) -> Tensor:
    """[3, 112, 112] of a picture [3, H, W] of any size."""
    return warp(picture.float(), arcface_crop(points_px.cpu()), (ARCFACE_SIZE_PX, ARCFACE_SIZE_PX))


def _five_points(landmarks_px: Tensor) -> Tensor:
    """[..., 5, 2] of landmarks [..., 68, 2]: middles of the eyes, nose tip, corners of the mouth."""
    eyes = [landmarks_px[..., low : low + 6, :].mean(dim=-2) for low in (36, 42)]
    return torch.stack([*eyes, *(landmarks_px[..., index, :] for index in (30, 48, 54))], dim=-2)
