"""The built-in detector: MediaPipe's BlazeFace in torch, run at several scales of the photo.

Source: "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", arXiv 1907.05047; the 256 px "back" model of
MediaPipe.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ostec.geometry.align import apply_affine, invert_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.networks.blaze import BlazeBlock, SameConv2d
from ostec.types import Detection, Photo
from ostec.weights.shipped import DATA_DIR, read_tensors
from ostec.weights.tensors import fill

INPUT_PX = 256
PHOTO_SCORE, TILE_SCORE = 0.6, 0.75
"""Least score of a face in a view of the whole photo, and in a tile. If any face reaches the second, only those that do
are kept."""
SAME_FACE_IOU = 0.3
ZOOM_OUT = 0.6
"""Size of the photo in the second view over the view's size, for faces that fill the frame."""
SMALL_PHOTO_PX = 512
"""Photos with a shorter long side are not tiled once a face with a high score is found."""
TILE_STEPS = (2, 4, 8)
"""Long side of the photo over the side of a tile, for each level."""
TILE_MIN_PX = 192
TILE_OVERLAP = 0.25
"""Least overlap of neighbouring tiles over a tile's side; larger faces are found at the coarser level."""
TURNS_DEG = (40.0, -40.0)
_BATCH = 4
"""Larger batches are slower on a CPU, because the features no longer fit its caches."""


class BlazeFaceNet(nn.Module):
    """The network: 896 anchors, each with a logit and a regression of box and six points."""

    anchors: Tensor
    """[896, 2]: x, y of the anchors' centres, 0..1 of the input."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str = "the state dict") -> None:
        """`tensors`: 138 by upstream name. Raises `BadWeights` naming `source`."""
        super().__init__()
        with torch.device("meta"):
            layers: list[nn.Module] = [SameConv2d(3, 24, 5, stride=2), nn.ReLU()]
            for channels_in, channels_out in ((24, 24), (24, 48), (48, 96)):
                layers += [BlazeBlock(channels_in, channels_in, nn.ReLU()) for _ in range(7)]
                layers.append(BlazeBlock(channels_in, channels_out, nn.ReLU(), stride=2))
            layers += [BlazeBlock(96, 96, nn.ReLU()) for _ in range(7)]
            self.backbone = nn.Sequential(*layers)
            halved = nn.Sequential(SameConv2d(96, 96, 3, stride=2, groups=96), nn.Conv2d(96, 96, 1))
            self.final = nn.Sequential(OrderedDict(convs=halved, relu=nn.ReLU()))
            self.classifier_8, self.regressor_8 = nn.Conv2d(96, 2, 1), nn.Conv2d(96, 32, 1)
            self.classifier_16, self.regressor_16 = nn.Conv2d(96, 6, 1), nn.Conv2d(96, 96, 1)
        fill(self, tensors, source)
        self.register_buffer("anchors", torch.cat([_anchors(16, 2), _anchors(8, 6)]), persistent=False)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 256, 256] RGB 0..1 -> regressions [N, 896, 16] in px of the input, logits [N, 896]."""
        fine = self.backbone((2 * pictures - 1).contiguous(memory_format=torch.channels_last))
        coarse = self.final(fine)
        regressions = [_by_anchor(self.regressor_8(fine), 16), _by_anchor(self.regressor_16(coarse), 16)]
        logits = [_by_anchor(self.classifier_8(fine), 1), _by_anchor(self.classifier_16(coarse), 1)]
        return torch.cat(regressions, dim=1), torch.cat(logits, dim=1)[..., 0]

    def faces(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, 256, 256] -> corners and points [N, 896, 8, 2] in px of the input, scores [N, 896].

        The eight: top left and bottom right corner of the box, then the six points of `Detection`.
        """
        regressions, logits = self(pictures)
        pairs = regressions.unflatten(-1, (8, 2))
        anchors_px = self.anchors[:, None] * INPUT_PX
        centre, half = pairs[:, :, :1] + anchors_px, pairs[:, :, 1:2] / 2
        return torch.cat([centre - half, centre + half, pairs[:, :, 2:] + anchors_px], dim=2), logits.sigmoid()


def _anchors(cells: int, per_cell: int) -> Tensor:
    """[cells² · per_cell, 2]: the cells' centres, row by row."""
    axis = (torch.arange(cells) + 0.5) / cells
    centres = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).view(-1, 2)
    return centres.repeat_interleave(per_cell, dim=0)


def _by_anchor(features: Tensor, values: int) -> Tensor:
    """[N, anchors per cell · values, H, W] -> [N, anchors, values]."""
    return features.permute(0, 2, 3, 1).reshape(len(features), -1, values)


