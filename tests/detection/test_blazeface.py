"""BlazeFace finds faces where they are, at any size and tilt, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import Tensor

from ostec.detection.blazeface import (
    BlazeFaceDetector,
    BlazeFaceNet,
    load_detector,
    merged,
    overlap,
    tile_views,
    whole_photo_views,
)
from ostec.errors import BadWeights
from ostec.geometry.align import apply_affine, invert_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.types import Detection, Photo

FACE_PX = (173.0, 73.0, 277.0, 178.0)
"""Where the astronaut's face is, forehead to chin."""


@pytest.fixture(scope="module")
def detector() -> BlazeFaceDetector:
    return load_detector()


@pytest.fixture(scope="module")
def portrait() -> Tensor:
    return torch.from_numpy(astronaut()).permute(2, 0, 1).float() / 255


def face(*box_px: float, score: float = 0.9) -> Detection:
    box = torch.tensor(box_px, dtype=torch.float32)
    return Detection(box, box.view(2, 2).mean(dim=0).expand(6, 2), score)


def detect(detector: BlazeFaceDetector, rgb: Tensor) -> list[Detection]:
    return detector(Photo(rgb, "a photo"))


def test_one_face_where_it_is(detector, portrait):
    found = detect(detector, portrait)
    assert len(found) == 1
    assert overlap(found[0], face(*FACE_PX))[0] > 0.8
    assert 0.75 < found[0].score <= 1


def test_points_lie_in_their_order(detector, portrait):
    right_eye, left_eye, nose, mouth, right_ear, left_ear = detect(detector, portrait)[0].points_px.tolist()
    assert right_ear[0] < right_eye[0] < nose[0] < left_eye[0] < left_ear[0]
    assert max(right_eye[1], left_eye[1]) < nose[1] < mouth[1]


def test_two_faces_side_by_side(detector, portrait):
    found = detect(detector, torch.cat([portrait, portrait], dim=2))
    assert len(found) == 2
    left, right = sorted(found, key=lambda d: float(d.box_px[0]))
    shift = torch.tensor([512.0, 0, 512, 0])
    assert torch.allclose(left.box_px + shift, right.box_px, atol=6)


def test_largest_face_comes_first(detector, portrait):
    small = F.interpolate(portrait[None], (256, 256), mode="bilinear", antialias=True)[0]
    found = detect(detector, torch.cat([F.pad(small, (0, 0, 0, 256)), portrait], dim=2))
    widths = [float(d.box_px[2] - d.box_px[0]) for d in found]
    assert len(found) == 2
    assert widths[0] > 1.5 * widths[1]


def test_mirrored_photo_gives_mirrored_box(detector, portrait):
    box = detect(detector, portrait)[0].box_px
    mirrored = detect(detector, portrait.flip(2))[0].box_px
    assert torch.allclose(512 - mirrored[[2, 0]], box[[0, 2]], atol=2)
    assert torch.allclose(mirrored[[1, 3]], box[[1, 3]], atol=2)


def test_small_face_in_a_large_photo(detector, portrait):
    head = portrait[:, :256, 96:352]
    side, x, y = 160, 3300, 2500
    photo = torch.full((3, 4000, 6000), 0.5)
    photo[:, y : y + side, x : x + side] = F.interpolate(head[None], (side, side), mode="bilinear", antialias=True)[0]
    expected = (torch.tensor(FACE_PX) - torch.tensor([96.0, 0, 96, 0])) * (side / 256) + torch.tensor([x, y, x, y])
    found = detect(detector, photo)
    assert len(found) == 1
    assert 55 < float(expected[2] - expected[0]) < 70
    assert overlap(found[0], face(*expected.tolist()))[0] > 0.7


def test_face_that_fills_the_photo(detector, portrait):
    x0, y0, x1, y1 = (int(v) for v in FACE_PX)
    photo = F.interpolate(portrait[None, :, y0:y1, x0:x1], (600, 600), mode="bilinear")[0]
    found = detect(detector, photo)
    assert len(found) == 1
    assert overlap(found[0], face(0, 0, 600, 600))[0] > 0.6


