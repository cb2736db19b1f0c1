"""Shards of pictures, cut as the face network sees them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from face_scene import IGNORE, NET_PX, PICTURE_PX
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.face import INPUT_PX

_ROLL_DEG, _SCALE, _SHIFT = 10.0, 0.12, 0.05
"""Spread of the crop: roll, log of its side, its centre over its side."""
_EYES = (33, 263)


@dataclass(frozen=True)
class Batch:
    """Crops and what they show; px of the crop."""

    crops: Tensor
    """[N, 3, 256, 256], 0..1."""
    parts: Tensor
    """[M, 256, 256] int64, of the first M, `IGNORE` where nobody knows."""
    points: Tensor
    """[N, P, 3]."""
    seen: Tensor
    """[N, P]."""
    present: Tensor
    """[N] bool."""
    unit_px: Tensor
    """[N]: the distance of the outer corners of the eyes, as seen from the front."""
    yaw_deg: Tensor
    """[N]."""


class Shard:
    """A file of pictures, kept packed."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        self._files = {
            name: np.split(arrays.pop(name), arrays.pop(ends)[:-1])
            for name, ends in (("pictures", "picture_ends"), ("parts", "parts_ends"))
        }
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays["points"])

    def picture(self, name: str, k: int) -> NDArray[np.uint8]:
        """[S, S, 3] or [S, S]."""
        return np.asarray(Image.open(io.BytesIO(self._files[name][k].tobytes())))


class Pictures:
    """All shards of a folder; looks for new ones when asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._shards = folder, dict[str, Shard]()
        self.refresh()

    def refresh(self) -> None:
        """Raises `SystemExit` where there is none."""
        for path in sorted(self.folder.glob("*.npz")):
            if path.name not in self._shards:
                self._shards[path.name] = Shard(path)
        self._places = [(shard, k) for shard in self._shards.values() for k in range(len(shard))]
        if not self._places:
            raise SystemExit(f"{self.folder} holds no shards; make some with tools/face_data.py.")

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, which: list[int], draw: torch.Generator | None, mirror: Tensor, parts_share: float = 1.0) -> Batch:
        """Cropped and mirrored at random; with `draw` None the usual crop, in which the head is upright.

        `parts_share`: of how large a share of them the part map is wanted.
        """
        rows = [self._places[n] for n in which]
        some = max(1, round(parts_share * len(rows)))
        pictures = [shard.picture("pictures", k) for shard, k in rows]
        parts = [shard.picture("parts", k) for shard, k in rows[:some]]
        arrays = {name: torch.from_numpy(np.stack([s.arrays[name][k] for s, k in rows])) for name in rows[0][0].arrays}
        rgb = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        label = torch.from_numpy(np.stack(parts))[:, None].float()
        crops, label, points = _cropped(rgb, label, arrays["points"], _affines(arrays["R"], draw))
        unit_px = _units(arrays)
        seen, yaw_deg = arrays["seen"], torch.rad2deg(torch.asin(arrays["R"][:, 2, 0].clamp(-1, 1)))
        if draw is not None:
            flip = torch.rand(len(rows), generator=draw) < 0.5
            crops[flip] = crops[flip].flip(-1)
            label[flip[:some]] = label[flip[:some]].flip(-1)
            other = points[:, mirror].clone()
            other[..., 0] = INPUT_PX - other[..., 0]
            points = torch.where(flip[:, None, None], other, points)
            seen = torch.where(flip[:, None], seen[:, mirror], seen)
            crops = _recoloured(crops, draw)
        return Batch(crops, label[:, 0].long(), points, seen, arrays["present"], unit_px, yaw_deg)


def _affines(R: Tensor, draw: torch.Generator | None) -> Tensor:
    """[N, 2, 3]: px of the crop -> px of the picture, for heads turned by R [N, 3, 3].

    Upright is where the crown points up; that is also known in profile, where pitch and roll are one.
    """
    if draw is None:
        normal, angle = torch.zeros(len(R), 4), torch.atan2(R[:, 0, 1], -R[:, 1, 1])
    else:
        normal = torch.randn(len(R), 4, generator=draw)
        angle = torch.deg2rad(_ROLL_DEG * normal[:, 0])
    scale = NET_PX / INPUT_PX * (_SCALE * normal[:, 1]).exp()
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).view(-1, 2, 2)
    linear = turn * scale[:, None, None]
    centre = PICTURE_PX / 2 + _SHIFT * NET_PX * normal[:, 2:]
    return torch.cat([linear, (centre - linear.sum(dim=2) * INPUT_PX / 2)[..., None]], dim=2)


def _cropped(rgb: Tensor, label: Tensor, points: Tensor, affines: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, labels (of the first of them) and points seen in crops."""
    axis = torch.arange(INPUT_PX) + 0.5
    place = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)
    at = torch.einsum("hwk,nck->nhwc", place, affines[:, :, :2]) + affines[:, None, None, :, 2]
    grid = at * (2 / PICTURE_PX) - 1
    crops = F.grid_sample(rgb, grid, "bilinear", "border", align_corners=False)
    grid = grid[: len(label)]
    inside = (grid.abs() <= 1).all(dim=-1)[:, None]
    label = torch.where(inside, F.grid_sample(label, grid, "nearest", "border", align_corners=False), float(IGNORE))
    back = torch.linalg.inv(affines[:, :, :2])
    xy = torch.einsum("nck,npk->npc", back, points[..., :2] - affines[:, None, :, 2])
    z = points[..., 2:] * back.det().sqrt()[:, None, None]
    return crops, label, torch.cat([xy, z], dim=2)


def _units(arrays: Mapping[str, Tensor]) -> Tensor:
    """[N] px of the usual crop: length in 3D of the line between the outer corners of the eyes."""
    a, b = (arrays["points"][:, k] for k in _EYES)
    return (a - b).norm(dim=1) * (INPUT_PX / NET_PX)


def _recoloured(crops: Tensor, draw: torch.Generator) -> Tensor:
    """Brightness, contrast and colour a little off; here and there a patch of one colour."""
    n = len(crops)
    gain = (0.15 * torch.randn(n, 1, 1, 1, generator=draw) + 0.05 * torch.randn(n, 3, 1, 1, generator=draw)).exp()
    mean = crops.mean(dim=(1, 2, 3), keepdim=True)
    contrast = (0.15 * torch.randn(n, 1, 1, 1, generator=draw)).exp()
    return (((crops - mean) * contrast + mean) * gain).clamp(0, 1)
