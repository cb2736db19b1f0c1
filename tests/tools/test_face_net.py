"""FaceNet's layers against plain arithmetic, and files that do not fit it."""

from __future__ import annotations

import pytest
import torch
from small_face_net import PARTS, POINTS, WIDTHS, small_tensors
from torch.nn import functional as F

from ostec.errors import BadWeights
from ostec.networks.face import Bottleneck, FaceNet


def test_sizes_follow_from_the_tensors():
    net = FaceNet(small_tensors())
    points, presence = net(torch.rand(2, 3, 256, 256))
    assert points.shape == (2, POINTS, 3)
    assert presence.shape == (2,)
    features = net.features(torch.rand(1, 3, 256, 256))
    assert [f.shape[1:] for f in features] == [(w, 128 >> k, 128 >> k) for k, w in enumerate(WIDTHS)]
    assert net.decoder is not None
    assert net.decoder(features[:5]).shape == (1, PARTS, 256, 256)


def test_a_file_without_a_decoder_is_one_of_points_alone():
    assert FaceNet(small_tensors(decoder=False)).decoder is None


def test_a_bottleneck_that_only_adds_zeros_is_its_shortcut():
    block = Bottleneck(3, 4, stride=2)
    for p in block.parameters():
        torch.nn.init.zeros_(p)
    torch.nn.init.ones_(block.act.weight)
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(block(x)[:, :3], F.max_pool2d(x, 2))
    assert not block(x)[:, 3:].any()


def test_a_picture_moved_by_the_stride_moves_the_features():
    net = FaceNet(small_tensors())
    picture = torch.zeros(1, 3, 256, 256)
    picture[:, :, 96:160, 96:160] = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    here, there = (net.features(p)[1] for p in (picture, picture.roll(4, dims=3)))
    assert torch.allclose(here.roll(1, dims=3)[..., 24:40, 24:40], there[..., 24:40, 24:40], atol=1e-5)


def test_foreign_weights_are_named():
    tensors = small_tensors()
    with pytest.raises(BadWeights, match=r"stages.0.0.widen"):
        FaceNet({"points.weight": tensors["points.weight"]}, "that file")
    del tensors["presence.bias"]
    with pytest.raises(BadWeights, match=r"that file.*presence.bias"):
        FaceNet(tensors, "that file")