@pytest.mark.parametrize("roll_deg", [-45.0, -25.0, 25.0, 45.0])
def test_tilted_face(detector, portrait, roll_deg):
    turned_from_portrait = square_crop(torch.tensor([225.0, 125.0]), 300.0, roll_deg, 384)
    found = detect(detector, warp(portrait, turned_from_portrait, (384, 384)))
    upright = detect(detector, portrait)[0].points_px
    assert len(found) == 1
    eyes_px = apply_affine(turned_from_portrait, upright[:2])
    between = float((eyes_px[1] - eyes_px[0]).norm())
    assert float((found[0].points_px[:2] - eyes_px).norm(dim=1).max()) < 0.2 * between


def test_turned_view_is_mapped_back(detector, portrait):
    """The views that are tried when nothing was found: a face seen in them is the face of the photo."""
    views = whole_photo_views(512, 512, 40.0)[:1]
    tilted = warp(portrait, square_crop(torch.tensor([256.0, 256.0]), 512.0, -40.0, 512), (512, 512))
    points = detector._look(tilted, views, 0.6)[0].points_px
    upright = detect(detector, portrait)[0].points_px
    expected = apply_affine(square_crop(torch.tensor([256.0, 256.0]), 512.0, -40.0, 512), upright)
    assert float((points - expected).norm(dim=1).max()) < 8


@pytest.mark.parametrize("size", [(300, 300), (600, 450), (1, 1), (3, 900)])
def test_noise_holds_no_face(detector, size):
    assert detect(detector, torch.rand(3, *size)) == []


@pytest.mark.parametrize(("height", "width", "step"), [(4000, 6000, 8), (1000, 1000, 2), (300, 4000, 4)])
def test_tiles_cover_the_photo_symmetrically(height, width, step):
    side = max(height, width) / step
    corners = torch.tensor([[0.0, 0.0], [256.0, 256.0]])
    boxes = torch.stack([apply_affine(invert_affine(view), corners) for view in tile_views(height, width, step)])
    for axis, length in ((0, width), (1, height)):
        low, high = boxes[:, 0, axis].unique(), boxes[:, 1, axis].unique()
        assert float(low.min()) <= 0.01 and float(high.max()) >= length - 0.01
        assert torch.allclose(low, (length - high).flip(0), atol=0.01)
        assert torch.all(low[1:] - low[:-1] <= 0.751 * side)


def test_merging_averages_by_score():
    a, b, far = face(0, 0, 10, 10, score=0.9), face(2, 0, 12, 10, score=0.6), face(50, 50, 60, 60, score=0.7)
    one, other = sorted(merged([far, b, a]), key=lambda d: float(d.box_px[0]))
    assert torch.allclose(one.box_px, torch.tensor([0.8, 0, 10.8, 10]))
    assert one.score == 0.9
    assert torch.equal(other.box_px, far.box_px)


def test_merging_drops_parts_of_a_face_and_changes_nothing_twice():
    found = [face(0, 0, 100, 100), face(30, 30, 50, 50, score=0.95), face(90, 90, 130, 130)]
    once = merged(found)
    assert sorted(d.box_px.tolist() for d in once) == [[0, 0, 100, 100], [90, 90, 130, 130]]
    assert [d.box_px.tolist() for d in merged(once)] == [d.box_px.tolist() for d in once]


def test_wrong_weights_are_named():
    with pytest.raises(BadWeights, match="here"):
        BlazeFaceNet({"backbone.0.weight": torch.zeros(1)}, "here")


def test_network_gives_the_upstream_numbers(detector, assets: Path):
    vector = np.load(assets / "nets" / "blazeface" / "test_vector_blazeface_back_256.npz")
    picture = torch.from_numpy(vector["image_rgb_uint8"]).permute(2, 0, 1)[None].float() / 255
    net = detector._net
    regressions, logits = net(picture)
    assert np.allclose(regressions[0].numpy(), vector["raw_regressors"].reshape(896, 16), atol=1e-3)
    assert np.allclose(logits[0].numpy(), vector["raw_logits"].reshape(896), atol=3e-3)
    assert np.allclose(net.anchors.numpy(), vector["anchors"][:, :2])
    corners, scores = net.faces(picture)
    best = corners[0, scores[0].argmax(), :2]
    expected = vector["detections"][0, [1, 0, 3, 2]].reshape(2, 2) * 256
    assert np.allclose(best.numpy(), expected, atol=4)
