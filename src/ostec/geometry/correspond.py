"""Where the points of one head model lie on another: by landmarks, then by nearness."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator
from scipy.spatial import KDTree
from torch import Tensor

_NEIGHBOURS = 4
_TOO_FAR_M = 0.015
_SMOOTHING = 1e-4


def carried_over(points: Tensor, landmarks: Tensor, vertices: Tensor, anchors: Tensor, values: Tensor) -> Tensor:
    """[V, C]: `values` [N, C] of a surface sampled at `points` [N, 3], at the `vertices` [V, 3] of another head.

    `landmarks` and `anchors` [L, 3] are the same landmarks on both. The surface is bent so that its landmarks come to
    lie on the anchors (thin plate splines); each vertex then takes the mean of the nearest points, the nearer the
    more. NaN for vertices more than 15 mm from the surface.
    """
    bend = RBFInterpolator(landmarks.double().numpy(), anchors.double().numpy(), smoothing=_SMOOTHING, degree=1)
    distance, index = KDTree(bend(points.double().numpy())).query(vertices.double().numpy(), k=_NEIGHBOURS)
    weight = 1 / np.maximum(distance, 1e-6) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    weight[distance[:, 0] > _TOO_FAR_M] = np.nan
    return (values[torch.from_numpy(index)] * torch.from_numpy(weight)[:, :, None]).sum(dim=1).float()
