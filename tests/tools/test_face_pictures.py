"""Crops, labels and points of the pictures for training go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from face_pictures import Pictures, _affines
from face_scene import IGNORE
from scipy import ndimage
from small_shard import COUNT, POINTS, write_small_shard

from ostec.geometry.camera import rotation
from ostec.networks.face import INPUT_PX


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    write_small_shard(tmp_path / "000.npz")
    return Pictures(tmp_path)


def swapped() -> torch.Tensor:
    """A mirror map that swaps points 33 and 263."""
    mirror = torch.arange(POINTS)
    mirror[33], mirror[263] = 263, 33
    return mirror


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_points_lie_where_the_crop_and_the_part_map_show_them(pictures: Pictures, seed: int | None) -> None:
    draw = None if seed is None else torch.Generator().manual_seed(seed)
    batch = pictures.batch([0, 1, 2], draw, swapped())
    assert batch.crops.shape == (3, 3, INPUT_PX, INPUT_PX)
    for n in range(3):
        centres = [np.array(ndimage.center_of_mass((batch.parts[n] == label).numpy())) for label in (1, 2)]
        for point, centre in zip((33, 263), centres, strict=True):
            shown = torch.from_numpy(centre[::-1] + 0.5).float()
            apart = (batch.points[n, [33, 263], :2] - shown).norm(dim=1)
            flipped = bool(apart[1] < apart[0]) != (point == 263)
            assert float(apart.amin()) < 0.8
            assert seed is not None or not flipped
        red = batch.crops[n, 0] - batch.crops[n, 1]
        assert float(red[batch.parts[n] == 1].mean()) > 0.5
        assert float(red[batch.parts[n] == 2].mean()) < -0.5


def test_without_chance_the_head_is_upright(pictures: Pictures) -> None:
    batch = pictures.batch([0], None, swapped())
    across = batch.points[0, 263, :2] - batch.points[0, 33, :2]
    raw = torch.from_numpy(np.load(pictures.folder / "000.npz")["points"])[0]
    before = raw[263, :2] - raw[33, :2]
    turned = torch.atan2(across[1], across[0]) - torch.atan2(before[1], before[0])
    assert float(turned) == pytest.approx(-np.pi / 6, abs=1e-3)


def test_a_new_shard_is_found(pictures: Pictures) -> None:
    assert len(pictures) == COUNT
    write_small_shard(pictures.folder / "001.npz", seed=1)
    pictures.refresh()
    assert len(pictures) == 2 * COUNT


def test_beyond_the_picture_nothing_is_known(pictures: Pictures) -> None:
    outside = pictures.batch([0, 1, 2] * 20, torch.Generator().manual_seed(5), swapped()).parts == IGNORE
    assert not bool(outside[:, 100:156, 100:156].any())
    assert bool(outside.any())


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="face_data"):
        Pictures(tmp_path)


@pytest.mark.parametrize("yaw", [0.0, 60.0, 91.0, -91.0])
def test_a_head_seen_from_the_side_is_upright_too(yaw: float) -> None:
    R = rotation(0.0, yaw, 25.0)
    crown = R @ torch.tensor([0.0, 0.1, 0.0])
    picture_from_crop = _affines(R[None], None)[0]
    up = torch.linalg.solve(picture_from_crop[:, :2], crown[:2])
    assert float(up[1]) < 0
    assert float(up[0]) == pytest.approx(0, abs=1e-4)
