"""The selfie network computes what MediaPipe computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ostec.errors import BadWeights
from ostec.masking.selfie import SelfieNet, load_selfie_net, person_mask
from ostec.weights.shipped import DATA_DIR, read_tensors

VECTOR = Path(__file__).parents[1] / "data" / "selfie_segmentation_congress_A000368.npz"
"""`rgb` [256, 256, 3] uint8 of a public domain portrait, `person` [256, 256] float16 by MediaPipe 0.10.21."""


@pytest.fixture(scope="module")
def net() -> SelfieNet:
    return load_selfie_net()


@pytest.fixture(scope="module")
def vector() -> tuple[Tensor, Tensor]:
    stored = np.load(VECTOR)
    return torch.from_numpy(stored["rgb"]).permute(2, 0, 1).float() / 255, torch.from_numpy(stored["person"]).float()


def test_mask_is_mediapipes(net, vector):
    rgb, person = vector
    assert torch.allclose(person_mask(net, rgb), person, atol=1e-3)


def test_size_of_the_picture_matters_little(net, vector):
    rgb, person = vector
    for size in ((512, 512), (200, 333)):
        resized = F.interpolate(rgb[None], size, mode="bilinear", antialias=True)[0]
        mask = person_mask(net, resized)
        assert mask.shape == (256, 256)
        assert float((mask - person).abs().mean()) < 0.02


def test_mirrored_picture_gives_mirrored_mask(net, vector):
    rgb, person = vector
    assert float((person_mask(net, rgb.flip(2)).flip(1) - person).abs().mean()) < 0.02


def test_sure_pixels_are_near_0_and_1_and_a_picture_without_a_person_is_empty(net, vector):
    rgb, person = vector
    mask = person_mask(net, rgb)
    assert float(mask[person > 0.99].min()) > 0.9 and float(mask[person < 0.01].max()) < 0.1
    assert float(person_mask(net, torch.full((3, 256, 256), 0.5)).max()) < 0.1


def test_batch_is_one_by_one(net, vector):
    pictures = torch.stack([vector[0], torch.rand(3, 256, 256)])
    assert torch.allclose(net(pictures), torch.cat([net(p[None]) for p in pictures]), atol=1e-5)


def test_missing_tensor_is_named():
    tensors = read_tensors(DATA_DIR / "selfie_segmentation.safetensors")
    del tensors["mask.bias"]
    with pytest.raises(BadWeights, match="mask.bias"):
        SelfieNet(tensors)