class BlazeFaceDetector:
    """Searches the whole photo, then tiles of it, and turned views where nothing was found."""

    def __init__(self, net: BlazeFaceNet) -> None:
        self._net = net

    @torch.inference_mode()
    def __call__(self, photo: Photo) -> list[Detection]:
        """Faces, largest first; empty where there is none. Boxes extend from forehead to chin."""
        height, width = photo.size
        long_px = max(height, width)
        found = self._look(photo.rgb, whole_photo_views(height, width), PHOTO_SCORE)
        for level, step in enumerate(TILE_STEPS):
            if long_px / step < TILE_MIN_PX or not _worth_tiles(found, level, long_px):
                break
            found = merged(found + self._look(photo.rgb, tile_views(height, width, step), TILE_SCORE))
        for turn_deg in TURNS_DEG:
            if not found:
                found = self._look(photo.rgb, whole_photo_views(height, width, turn_deg), PHOTO_SCORE)
        sure = [d for d in found if d.score >= TILE_SCORE]
        return sorted(sure or found, key=_area, reverse=True)

    def _look(self, rgb: Tensor, views: Sequence[Tensor], least_score: float) -> list[Detection]:
        """Faces in crops of the photo, each given by its affine [2, 3] from photo to crop px."""
        found = []
        for first in range(0, len(views), _BATCH):
            batch = views[first : first + _BATCH]
            crops = [warp(rgb, view, (INPUT_PX, INPUT_PX), outside="zeros") for view in batch]
            points, scores = self._net.faces(torch.stack(crops))
            for view, view_points, view_scores in zip(batch, points, scores, strict=True):
                sure = view_scores >= least_score
                found += [
                    _detection(view, corners_and_points, float(score))
                    for corners_and_points, score in zip(view_points[sure], view_scores[sure], strict=True)
                ]
        return merged(found)


def _worth_tiles(found: Sequence[Detection], level: int, long_px: int) -> bool:
    """Whether to search this level of tiles: the first, unless a small photo has a face of high score; further levels
    only while nothing is found."""
    if level:
        return not found
    return long_px >= SMALL_PHOTO_PX or not any(d.score >= TILE_SCORE for d in found)


def whole_photo_views(height: int, width: int, turn_deg: float = 0.0) -> list[Tensor]:
    """Affines [2, 3] from photo px to the network's input: the whole photo, and the same zoomed out."""
    centre = torch.tensor([width / 2, height / 2])
    side_px = float(max(height, width))
    return [square_crop(centre, side_px / zoom, turn_deg, INPUT_PX) for zoom in (1.0, ZOOM_OUT)]


def tile_views(height: int, width: int, step: int) -> list[Tensor]:
    """Affines [2, 3] from photo px to the network's input: overlapping tiles of long side / step."""
    side_px = max(height, width) / step
    rows, columns = (_tile_centres(length, side_px) for length in (height, width))
    return [square_crop(torch.tensor([x, y]), side_px, 0.0, INPUT_PX) for y in rows for x in columns]


def _tile_centres(length: int, side_px: float) -> list[float]:
    """Centres along one axis, evenly spread and symmetric; no tile reaches outside unless one holds the length."""
    span = length - side_px
    if span <= 0:
        return [length / 2]
    count = math.ceil(span / (side_px * (1 - TILE_OVERLAP))) + 1
    return [side_px / 2 + span * k / (count - 1) for k in range(count)]


def _detection(view: Tensor, corners_and_points: Tensor, score: float) -> Detection:
    """From view px to photo px. The box of a turned view becomes upright; its centre and size do not change."""
    photo_from_view = invert_affine(view)
    scale = float(photo_from_view[:, :2].det().sqrt())
    points_px = apply_affine(photo_from_view, corners_and_points)
    centre = points_px[:2].mean(dim=0)
    half = (corners_and_points[1] - corners_and_points[0]) * (scale / 2)
    return Detection(torch.cat([centre - half, centre + half]), points_px[2:], score)


def merged(found: Sequence[Detection]) -> list[Detection]:
    """One detection per face: boxes with an IoU above 0.3 are averaged, weighted by score; the best score is kept.

    A box that lies mostly inside a larger one is dropped as a part of that face.
    """
    rest = sorted(found, key=lambda d: d.score, reverse=True)
    faces: list[Detection] = []
    while rest:
        best = rest[0]
        same = [d for d in rest if d is best or overlap(best, d)[0] > SAME_FACE_IOU]
        rest = [d for d in rest if not any(d is s for s in same)]
        weights = torch.tensor([d.score for d in same])
        weights = weights / weights.sum()
        box = torch.einsum("n,nk->k", weights, torch.stack([d.box_px for d in same]))
        points = torch.einsum("n,nij->ij", weights, torch.stack([d.points_px for d in same]))
        faces.append(Detection(box, points, best.score))
    return [d for d in faces if not any(_area(o) > _area(d) and overlap(o, d)[1] > 0.6 for o in faces)]


def overlap(a: Detection, b: Detection) -> tuple[float, float]:
    """Intersection of two boxes over their union, and over `b`."""
    low, high = torch.maximum(a.box_px[:2], b.box_px[:2]), torch.minimum(a.box_px[2:], b.box_px[2:])
    common = float((high - low).clamp(min=0).prod())
    return common / (_area(a) + _area(b) - common), common / _area(b)


def _area(detection: Detection) -> float:
    return float((detection.box_px[2:] - detection.box_px[:2]).prod())


def load_detector() -> BlazeFaceDetector:
    """The detector with the shipped weights. Raises `MissingWeights`, `BadWeights`."""
    path = DATA_DIR / "blazeface_back_256.safetensors"
    return BlazeFaceDetector(BlazeFaceNet(read_tensors(path), str(path)))
