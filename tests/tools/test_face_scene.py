"""What is nearer hides what is behind, in the picture and in its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from face_data import load_library, make, read_shard, write_shard
from face_geometry import FaceShape, load_shape
from face_heads import MESH_POINTS, CachedHead, _jpeg
from face_occluders import Layer, box, ellipsoid, tube
from face_scene import HIDDEN, PICTURE_PX, VISIBLE, Canvas, frame, head_layer, labelled, sampled

from ostec.geometry.camera import rotation, to_pixels
from ostec.networks.face import PARTS
from ostec.types import Camera

SIZE = 64


def _red(points: np.ndarray) -> np.ndarray:
    return np.tile([1.0, 0.0, 0.0], (len(points), 1))


def _canvas() -> Canvas:
    K = torch.tensor([[320.0, 0, 32], [0, 320.0, 32], [0, 0, 1]])
    R = rotation(0, 0, 0)
    camera = Camera(K, R, torch.tensor([0.0, 0.0, 1.0]), (SIZE, SIZE))
    return Canvas(camera, np.zeros((SIZE, SIZE, 3)), lambda normals: np.ones_like(normals))


def _wall(z: float, label: str | None, opacity: float = 1.0) -> Layer:
    half = np.array([0.05, 0.05, 0.001])
    wall = box(np.array([0.0, 0.0, z]), half, np.eye(3), _red, "skin")
    return Layer(wall.vertices, wall.faces, _red, label, None, opacity)


def test_the_nearer_wins_whatever_the_order() -> None:
    for order in ((0.0, 0.1), (0.1, 0.0)):
        canvas = _canvas()
        for z in order:
            canvas.draw(_wall(z, "hair" if z else "skin"))
        assert canvas.label[32, 32] == PARTS.index("hair")


def test_clear_glass_tints_and_leaves_the_label() -> None:
    canvas = _canvas()
    canvas.draw(_wall(0.0, "skin"))
    canvas.rgb[:] = 0
    canvas.draw(_wall(0.1, None, opacity=0.25))
    assert canvas.label[32, 32] == PARTS.index("skin")
    assert np.allclose(canvas.rgb[32, 32], [0.25, 0, 0])


def test_nothing_is_drawn_where_the_cut_is_negative() -> None:
    canvas, wall = _canvas(), _wall(0.0, "skin")
    canvas.draw(Layer(wall.vertices, wall.faces, _red, "skin", wall.vertices[:, 0]))
    assert canvas.label[32, 40] == PARTS.index("skin")
    assert canvas.label[32, 24] == 0


def test_what_is_beside_the_picture_is_no_error() -> None:
    canvas = _canvas()
    canvas.draw(ellipsoid(np.array([5.0, 0.0, 0.0]), np.full(3, 0.02), _red, "occluder"))
    assert not canvas.label.any()


def test_a_tube_has_its_radius() -> None:
    path = np.linspace([0, 0, 0], [0, 0.1, 0], 9)
    made = tube(path, 0.01, _red, "occluder")
    assert np.allclose(np.hypot(made.vertices[:, 0], made.vertices[:, 2]), 0.01)


def test_a_texture_read_at_its_texels_is_itself() -> None:
    texture = np.random.default_rng(0).random((5, 7, 3))
    y, x = np.mgrid[:5, :7] + 0.5
    read = sampled(texture, np.stack([x.ravel(), y.ravel()], axis=1))
    assert np.allclose(read.reshape(texture.shape), texture, atol=2e-3)


@pytest.fixture(scope="module")
def shape(assets: Path) -> FaceShape:
    return load_shape(assets / "ict")


def _cached(shape: FaceShape, shift_m: float = 0.0) -> CachedHead:
    """The mean head seen from the front; the network saw its points beside where they are."""
    R = rotation(0, 0, 0)
    camera = Camera(
        torch.tensor([[1000.0, 0, 128], [0, 1000, 128], [0, 0, 1]]), R, torch.tensor([0.0, 0, 1]), (256, 256)
    )
    moved = shape.points_on(shape.mean) + [shift_m, 0, 0]
    irises = np.concatenate([np.tile(shape.mean[eye].mean(axis=0), (5, 1)) for eye in shape.eyes])
    px = to_pixels(torch.from_numpy(np.concatenate([moved, irises])).float(), camera).numpy()
    grey = np.full((256, 256, 3), 128, np.uint8)
    mask = np.full((256, 256), 255, np.uint8)
    points, affine = np.c_[px, np.zeros(len(px))].astype(np.float32), np.eye(2, 3, dtype=np.float32)
    vertices = shape.mean.astype(np.float32)
    return CachedHead(grey, vertices, camera, points, grey, mask, mask, affine, mask, 0.5)


def test_added_points_come_in_pairs_that_mirror(shape: FaceShape) -> None:
    right, left = shape.mean[shape.added[0::2]], shape.mean[shape.added[1::2]]
    assert np.allclose(right * [-1, 1, 1], left, atol=1e-4)
    assert (right[:, 0] < 0).all()


def test_labels_are_the_same_on_both_sides(shape: FaceShape) -> None:
    assert np.array_equal(shape.labels_of_vertices[shape.mirror], shape.labels_of_vertices)
    assert set(shape.labels.tolist()) == {PARTS.index(name) for name in ("skin", "ear", "neck", "lips", "eye", "brow")}


def test_a_head_is_moved_to_where_its_points_were_seen(shape: FaceShape) -> None:
    placed = shape.aligned(_cached(shape, shift_m=0.002))
    moved = placed.points[:MESH_POINTS] - shape.points_on(shape.mean)
    assert np.median(moved[:, 0]) == pytest.approx(0.002, rel=0.35)
    assert np.abs(moved[:, 1:]).max() < 5e-4


@pytest.mark.parametrize("yaw", [0.0, 80.0, -80.0])
def test_points_are_projected_and_hidden_as_the_camera_says(shape: FaceShape, yaw: float) -> None:
    placed = shape.aligned(_cached(shape))
    camera = frame(placed.points, (5.0, yaw, 10.0), 1.0, np.random.default_rng(0))
    canvas = Canvas(camera, np.zeros((*camera.size, 3)), lambda normals: np.ones_like(normals))
    canvas.draw(head_layer(shape, placed, np.full((8, 8, 3), 0.5)))
    made = labelled(canvas, placed, canvas.depth)
    px = to_pixels(torch.from_numpy(placed.points).float(), made.camera).numpy()
    assert np.allclose(px, made.points[:, :2], atol=1e-2)
    assert made.points[:MESH_POINTS, 2].mean() == pytest.approx(0, abs=1e-6)
    x, y = made.points[:, :2].astype(int).clip(0, PICTURE_PX - 1).T
    shown = made.seen == VISIBLE
    assert (made.parts[y[shown], x[shown]] > 0).mean() > 0.9
    right_ear, left_ear = made.seen[MESH_POINTS + 10 :: 2][:8], made.seen[MESH_POINTS + 11 :: 2][:8]
    if yaw:
        near, far = (right_ear, left_ear) if yaw > 0 else (left_ear, right_ear)
        assert (near == VISIBLE).mean() > 0.6
        assert (far == HIDDEN).all()


def test_shards_are_made_again_bit_for_bit(shape: FaceShape, tmp_path: Path) -> None:
    head = _cached(shape)
    arrays: dict[str, Any] = {
        "photo": _jpeg(torch.full((3, 256, 256), 0.5)),
        "texture": _jpeg(torch.full((3, 64, 64), 0.5)),
    }
    arrays |= {"K": head.camera.K.numpy(), "R": head.camera.R.numpy(), "t": head.camera.t.numpy()}
    names = ("vertices", "points", "skin", "person", "mask_from_photo", "person_in_photo")
    arrays |= {name: getattr(head, name) for name in names}
    np.savez(tmp_path / "head.npz", **arrays, size=np.array([256, 256]), seen=np.array(0.5))
    np.savez(tmp_path / "left_out.npz")
    library = load_library(tmp_path, shape)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_shard(tmp_path / folder / "0.npz", library, seed=4, pictures=3)
    a, b = (read_shard(tmp_path / folder / "0.npz") for folder in ("a", "b"))
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert a["pictures"].shape == (3, PICTURE_PX, PICTURE_PX, 3)
    made, kind = make(library, np.random.default_rng(1), "no face")
    assert kind == "no face"
    assert not (made.seen == VISIBLE).any()
