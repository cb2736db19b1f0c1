"""The released OSTeC's ArcFace gives what its layers give one after another, channels last; nothing in it is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_iresnet import Small, small_iresnet, table
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.errors import BadWeights, MissingWeights
from ostec.original.iresnet_npy import load_iresnet_npy


@pytest.fixture(scope="module")
def network() -> Small:
    net = small_iresnet()
    for layer in (net.features, net.bn1):
        layer.weight.data.fill_(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            layer.eps = 2e-5
    return net


def expected(net: Small, layers: dict[str, Any], pictures: Tensor) -> Tensor:
    """The network on 0..255, its map read with the channels last."""
    maps = net.bn2(net.maps((pictures * 255 - 127.5) * 0.0078125)).permute(0, 2, 3, 1).flatten(1)
    linear = maps @ torch.from_numpy(layers["pre_fc1"]["weights"]) + torch.from_numpy(layers["pre_fc1"]["bias"])
    return F.normalize(net.features(linear), dim=1)


def saved(folder: Path, value: Any) -> Path:
    """What `np.save` writes of it."""
    np.save(folder / "arcface50.npy", value, allow_pickle=True)
    return folder / "arcface50.npy"


@torch.no_grad()
def test_embeddings_are_those_of_the_layers(network: Small, tmp_path: Path) -> None:
    layers, pictures = table(network), torch.rand(2, 3, 112, 112)
    found = load_iresnet_npy(saved(tmp_path, layers))(pictures)
    assert torch.allclose(found, expected(network, layers, pictures), atol=1e-5)
    for turned in (pictures.flip(1), pictures.mT):
        assert not torch.allclose(expected(network, layers, turned), found, atol=1e-3)
    assert "scale" not in layers["fc1"] and "scale" in layers["bn1"]


def refusal(path: Path) -> str:
    with pytest.raises(BadWeights) as caught:
        load_iresnet_npy(path)
    assert str(path) in str(caught.value) and "models of OSTeC" in str(caught.value)
    return str(caught.value)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_code_in_a_file_does_not_run(network: Small, tmp_path: Path) -> None:
    layers: dict[str, Any] = {**table(network), "bn0": _Bomb(tmp_path / "boom")}
    assert "posix.mkdir" in refusal(saved(tmp_path, layers)) or os.name == "nt"
    assert not (tmp_path / "boom").exists()


def test_other_files_are_refused(network: Small, tmp_path: Path) -> None:
    layers = table(network)
    without = {name: layer for name, layer in layers.items() if name != "stage2_unit1_bn2"}
    wide = {**layers, "conv0": {"weights": np.zeros((3, 3, 5, 4), np.float32)}}
    spoiled = {**layers, "bn1": {**layers["bn1"], "mean": np.full(10, np.nan, np.float32)}}
    grey = {**layers, "minusscalar0_second": {"value": np.array([100.0], np.float32)}}
    for value, word in (
        (without, "stage2_unit1_bn2"),
        (wide, "not an IResNet"),
        (spoiled, "not finite"),
        (grey, "subtracts 100"),
        ([1, 2], "not tables"),
        (np.zeros(3, np.float32), "not tables"),
        (None, "a table was expected"),
        ({**layers, "conv0": {"weights": "text"}}, "a number was expected"),
        ({**layers, "pre_fc1": {**layers["pre_fc1"], "weights": np.zeros((491, 16), np.float32)}}, "shape"),
    ):
        assert word in refusal(saved(tmp_path, value))
    with pytest.raises(MissingWeights, match="models of OSTeC"):
        load_iresnet_npy(tmp_path / "none.npy")


def test_truncated_files_are_refused(network: Small, tmp_path: Path) -> None:
    path = saved(tmp_path, table(network))
    whole = path.read_bytes()
    for size in (0, 3, 6, 9, 60, 128, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refusal(path)
    path.write_bytes(whole[:6] + b"\x07\x00" + whole[8:])
    refusal(path)
