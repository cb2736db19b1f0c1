"""FaceMesh in torch is MediaPipe's; its points follow the photo when that is mirrored, shifted, scaled or turned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights
from ostec.geometry.align import apply_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.networks.blaze import SameConv2d
from ostec.networks.facemesh_net import FaceMeshNet, landmark_square, load_facemesh_net, mesh_points
from ostec.types import Detection, Photo
from ostec.weights.shipped import DATA_DIR, read_tensors

LEFT_RIGHT_SWAPPED = [1, 0, 2, 3, 5, 4]
"""BlazeFace's six points after mirroring."""


@pytest.fixture(scope="module")
def net() -> FaceMeshNet:
    return load_facemesh_net()


@pytest.fixture(scope="module")
def photo() -> Photo:
    rgb = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1).float() / 255
    return Photo(rgb[:, :300, :400].contiguous(), "astronaut")


FACE = Detection(
    box_px=torch.tensor([178.0, 72.0, 268.0, 162.0]),
    points_px=torch.tensor([[207.0, 98], [244, 99], [228, 124], [228, 141], [185, 106], [261, 106]]),
    score=1.0,
)
"""The astronaut's, by eye."""


def moved(detection: Detection, affine: Tensor) -> Detection:
    """The detection where an affine without mirroring takes it; the box stays upright and grows by the scale."""
    corners = detection.box_px.view(2, 2)
    centre = apply_affine(affine, corners.mean(dim=0))
    half = (corners[1] - corners[0]) / 2 * float(affine[:, :2].double().det().sqrt())
    box = torch.cat([centre - half, centre + half])
    return replace(detection, box_px=box, points_px=apply_affine(affine, detection.points_px))


def distance(a: Tensor, b: Tensor) -> float:
    """Mean distance of two sets of points in the photo, as a share of the face's size."""
    return float((a[:, :2] - b[:, :2]).norm(dim=1).mean()) / (landmark_square(b)[1] / 1.5)


def test_the_network_computes_what_tflite_does(net: FaceMeshNet, assets: Path) -> None:
    vector = np.load(assets / "nets" / "facemesh" / "test_vector.npz")
    points, logits = net(torch.from_numpy(vector["crop_rgb_uint8"]).permute(2, 0, 1)[None] / 255)
    assert np.abs(points[0].numpy() - vector["landmarks_px"]).max() < 1e-3
    assert abs(float(logits) - float(vector["presence_logit"][0])) < 1e-3


def test_the_points_lie_on_the_face(net: FaceMeshNet, photo: Photo) -> None:
    points, presence = mesh_points(net, photo, FACE)
    assert points.shape == (468, 3) and points.dtype == torch.float32 and presence > 0.99
    seen = points[[33, 263, 4, 13], :2]
    expected = torch.tensor([[194.0, 101], [256, 104], [226, 127], [224, 142]])
    assert (seen - expected).norm(dim=1).max() < 4
    assert points[4, 2] < points[[234, 454], 2].min(), "the nose is nearer than the ears"


def test_without_a_face_there_is_none(net: FaceMeshNet, photo: Photo) -> None:
    empty = replace(photo, rgb=torch.full_like(photo.rgb, 0.4))
    assert mesh_points(net, empty, FACE)[1] < 0.5


def test_mirroring_the_photo_mirrors_the_points(net: FaceMeshNet, photo: Photo) -> None:
    width = photo.size[1]
    box, seen = FACE.box_px.clone(), FACE.points_px[LEFT_RIGHT_SWAPPED].clone()
    box[[0, 2]] = width - box[[2, 0]]
    seen[:, 0] = width - seen[:, 0]
    points, presence = mesh_points(net, photo, FACE)
    mirrored, same_presence = mesh_points(net, replace(photo, rgb=photo.rgb.flip(-1)), Detection(box, seen, 1.0))
    mirrored = mirrored[net.mirror]
    mirrored[:, 0] = width - mirrored[:, 0]
    assert (mirrored - points).abs().max() < 2e-3
    assert abs(presence - same_presence) < 1e-5


def test_shifting_the_photo_shifts_the_points(net: FaceMeshNet, photo: Photo) -> None:
    dx, dy = 37, 21
    shift = torch.tensor([[1.0, 0, -dx], [0, 1, -dy]])
    points, _ = mesh_points(net, photo, FACE)
    shifted, _ = mesh_points(net, replace(photo, rgb=photo.rgb[:, dy:, dx:]), moved(FACE, shift))
    assert (apply_affine(shift, points[:, :2]) - shifted[:, :2]).abs().max() < 0.02
    assert (points[:, 2] - shifted[:, 2]).abs().max() < 0.02


