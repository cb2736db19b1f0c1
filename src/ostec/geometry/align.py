"""Affines of the picture plane ([2, 3], px -> px), the crops that faces are aligned to, and least-squares fits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ostec.errors import BadGeometry

ARCFACE_SIZE_PX = 112
ARCFACE_POINTS_PX = torch.tensor(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Eye at the picture's left, eye at its right, nose tip, mouth corners likewise (ArcFace, CVPR 2019)."""


def apply_affine(affine: Tensor, points: Tensor) -> Tensor:
    """[2, 3] affine on points [..., 2]; the result has the points' dtype."""
    return (points.double() @ affine[:, :2].double().T + affine[:, 2].double()).to(points.dtype)


def invert_affine(affine: Tensor) -> Tensor:
    """[2, 3] float64 inverse of a [2, 3] affine."""
    linear = torch.linalg.inv(affine[:, :2].double())
    return torch.cat([linear, -(linear @ affine[:, 2:].double())], dim=1)


def fit_similarity_2d(source: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """[2, 3] rotation, uniform scale and shift that best take `source` [N, 2] to `target` [N, 2].

    Weighted least squares (Umeyama, PAMI 1991, in the plane, where it has a closed form); `weights` [N] >= 0. Never
    mirrors. Raises `BadGeometry` where the source points coincide.
    """
    a, b = source.double(), target.double()
    w = torch.ones_like(a[:, 0]) if weights is None else weights.double()
    w = (w / w.sum())[:, None]
    a_mean, b_mean = (w * a).sum(dim=0), (w * b).sum(dim=0)
    a, b = a - a_mean, b - b_mean
    spread = (w * a * a).sum()
    if not float(spread) > 0:
        raise BadGeometry("The points to align coincide or are not finite; give at least two different ones.")
    cos = (w * a * b).sum() / spread
    sin = (w[:, 0] * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])).sum() / spread
    linear = torch.stack([torch.stack([cos, -sin]), torch.stack([sin, cos])])
    return torch.cat([linear, (b_mean - linear @ a_mean)[:, None]], dim=1).to(source.dtype)


def fit_similarity_3d(source: Tensor, target: Tensor, weights: Tensor) -> tuple[float, Tensor, Tensor]:
    """(scale, R [3, 3], t [3]) with target ~ scale R source + t by weighted least squares (Umeyama, PAMI 1991).

    `source`, `target` [N, 3], `weights` [N].
    """
    share = (weights / weights.sum())[:, None]
    source_mean, target_mean = (share * source).sum(dim=0), (share * target).sum(dim=0)
    a, b = source - source_mean, target - target_mean
    u, s, vt = torch.linalg.svd((b[:, :, None] * (share * a)[:, None, :]).sum(dim=0))
    signs = torch.ones(3, dtype=source.dtype)
    signs[2] = torch.sign(torch.linalg.det(u @ vt))
    R = (u * signs) @ vt
    scale = float((s * signs).sum() / (share * a * a).sum())
    return scale, R, target_mean - scale * R @ source_mean


def square_crop(centre_px: Tensor, side_px: float, roll_deg: float, crop_px: int) -> Tensor:
    """[2, 3] float64 affine, picture px -> px of a square crop of `crop_px` about `centre_px` [2].

    `side_px` is the crop's side in the picture; what is turned clockwise by `roll_deg` there is upright in the crop.
    """
    scale, angle = crop_px / side_px, math.radians(roll_deg)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    shift = crop_px / 2 - turn @ centre_px.double()
    return torch.cat([turn, shift[:, None]], dim=1)


def ffhq_crop(landmarks_px: Tensor, size_px: int) -> Tensor:
    """[2, 3] affine from the picture to the FFHQ crop of `size_px`, from [68, 2] landmarks (FFHQ, Karras et al. 2019).

    The square c ± x ± y goes onto [0, size_px]²; a tilted face comes out upright. Raises `BadGeometry` where eyes and
    mouth coincide.
    """
    points = landmarks_px.double()
    eye_left, eye_right = points[36:42].mean(dim=0), points[42:48].mean(dim=0)
    eyes = (eye_left + eye_right) / 2
    between = eye_right - eye_left
    to_mouth = (points[48] + points[54]) / 2 - eyes
    x = between + to_mouth.flip(0) * torch.tensor([1.0, -1.0])
    length = float(x.norm())
    if not length > 0:
        raise BadGeometry("Eyes and mouth coincide or are not finite; no FFHQ crop fits these landmarks.")
    x = x / length * max(2.0 * float(between.norm()), 1.8 * float(to_mouth.norm()))
    y = x.flip(0) * torch.tensor([-1.0, 1.0])
    centre = eyes + 0.1 * to_mouth
    picture_from_crop = torch.stack([2 * x / size_px, 2 * y / size_px, centre - x - y], dim=1)
    return invert_affine(picture_from_crop).to(landmarks_px.dtype)


def arcface_crop(points_px: Tensor) -> Tensor:
    """[2, 3] affine from the picture to the 112 px ArcFace crop, for points [5, 2] as in `ARCFACE_POINTS_PX`."""
    return fit_similarity_2d(points_px, ARCFACE_POINTS_PX.to(points_px))
