"""Unwrap a picture of the face into the texture, with a confidence for every texel."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from ostec.geometry.camera import to_camera, to_clip, toward_camera, zoomed
from ostec.geometry.sampling import sample
from ostec.interfaces import Rasteriser
from ostec.types import Camera, Shape, SkinMask, Texels, UVTexture

TRUSTED = 0.4
"""Confidence from which a texel counts as seen (the released code's threshold)."""
_ZBUFFER_PX = 640
_COARSER = 4
_SILHOUETTE_PX = 3
_OCCLUSION_TOLERANCE_M = 0.005
_FAR_M = 1e3
_UNSEEN_BELOW = 0.02


def unwrap(
    image: Tensor, camera: Camera, shape: Shape, texels: Texels, rasterise: Rasteriser, skin: SkinMask | None = None
) -> UVTexture:
    """Texture of what `image` [3, H, W] shows of the face.

    Confidence is the cosine between normal and direction to the camera, reduced by self-occlusion, near the picture's
    border and, where given, by the skin mask; -1 where a texel is not seen.
    """
    cosine = (texels.normals * toward_camera(texels.points, camera)).sum(-1)
    flat = (texels.inside & (cosine > _UNSEEN_BELOW)).flatten().nonzero()[:, 0]
    points, cosine = texels.points.reshape(-1, 3)[flat], cosine.flatten()[flat]
    clip = to_clip(points, camera)
    points_px = clip[:, :2] / clip[:, 3:]
    confidence = cosine * visibility(points, cosine, camera, shape, rasterise)
    confidence = confidence * inside_picture(points_px, camera.size)
    if skin is not None:
        alpha = skin_at(skin, points_px)
        confidence = confidence * alpha.square()
    seen = confidence > _UNSEEN_BELOW
    flat, confidence = flat[seen], confidence[seen]
    colours = sample_picture(image, points_px[seen], max(texels.inside.shape))

    height, width = texels.inside.shape
    rgb = torch.zeros(3, height * width)
    rgb[:, flat] = colours
    full = torch.full((height * width,), -1.0)
    full[flat] = confidence
    return UVTexture(rgb.view(3, height, width), full.view(height, width))


def without_islands(seen: UVTexture, least_share: float = 1 / 50) -> UVTexture:
    """The texture without isolated patches smaller than this share of it: a collar's edge, a strand of hair."""
    coarse = F.max_pool2d((seen.confidence > -1).float()[None, None], _COARSER, _COARSER, ceil_mode=True)[0, 0]
    labels = np.empty(coarse.shape, dtype=np.int32)
    ndimage.label(coarse.numpy() > 0, output=labels)
    size = np.bincount(labels.ravel())
    large = torch.from_numpy((size >= labels.size * least_share)[labels] & (labels > 0))
    height, width = seen.confidence.shape
    keep = large.repeat_interleave(_COARSER, 0).repeat_interleave(_COARSER, 1)[:height, :width]
    return replace(seen, confidence=torch.where(keep, seen.confidence, -1.0))


def sample_picture(image: Tensor, points_px: Tensor, texture_px: int) -> Tensor:
    """[3, N] colours at [N, 2] px, bicubic; a picture much finer than the texture is shrunk first against aliasing."""
    if not len(points_px):
        return image.new_zeros(3, 0)
    height, width = image.shape[1:]
    low = (points_px.amin(dim=0) - 4).floor().clamp(min=0).int().tolist()
    high = (points_px.amax(dim=0) + 4).ceil().int().tolist()
    x0, y0 = min(low[0], width - 1), min(low[1], height - 1)
    x1, y1 = max(x0 + 1, min(high[0], width)), max(y0 + 1, min(high[1], height))
    window = image[None, :, y0:y1, x0:x1]
    shrink = max(x1 - x0, y1 - y0) / (1.25 * texture_px)
    if shrink > 1:
        smaller = [max(1, round((y1 - y0) / shrink)), max(1, round((x1 - x0) / shrink))]
        window = F.interpolate(window, smaller, mode="bicubic", antialias=True, align_corners=False)
    extent = torch.tensor([x1 - x0, y1 - y0])
    grid = (points_px - torch.tensor([x0, y0])) / extent * 2 - 1
    return sample(window[0], grid, "bicubic").clamp(0, 1)


def visibility(points: Tensor, cosine: Tensor, camera: Camera, shape: Shape, rasterise: Rasteriser) -> Tensor:
    """[N] in 0..1 for head-frame points [N, 3] on the mesh: 0 behind another part of it or next to its silhouette.

    `cosine` [N] is that between normal and direction to the camera: the depth of a slanted surface changes within a few
    pixels without occlusion.
    """
    window, _, _ = zoomed(camera, shape.vertices, _ZBUFFER_PX)
    fragments = rasterise(to_clip(shape.vertices, window), shape.topology.faces, window.size)
    covered = torch.isfinite(fragments.depth)
    depth = torch.where(covered, _depth_m(fragments.depth, window), _FAR_M)
    nearest, interior = (_local_minimum(image)[None] for image in (depth, covered.float()))
    around = torch.ones(1, 1, 2 * _SILHOUETTE_PX + 1, 2 * _SILHOUETTE_PX + 1)
    interior = F.conv2d(interior[None], around / around.numel(), padding=_SILHOUETTE_PX)[0]

    clip = to_clip(points, window)
    points_px = clip[:, :2] / clip[:, 3:]
    behind_m = _depth_m(clip[:, 2] / clip[:, 3], window) - _at(nearest, points_px)
    slant_m = _SILHOUETTE_PX * _pixel_m(window, shape) * (1 / cosine.clamp(min=0.1) - 1)
    in_front = 1 - ((behind_m - slant_m) / _OCCLUSION_TOLERANCE_M - 1).clamp(0, 1)
    return in_front * _at(interior, points_px)


def _local_minimum(image: Tensor) -> Tensor:
    """[H, W]: minimum filter over the square of ± `_SILHOUETTE_PX`."""
    least = F.pad(image, (_SILHOUETTE_PX,) * 4, value=torch.inf)
    for dim in (0, 1):
        least = reduce(torch.minimum, least.unfold(dim, 2 * _SILHOUETTE_PX + 1, 1).unbind(-1))
    return least


def inside_picture(points_px: Tensor, size: tuple[int, int]) -> Tensor:
    """[N]: 1 inside a picture of (height, width), fading to 0 over the last two pixels before its border."""
    extent = torch.tensor([size[1], size[0]])
    return (torch.minimum(points_px, extent - points_px).amin(dim=-1) / 2).clamp(0, 1)


def skin_at(skin: SkinMask, points_px: Tensor) -> Tensor:
    """[N]: the mask at photo pixels [N, 2]; 0 beyond it."""
    affine = skin.mask_from_photo
    at = points_px @ affine[:, :2].T + affine[:, 2]
    within = ((at >= 0) & (at <= torch.tensor(skin.alpha.shape).flip(0))).all(dim=-1)
    return _at(skin.alpha[None], at).clamp(0, 1) * within


def _pixel_m(camera: Camera, shape: Shape) -> float:
    """Size of a pixel at the face's distance, metres."""
    depth_m = 1.0 if camera.model == "orthographic" else float(to_camera(shape.vertices, camera)[:, 2].mean())
    return depth_m / float(camera.K[0, 0])


def _depth_m(depth: Tensor, camera: Camera) -> Tensor:
    """Camera z in metres from a rasteriser's depth (`clip_matrix`)."""
    return depth if camera.model == "orthographic" else 1 / (1 - depth)


def _at(image: Tensor, points_px: Tensor) -> Tensor:
    """[N]: image [1, H, W], bilinear, at [N, 2] px."""
    extent = torch.tensor([image.shape[2], image.shape[1]])
    return sample(image, points_px / extent * 2 - 1)[0]
