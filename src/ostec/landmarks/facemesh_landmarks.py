"""Landmarks of generated portraits, differentiable, by the FaceMesh that finds those of photos."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.heads.facemesh import load_facemesh_model
from ostec.networks.facemesh_net import CROP_PX, FaceMeshNet, load_facemesh_net


class MeshLandmarks(nn.Module):
    """The 68 points of iBUG among FaceMesh's 468.

    In the FFHQ crop a face takes up as much of the picture as FaceMesh wants (two thirds of its width), so the picture
    goes in as it is, at 192 px.
    """

    index: Tensor

    def __init__(self, net: FaceMeshNet, landmark_vertices: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("index", landmark_vertices, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, S, S] in 0..1, cropped as FFHQ is, to [N, 68, 2] px."""
        size = pictures.shape[-1]
        shrinks = size > CROP_PX
        crops = F.interpolate(pictures, (CROP_PX, CROP_PX), mode="bilinear", antialias=shrinks, align_corners=False)
        points, _ = self.net(crops)
        return points[:, self.index, :2] * (size / CROP_PX)


def load_mesh_landmarks(device: torch.device | str = "cpu") -> MeshLandmarks:
    """With the shipped weights. Raises `MissingWeights`, `BadWeights`."""
    net = MeshLandmarks(load_facemesh_net(), load_facemesh_model().topology.landmark_vertices)
    return net.to(device).eval().requires_grad_(False)
