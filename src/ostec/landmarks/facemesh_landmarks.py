"""Landmarks of generated portraits, differentiable, by the FaceMesh network that also fits photos."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.networks.facemesh_net import CROP_PX, FaceMeshNet, load_facemesh_net

IBUG_POINTS = (
    *(127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300, 168, 197, 5, 4, 75, 97, 2, 326, 305),  # brows, nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),  # lips
)
"""The 68 iBUG landmarks, in their order, among FaceMesh's 468 points."""


class MeshLandmarks(nn.Module):
    """The 68 iBUG landmarks among FaceMesh's 468 points.

    In the FFHQ crop a face fills as much of the picture as FaceMesh expects (two thirds of its width), so the picture
    is only resized to 192 px.
    """

    index: Tensor

    def __init__(self, net: FaceMeshNet) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("index", torch.tensor(IBUG_POINTS), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [N, 3, S, S] in 0..1, cropped as FFHQ is -> landmarks [N, 68, 2] px."""
        size = pictures.shape[-1]
        shrinks = size > CROP_PX
        crops = F.interpolate(pictures, (CROP_PX, CROP_PX), mode="bilinear", antialias=shrinks, align_corners=False)
        points, _ = self.net(crops)
        return points[:, self.index, :2] * (size / CROP_PX)


def load_mesh_landmarks(device: torch.device | str = "cpu") -> MeshLandmarks:
    """With the shipped weights. Raises `MissingWeights`, `BadWeights`."""
    return MeshLandmarks(load_facemesh_net()).to(device).eval().requires_grad_(False)