@pytest.mark.parametrize(("scale", "roll_deg"), [(3.0, 0.0), (12.0, 0.0), (2.0, -20.0), (1.5, 70.0)])
def test_the_points_follow_a_scaled_and_turned_photo(
    net: FaceMeshNet, photo: Photo, scale: float, roll_deg: float
) -> None:
    side_px, large_px = 200.0, int(200 * scale)
    affine = square_crop(torch.tensor([224.0, 120.0]), side_px, roll_deg, large_px)
    large = Photo(warp(photo.rgb, affine, (large_px, large_px)), "large")
    points, _ = mesh_points(net, photo, FACE)
    found, _ = mesh_points(net, large, moved(FACE, affine))
    assert distance(found, apply_affine(affine, points[:, :2])) < 0.01
    assert (found[:, 2] / scale - points[:, 2]).abs().mean() < 1.5


def test_a_detection_that_is_a_little_off_hardly_matters(net: FaceMeshNet, photo: Photo) -> None:
    points, _ = mesh_points(net, photo, FACE)
    off = replace(FACE, box_px=FACE.box_px + torch.tensor([6.0, -5.0, 12.0, 4.0]))
    assert distance(mesh_points(net, photo, off)[0], points) < 0.01


def test_a_second_call_gives_the_same_bits(net: FaceMeshNet, photo: Photo) -> None:
    assert torch.equal(mesh_points(net, photo, FACE)[0], mesh_points(load_facemesh_net(), photo, FACE)[0])


def test_the_mirror_map_is_an_involution_with_a_middle_line(net: FaceMeshNet) -> None:
    assert torch.equal(net.mirror[net.mirror], torch.arange(468))
    middle = [10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 164, 0, 13, 14, 17, 18, 200, 152]
    assert net.mirror[middle].tolist() == middle
    assert (net.mirror == torch.arange(468)).sum() == 28
    assert net.mirror[[33, 133, 61, 234, 70]].tolist() == [263, 362, 291, 454, 300]


def test_a_mirrored_crop_is_answered_by_the_mirrored_points(net: FaceMeshNet, photo: Photo) -> None:
    affine = square_crop(torch.tensor([224.0, 120.0]), 150.0, 3.0, 192)
    crop = warp(photo.rgb, affine, (192, 192))
    points, _ = net(torch.stack([crop, crop.flip(-1)]))
    points[1, :, 0] = 192 - points[1, :, 0]
    distances = torch.cdist(points[0], points[1])
    assert distances[torch.arange(468), net.mirror].mean() < 2
    assert (distances.argmin(dim=1) == net.mirror).float().mean() > 0.8


def test_the_landmark_square_turns_with_the_face() -> None:
    points = torch.rand(468, 2) * torch.tensor([80.0, 100.0])
    points[33], points[263] = torch.tensor([10.0, 40.0]), torch.tensor([70.0, 40.0])
    centre, side_px, roll_deg = landmark_square(points)
    assert roll_deg == 0 and side_px == pytest.approx(1.5 * float((points.amax(0) - points.amin(0)).max()), rel=1e-5)
    turn = square_crop(torch.tensor([30.0, 60.0]), 50.0, -35.0, 100)
    turned_centre, turned_side_px, turned_roll_deg = landmark_square(apply_affine(turn, points))
    assert turned_roll_deg == pytest.approx(35, abs=1e-3) and turned_side_px == pytest.approx(2 * side_px, rel=1e-4)
    assert torch.allclose(turned_centre, apply_affine(turn, centre), atol=1e-2)


def test_same_padding_is_tensorflows() -> None:
    ones = torch.ones(1, 1, 4, 5)
    for kernel, border in ((3, (1, 1, 0, 1)), (5, (2, 2, 1, 2)), (2, (0, 1, 0, 0))):
        layer = SameConv2d(1, 1, kernel, stride=2)
        wanted = F.conv2d(F.pad(ones, border), layer.weight, layer.bias, stride=2)
        assert torch.equal(layer(ones), wanted)
    assert SameConv2d(1, 1, 2, stride=2)(ones[:, :, :, :4]).shape == (1, 1, 2, 2)


def test_foreign_weights_are_named(tmp_path: Path, net: FaceMeshNet) -> None:
    tensors = read_tensors(DATA_DIR / "facemesh.safetensors")
    with pytest.raises(BadWeights, match=r"mine\.safetensors.*backbone\.0\.bias"):
        FaceMeshNet({**tensors, "backbone.0.bias": torch.zeros(15)}, net.mirror, "mine.safetensors")
    with pytest.raises(BadWeights, match="113 tensors differ"):
        FaceMeshNet({}, net.mirror)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((DATA_DIR / "facemesh.safetensors").read_bytes()[:1000])
    with pytest.raises(BadWeights, match=r"broken\.safetensors"):
        read_tensors(broken)
    with pytest.raises(MissingWeights, match=r"absent\.safetensors"):
        read_tensors(tmp_path / "absent.safetensors")
