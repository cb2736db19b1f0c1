"""MTCNN, the detector of the released OSTeC, in torch: three networks, each of which looks only where the one before
saw a face.

Source: Zhang et al., "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE Signal
Processing Letters 2016; thresholds, scales and roundings are those of the PyPI package `mtcnn` 1.0.0, whose boxes and
points these are.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ostec.original.mtcnn_nets import OUTPUT_PX, PROPOSAL_PX, REFINE_PX, MtcnnNets
from ostec.types import Detection, Photo
from ostec.weights.shipped import DATA_DIR, read_tensors

SMALLEST_FACE_PX = 20
_STEP = 0.709
"""Ratio of neighbouring scales."""
_PROPOSED, _REFINED, _SURE = 0.6, 0.7, 0.8
"""Least probability of a face after each network."""
_SAME_SCALE_IOU, _SAME_FACE = 0.5, 0.7
_CELL_STRIDE_PX = 2
_BATCH = 256
_PAIRS = 1 << 22
"""Pairs of boxes that are compared at a time."""


class MtcnnDetector:
    """Finds upright faces from 20 px on."""

    def __init__(self, nets: MtcnnNets) -> None:
        self._nets = nets

    @torch.inference_mode()
    def __call__(self, photo: Photo) -> list[Detection]:
        """Faces, largest first; empty where there is none. Boxes reach from forehead to chin.

        Points [5, 2]: right eye, left eye (the subject's), nose tip, right and left corner of the mouth.
        """
        picture = (255 * photo.rgb - 127.5) / 128
        boxes = squares(self._proposed(picture))
        boxes = squares(self._refined(picture, boxes))
        boxes, points, scores = self._placed(picture, boxes)
        found = [
            Detection(box.float(), five.float(), float(score))
            for box, five, score in zip(boxes, points, scores, strict=True)
        ]
        return sorted(found, key=lambda d: float((d.box_px[2:] - d.box_px[:2]).prod()), reverse=True)

    def _proposed(self, picture: Tensor) -> Tensor:
        """[N, 4] float64: boxes that P-Net proposes, those of the highest score first."""
        found = []
        for scale, smaller in pyramid(picture):
            shifts, probability = (x[0] for x in self._nets.proposal(smaller[None]))
            cells = (probability > _PROPOSED).nonzero()
            scores = probability[cells[:, 0], cells[:, 1]]
            corner = (_CELL_STRIDE_PX * cells.flip(1)).double()
            low_high = torch.cat([corner + 1, corner + PROPOSAL_PX], dim=1)
            boxes = low_high + shifts[:, cells[:, 0], cells[:, 1]].T * (PROPOSAL_PX - 1)
            kept = _best(boxes / scale, scores, _SAME_SCALE_IOU)
            found.append((boxes[kept] / scale, scores[kept]))
        if not found:
            return torch.zeros(0, 4, dtype=torch.float64)
        boxes, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        return boxes[_best(boxes, scores, _SAME_FACE)]

    def _refined(self, picture: Tensor, boxes: Tensor) -> Tensor:
        """[N, 4]: the boxes that R-Net takes for faces, corrected by it, those of the highest score first."""
        seen = [self._nets.refine(crops(picture, some, REFINE_PX)) for some in boxes.split(_BATCH)]
        shifts, scores = (torch.cat(parts) for parts in zip(*seen, strict=True))
        faces = scores > _REFINED
        moved = _moved(boxes, shifts)[faces]
        return moved[_best(moved, scores[faces], _SAME_FACE)]

    def _placed(self, picture: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [N, 4], points [N, 5, 2] and scores [N] of what O-Net takes for faces."""
        seen = [self._nets.output(crops(picture, some, OUTPUT_PX)) for some in boxes.split(_BATCH)]
        shifts, scores, points = (torch.cat(parts) for parts in zip(*seen, strict=True))
        points = points * _sides(boxes)[:, None] + boxes[:, None, :2] - 1
        faces = scores > _SURE
        moved, points, scores = _moved(boxes, shifts)[faces], points[faces], scores[faces]
        kept = _best(moved, scores, _SAME_FACE, of_smaller=True)
        return moved[kept], points[kept], scores[kept]


def pyramid(picture: Tensor) -> list[tuple[float, Tensor]]:
    """(scale, [3, h, w]) from the one where a face of 20 px fits a cell of P-Net to the last that holds a cell."""
    height, width = picture.shape[1:]
    count = round(math.log(min(height, width) / PROPOSAL_PX) / -math.log(_STEP) - 1)
    scales = [PROPOSAL_PX / SMALLEST_FACE_PX * _STEP**level for level in range(count)]
    sums = area_sums(picture)
    return [(scale, area_means(sums, (int(height * scale), int(width * scale))).to(picture)) for scale in scales]


def area_sums(picture: Tensor) -> Tensor:
    """[C, H, W] -> [C, H + 1, W + 1] float64: sums over all that is above and to the left of each corner of a pixel."""
    return F.pad(picture.double().cumsum(1).cumsum(2), (1, 0, 1, 0))


def area_means(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """`area_sums` of a picture -> [C, h, w]: its means over equal areas, whose edges may lie within pixels."""
    for axis, count in enumerate(size, start=1):
        length = sums.shape[axis] - 1
        edges = torch.arange(count + 1, dtype=torch.float64, device=sums.device) * length / count
        pixel = edges.long().clamp(max=length - 1)
        share = (edges - pixel).view(-1, *[1] * (2 - axis))
        low, high = (sums.index_select(axis, index) for index in (pixel, pixel + 1))
        sums = torch.lerp(low, high, share).diff(dim=axis) * (count / length)
    return sums


def crops(picture: Tensor, boxes: Tensor, side_px: int) -> Tensor:
    """[N, 3, S, S]: what lies within boxes [N, 4], sampled from the first pixel to the last; 0 outside the picture.

    A box counts over the picture's size, a pixel over one less, as TensorFlow's `crop_and_resize` is used upstream.
    """
    last = torch.tensor([picture.shape[2], picture.shape[1]]) - 1
    low, high = (boxes / (last + 1).repeat(2)).view(-1, 2, 2).unbind(1)
    steps = torch.linspace(0, 1, side_px, dtype=torch.float64)
    axes = (low[:, None] + steps[:, None] * (high - low)[:, None]) * last
    x, y = axes.unbind(2)
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), dim=3)
    inside = ((grid >= 0) & (grid <= last)).all(dim=3)
    wanted = (2 * grid / last - 1).view(1, -1, side_px, 2).to(picture)
    seen = F.grid_sample(picture[None], wanted, padding_mode="border", align_corners=True)[0]
    return seen.view(len(picture), -1, side_px, side_px).transpose(0, 1) * inside[:, None]


