"""MTCNN finds the boxes and points of the public implementation, and its fast ways agree with the obvious ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.data import astronaut
from torch import Tensor

from ostec.detection.blazeface import load_detector
from ostec.errors import BadWeights
from ostec.heads.facemesh import load_facemesh_reconstructor
from ostec.original import mtcnn
from ostec.original.mtcnn import MtcnnDetector, area_means, area_sums, crops, squares, unlike_those_before
from ostec.original.mtcnn_nets import MtcnnNets
from ostec.registry import components
from ostec.types import Photo

Picture = NDArray[np.uint8]

REFERENCE = Path(__file__).parents[1] / "data" / "mtcnn_reference.json"
"""Picture -> rows x0, y0, x1, y1, score, five x, five y of the PyPI package mtcnn 1.0.0 on TensorFlow 2.21:
`MTCNN().detect_faces(picture, output_type="numpy", box_format="xyxy", fit_to_image=False)[:, 1:]`."""


def pictures() -> dict[str, Picture]:
    """Name -> [H, W, 3]: the astronaut, cut and put together without a resampling that others do differently."""
    whole = astronaut()
    small = whole[::2, ::2]
    beside = np.zeros((300, 400, 3), np.uint8)
    beside[20:276, 10:266], beside[150:278, 262:390] = small, whole[::4, ::4]
    return {
        "whole": whole,
        "mirrored": whole[:, ::-1],
        "half": small,
        "twenty pixels": whole[::5, ::5],
        "enlarged": whole.repeat(2, axis=0).repeat(2, axis=1),
        "two": np.concatenate([whole, whole[:, ::-1]], axis=1),
        "two sizes": beside,
        "cut at the border": whole[:, :232],
        "dark": whole // 3,
        "odd": whole[11:300, 62:411],
        "upside down": whole[::-1],
        "nobody": whole[256:, :160],
    }


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return components.build("detector", "mtcnn")


def photo(picture: Picture) -> Photo:
    return Photo(torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255, "a photo")


@pytest.mark.parametrize("name", list(pictures()))
def test_boxes_and_points_are_those_of_the_public_implementation(detector: MtcnnDetector, name: str) -> None:
    found = detector(photo(pictures()[name]))
    rows = [torch.cat([d.box_px, torch.tensor([d.score]), d.points_px.T.flatten()]) for d in found]
    wanted = sorted(json.loads(REFERENCE.read_text())[name], key=lambda r: (r[0] - r[2]) * (r[3] - r[1]))
    assert len(rows) == len(wanted)
    for row, expected in zip(rows, wanted, strict=True):
        assert torch.allclose(row, torch.tensor(expected), atol=0.02)


def test_points_lie_in_their_order(detector: MtcnnDetector) -> None:
    (found,) = detector(photo(astronaut()))
    right_eye, left_eye, nose, mouth_right, mouth_left = found.points_px.tolist()
    assert right_eye[0] < nose[0] < left_eye[0] and mouth_right[0] < mouth_left[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < min(mouth_right[1], mouth_left[1])


def test_largest_face_comes_first(detector: MtcnnDetector) -> None:
    first, second = detector(photo(pictures()["two sizes"]))
    assert float((first.box_px[2:] - first.box_px[:2]).prod() / (second.box_px[2:] - second.box_px[:2]).prod()) > 2


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (20, 20), (300, 300)])
def test_noise_holds_no_face(detector: MtcnnDetector, size: tuple[int, int]) -> None:
    assert detector(Photo(torch.rand(3, *size), "noise")) == []


def test_a_head_is_fitted_alike_whoever_found_it(detector: MtcnnDetector) -> None:
    fit = load_facemesh_reconstructor()
    portrait = photo(astronaut())
    ours, usual = (fit(portrait, find(portrait)[0]).landmarks.points_px for find in (detector, load_detector()))
    assert float((ours - usual).norm(dim=1).mean()) < 1


def test_area_means_are_overlaps_of_cells() -> None:
    picture = torch.rand(3, 29, 41)

    def shares(length: int, count: int) -> Tensor:
        """[count, length]: how much of each cell a pixel takes up."""
        edges = torch.arange(count + 1, dtype=torch.float64) * length / count
        pixels = torch.arange(length, dtype=torch.float64)
        low = torch.maximum(edges[:-1, None], pixels)
        return (torch.minimum(edges[1:, None], pixels + 1) - low).clamp(min=0) * count / length

    for height, width in ((29, 41), (17, 25), (7, 11), (1, 1)):
        wanted = shares(29, height) @ picture.double() @ shares(41, width).T
        assert torch.allclose(area_means(area_sums(picture), (height, width)), wanted, atol=1e-6)


def test_the_pyramid_goes_from_the_smallest_face_to_the_largest() -> None:
    levels = mtcnn.pyramid(torch.zeros(3, 300, 400))
    assert levels[0][0] * mtcnn.SMALLEST_FACE_PX == 12
    assert 12 <= min(levels[-1][1].shape[1:]) < 12 / 0.709**1.5
    assert all(abs(small / large - 0.709) < 1e-9 for (large, _), (small, _) in zip(levels, levels[1:], strict=False))


def test_crops_of_a_ramp_are_where_they_were_cut() -> None:
    y, x = torch.meshgrid(torch.arange(50.0), torch.arange(80.0), indexing="ij")
    box = torch.tensor([[8.0, 10.0, 40.0, 30.0], [-8.0, 0.0, 8.0, 10.0]], dtype=torch.float64)
    cut = crops(torch.stack([x, y, torch.ones_like(x)]), box, 9)
    share = torch.linspace(0, 1, 9)
    assert torch.allclose(cut[0, 0], ((8 + 32 * share) * 79 / 80).expand(9, 9), atol=1e-3)
    assert torch.allclose(cut[0, 1], ((10 + 20 * share) * 49 / 50)[:, None].expand(9, 9), atol=1e-3)
    assert torch.equal(cut[1, 2, 0], torch.tensor([0.0] * 4 + [1.0] * 5))


def test_overlapped_boxes_go_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    low = torch.rand(60, 2, dtype=torch.float64) * 20
    boxes = torch.cat([low, low + 4 + torch.rand(60, 2, dtype=torch.float64) * 8], dim=1)

    def overlap(a: list[float], b: list[float], of_smaller: bool) -> float:
        common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
        return common / (min(areas) if of_smaller else sum(areas) - common)

    for of_smaller in (False, True):
        rows = boxes.tolist()
        wanted = [all(overlap(rows[i], before, of_smaller) <= 0.5 for before in rows[:i]) for i in range(len(rows))]
        assert 0 < sum(wanted) < len(rows)
        for pairs in (1 << 22, 100):
            monkeypatch.setattr(mtcnn, "_PAIRS", pairs)
            assert unlike_those_before(boxes, 0.5, of_smaller).tolist() == wanted


def test_squares_keep_their_middles_and_longer_sides() -> None:
    boxes = torch.tensor([[2.0, 4.0, 12.0, 8.0], [0.0, 0.0, 2.0, 6.0]])
    assert squares(boxes).tolist() == [[2, 1, 12, 11], [-2, 0, 4, 6]]


def test_wrong_weights_are_named() -> None:
    with pytest.raises(BadWeights, match="here does not hold the weights of MtcnnNets"):
        MtcnnNets({"proposal.box.weight": torch.zeros(1)}, "here")
