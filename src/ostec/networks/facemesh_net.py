"""MediaPipe's FaceMesh in torch: 468 points in 3D from a crop of the photo.

Source: "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", arXiv 1907.06724; weights of
`face_landmark.tflite` in MediaPipe 0.10.21.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ostec.geometry.align import apply_affine, invert_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.networks.blaze import BlazeBlock, SameConv2d
from ostec.types import Detection, Photo
from ostec.weights.shipped import DATA_DIR, read_tensors
from ostec.weights.tensors import fill

CROP_PX = 192
CROP_PER_BOX = 1.5
"""Side of the crop in units of the longer side of the face's box."""
EYE_CORNERS = (33, 263)
"""Outer corners of the subject's right and left eye."""


def _prelu_block(channels_in: int, channels_out: int, stride: int = 1) -> BlazeBlock:
    return BlazeBlock(channels_in, channels_out, nn.PReLU(channels_out), stride)


class FaceMeshNet(nn.Module):
    """The network and the vertex map that mirroring a face amounts to."""

    mirror: Tensor
    """[468] int64 involution: the vertex of the other side of the face."""

    def __init__(self, tensors: Mapping[str, Tensor], mirror: Tensor, source: str = "the state dict") -> None:
        """`tensors`: 113 by upstream name; `mirror` [468] int64. Raises `BadWeights` naming `source`."""
        super().__init__()
        with torch.device("meta"):
            layers: list[nn.Module] = [SameConv2d(3, 16, 3, stride=2), nn.PReLU(16)]
            layers += [_prelu_block(16, 16), _prelu_block(16, 16)]
            for channels_in, channels_out in ((16, 32), (32, 64), (64, 128), (128, 128)):
                layers.append(_prelu_block(channels_in, channels_out, stride=2))
                layers += [_prelu_block(channels_out, channels_out) for _ in range(2)]
            self.backbone = nn.Sequential(*layers)
            self.coord_head = nn.Sequential(
                _prelu_block(128, 128, stride=2),
                _prelu_block(128, 128),
                _prelu_block(128, 128),
                nn.Conv2d(128, 32, 1),
                nn.PReLU(32),
                _prelu_block(32, 32),
                nn.Conv2d(32, 1404, 3),
            )
            self.conf_head = nn.Sequential(
                _prelu_block(128, 128, stride=2),
                nn.Conv2d(128, 32, 1),
                nn.PReLU(32),
                _prelu_block(32, 32),
                nn.Conv2d(32, 1, 3),
            )
        fill(self, tensors, source)
        self.register_buffer("mirror", mirror, persistent=False)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 192, 192] RGB 0..1 -> points [N, 468, 3] in crop px (smaller z is nearer), presence logits [N]."""
        features = self.backbone(crops)
        return self.coord_head(features).view(-1, 468, 3), self.conf_head(features).view(-1)


def load_facemesh_net() -> FaceMeshNet:
    """The network with the shipped weights. Raises `MissingWeights`, `BadWeights`."""
    path = DATA_DIR / "facemesh.safetensors"
    mirror = read_tensors(DATA_DIR / "facemesh_mirror.safetensors")["mirror"]
    return FaceMeshNet(read_tensors(path), mirror, str(path))


def mesh_points(net: FaceMeshNet, photo: Photo, detection: Detection) -> tuple[Tensor, float]:
    """The 468 points of one face and the probability that there is a face.

    Points [468, 3]: x and y in px of the photo, z on the same scale, smaller is nearer, 0 about the head's middle.
    The crop about the detection gives the crop that counts. Both are seen as they are and mirrored, and the two
    answers averaged: mirroring photo and detection mirrors the points.
    """
    x0, y0, x1, y1 = detection.box_px.tolist()
    centre = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])
    side_px = CROP_PER_BOX * max(x1 - x0, y1 - y0)
    points, _ = _points_in_crop(net, photo.rgb, centre, side_px, roll_deg(*detection.points_px[:2]))
    return _points_in_crop(net, photo.rgb, *landmark_square(points))


def roll_deg(right_eye_px: Tensor, left_eye_px: Tensor) -> float:
    """How far the line from the subject's right eye to the left eye, [2] each, is turned clockwise in the photo."""
    x, y = (left_eye_px - right_eye_px).tolist()
    return math.degrees(math.atan2(y, x))


def landmark_square(points: Tensor) -> tuple[Tensor, float, float]:
    """Centre [2], side and roll in degrees of the crop that FaceMesh wants about 468 points [468, 2 or 3] in px."""
    points = points[:, :2].double()
    roll = roll_deg(*points[list(EYE_CORNERS)])
    level = square_crop(torch.zeros(2), 1.0, roll, 1)
    upright = apply_affine(level, points)
    low, high = upright.amin(0), upright.amax(0)
    return apply_affine(invert_affine(level), (low + high) / 2), CROP_PER_BOX * float((high - low).max()), roll


@torch.inference_mode()
def _points_in_crop(
    net: FaceMeshNet, rgb: Tensor, centre_px: Tensor, side_px: float, roll: float
) -> tuple[Tensor, float]:
    crop_from_photo = square_crop(centre_px, side_px, roll, CROP_PX)
    crop = warp(rgb, crop_from_photo, (CROP_PX, CROP_PX))
    points, logits = net(torch.stack([crop, crop.flip(-1)]))
    mirrored = points[1, net.mirror]
    mirrored[:, 0] = CROP_PX - mirrored[:, 0]
    mean = (points[0] + mirrored) / 2
    xy = apply_affine(invert_affine(crop_from_photo), mean[:, :2])
    z = mean[:, 2:] * (side_px / CROP_PX)
    return torch.cat([xy, z], dim=1), float(logits.mean().sigmoid())