def squares(boxes: Tensor) -> Tensor:
    """Boxes [N, 4], made square about their middles by their longer sides."""
    low, high = boxes[:, :2], boxes[:, 2:]
    half = (high - low).amax(dim=1, keepdim=True) / 2
    middle = (low + high) / 2
    return torch.cat([middle - half, middle + half], dim=1)


def _sides(boxes: Tensor) -> Tensor:
    """[N, 2]: width and height, counted in pixels from the first to the last."""
    return boxes[:, 2:] - boxes[:, :2] + 1


def _moved(boxes: Tensor, shifts: Tensor) -> Tensor:
    return boxes + shifts * _sides(boxes).repeat(1, 2)


def _best(boxes: Tensor, scores: Tensor, same: float, of_smaller: bool = False) -> Tensor:
    """[M] indices of boxes in falling order of scores, without those that overlap a better one by more than `same`."""
    order = scores.argsort(stable=True).flip(0)
    return order[unlike_those_before(boxes[order], same, of_smaller)]


def unlike_those_before(boxes: Tensor, same: float, of_smaller: bool = False) -> Tensor:
    """[N] bool: which boxes overlap none of those before by more than `same`, over the union or the smaller of both.

    What an overlapped box overlaps in turn goes too: all are compared with all, unlike in the usual suppression.
    """
    kept = torch.ones(len(boxes), dtype=torch.bool)
    rows = max(1, _PAIRS // max(1, len(boxes)))
    for first in range(0, len(boxes), rows):
        some = boxes[first : first + rows]
        before = torch.arange(len(boxes)) < torch.arange(first, first + len(some))[:, None]
        kept[first : first + rows] = ~((_overlaps(some, boxes, of_smaller) > same) & before).any(dim=1)
    return kept


def _overlaps(boxes: Tensor, others: Tensor, of_smaller: bool) -> Tensor:
    """[N, M]: intersection over union, or over the smaller."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp(min=0).prod(dim=2)
    area, other = ((b[:, 2:] - b[:, :2]).prod(dim=1) for b in (boxes, others))
    if of_smaller:
        return common / torch.minimum(area[:, None], other)
    return common / (area[:, None] + other - common)


def load_mtcnn_detector() -> MtcnnDetector:
    """The detector with the shipped weights. Raises `MissingWeights`, `BadWeights`."""
    path = DATA_DIR / "mtcnn.safetensors"
    return MtcnnDetector(MtcnnNets(read_tensors(path), str(path)))
