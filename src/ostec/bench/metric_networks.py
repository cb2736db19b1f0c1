"""Networks that measure how alike two faces look, where their weight files are present."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ostec.geometry.camera import to_pixels
from ostec.geometry.render import portrait_camera, render
from ostec.interfaces import Parts
from ostec.types import Reconstruction

_PORTRAIT_PX = 192


@dataclass(frozen=True)
class MetricNetworks:
    """`identity` compares two pictures, given the landmarks [68, 2] of each; `lpips` compares two batches. None where
    the weight files are missing."""

    identity: Callable[[Tensor, Tensor, Tensor, Tensor], float] | None = None
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None

    def lpips_between(self, picture: Tensor, truth: Tensor) -> float | None:
        """LPIPS distance of two pictures [3, H, W]."""
        return None if self.lpips is None else float(self.lpips(picture[None], truth[None]))

    def identity_between(self, face: Reconstruction, texture: Tensor, truth: Tensor, parts: Parts) -> float | None:
        """Cosine of the embeddings of two textures [3, Hu, Wu], each rendered from the front on this head."""
        if self.identity is None:
            return None
        camera = portrait_camera(face, 0.0, 0.0, 0.0, _PORTRAIT_PX)
        landmarks_px = to_pixels(face.vertices[face.topology.landmark_vertices], camera)
        pictures = render(face, torch.cat([texture, truth]), camera, parts.rasterise)[0]
        return self.identity(pictures[:3], pictures[3:], landmarks_px, landmarks_px)


def load_metric_networks(weights_dir: Path | None) -> MetricNetworks:
    """The networks whose files lie in one of the weights folders. Raises `BadWeights`."""
    from ostec.networks.identity import identity_similarity
    from ostec.registry.sources import find_source
    from ostec.registry.table import row, rows
    from ostec.weights.locate import weights_folders

    folders = weights_folders(weights_dir)
    identity = find_source([row("identity", "mobilefacenet")], folders)
    lpips = find_source(rows("perception"), folders)
    compare = partial(identity_similarity, identity.load()) if identity else None
    return MetricNetworks(compare, lpips.load() if lpips else None)
