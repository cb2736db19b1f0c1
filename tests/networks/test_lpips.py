"""LPIPS is its formula on its trunks; weight files are opened safely, and foreign ones refused."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ostec.errors import BadWeights, MissingWeights
from ostec.networks.lpips import Lpips, load_lpips

Tensors = dict[str, Tensor]
KINDS = ("vgg", "alex", "squeeze")
CHANNELS = {
    "vgg": (64, 128, 256, 512, 512),
    "alex": (64, 192, 384, 256, 256),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}
"""Of the features, with torchvision's trunks."""

VGG = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
ALEX = {0: (64, 11), 3: (192, 5), 6: (384, 3), 8: (256, 3), 10: (256, 3)}
SQUEEZE = dict.fromkeys((3, 4), (16, 64)) | dict.fromkeys((6, 7), (32, 128))
SQUEEZE |= dict.fromkeys((9, 10), (48, 192)) | dict.fromkeys((11, 12), (64, 256))
"""torchvision's channels (and kernels; squeezed and expanded channels) by the number of the layer."""


def trunk(kind: str, narrower: int) -> Tensors:
    """Random weights in torchvision's layout, channels divided by `narrower`."""
    shapes: dict[str, tuple[int, ...]] = {}
    width = 3
    if kind == "squeeze":
        shapes["features.0"], width = (64 // narrower, 3, 3, 3), 64 // narrower
        for i, channels in SQUEEZE.items():
            few, many = (c // narrower for c in channels)
            shapes[f"features.{i}.squeeze"] = (few, width, 1, 1)
            shapes |= {f"features.{i}.expand{k}x{k}": (many, few, k, k) for k in (1, 3)}
            width = 2 * many
    else:
        for i, (channels, kernel) in ({i: (c, 3) for i, c in VGG.items()} if kind == "vgg" else ALEX).items():
            shapes[f"features.{i}"] = (channels // narrower, width, kernel, kernel)
            width = channels // narrower
    tensors = {f"{name}.weight": torch.randn(s) * math.sqrt(2 / math.prod(s[1:])) for name, s in shapes.items()}
    return tensors | {f"{name}.bias": torch.randn(s[0]) * 0.1 for name, s in shapes.items()}


def heads(kind: str, narrower: int) -> Tensors:
    """Random, none negative."""
    return {f"lin{i}.model.1.weight": torch.rand(1, c // narrower, 1, 1) for i, c in enumerate(CHANNELS[kind])}


def plain_features(kind: str, tensors: Tensors, images: Tensor) -> list[Tensor]:
    """The twin of the trunks: torchvision's networks written out."""

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = tensors[f"features.{name}.weight"], tensors[f"features.{name}.bias"]
        return F.conv2d(x, weight, bias, stride, padding).clamp(min=0)

    def fire(x: Tensor, i: int) -> Tensor:
        few = conv(x, f"{i}.squeeze")
        return torch.cat([conv(few, f"{i}.expand1x1"), conv(few, f"{i}.expand3x3", padding=1)], dim=1)

    def pool(x: Tensor, ceil: bool = False) -> Tensor:
        return F.max_pool2d(x, 3, 2, ceil_mode=ceil)

    shift, scale = torch.tensor([[-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]])[:, :, None, None]
    x = (images * 2 - 1 - shift) / scale
    if kind == "vgg":
        out = []
        for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
            x = F.max_pool2d(out[-1], 2) if out else x
            for i in block:
                x = conv(x, str(i), padding=1)
            out.append(x)
        return out
    if kind == "alex":
        first = conv(x, "0", 4, 2)
        second = conv(pool(first), "3", padding=2)
        third = conv(pool(second), "6", padding=1)
        fourth = conv(third, "8", padding=1)
        return [first, second, third, fourth, conv(fourth, "10", padding=1)]
    out = [conv(x, "0", 2)]
    out.append(fire(fire(pool(out[-1], True), 3), 4))
    out.append(fire(fire(pool(out[-1], True), 6), 7))
    x = pool(out[-1], True)
    for i in (9, 10, 11, 12):
        x = fire(x, i)
        out.append(x)
    return out


def plain_distance(first: list[Tensor], second: list[Tensor], weights: Tensors) -> float:
    """The twin of the formula, position by position, for one pair of pictures."""
    total = 0.0
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        weight = weights[f"lin{i}.model.1.weight"].flatten().double()
        layer = []
        for y in range(a.shape[2]):
            for x in range(a.shape[3]):
                p, q = a[0, :, y, x].double(), b[0, :, y, x].double()
                difference = p / (p.norm() + 1e-10) - q / (q.norm() + 1e-10)
                layer.append(float((weight * difference**2).sum()))
        total += float(np.mean(layer))
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (45, 62)])
def test_the_distance_is_its_formula(kind: str, size: tuple[int, int]) -> None:
    tensors, weights = trunk(kind, 16), heads(kind, 16)
    net = Lpips(tensors, weights)
    first, second = torch.rand(2, 2, 3, *size)
    for i, distance in enumerate(net(first, second).tolist()):
        features, others = (plain_features(kind, tensors, images[i : i + 1]) for images in (first, second))
        assert distance == pytest.approx(plain_distance(features, others, weights), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_trunks_of_torchvisions_size(kind: str) -> None:
    tensors, images = trunk(kind, 1), torch.rand(1, 3, 64, 48)
    net = Lpips(tensors | {"classifier.1.weight": torch.zeros(2)}, heads(kind, 1))
    features = net.features(images)
    assert net.trunk.kind == kind
    assert tuple(f.shape[1] for f in features) == CHANNELS[kind]
    for found, expected in zip(features, plain_features(kind, tensors, images), strict=True):
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.max()))


def test_the_third_features_of_vgg_are_those_of_block3_conv3() -> None:
    tensors = trunk("vgg", 16)
    tensors["features.14.weight"].zero_()
    tensors["features.14.bias"] = torch.arange(16.0) - 8
    third = Lpips(tensors, heads("vgg", 16)).features(torch.rand(1, 3, 32, 32))[2]
    assert third.shape == (1, 16, 8, 8)
    assert torch.equal(third[0, :, 3, 5], (torch.arange(16.0) - 8).clamp(min=0))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_distance(kind: str) -> None:
    net = Lpips(trunk(kind, 16), heads(kind, 16))
    first, second = torch.rand(2, 3, 3, 40, 40)
    assert torch.equal(net(first, first), torch.zeros(3))
    assert torch.allclose(net(first, second), net(second, first))
    assert bool((net(first, second) > 0).all())
    near = first + 0.1 * (second - first)
    assert bool((net(first, near) < net(first, second)).all())
    assert torch.allclose(net(first, second), net.compare(net.features(first), net.features(second)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_slope(kind: str) -> None:
    net = Lpips(trunk(kind, 16), heads(kind, 16)).double()
    first, second, towards = torch.rand(3, 1, 3, 36, 36, dtype=torch.float64)
    first.requires_grad_()
    (slope,) = torch.autograd.grad(net(first, second).sum(), first)
    step = 1e-6
    rise = (net(first + step * towards, second) - net(first - step * towards, second)).detach()
    assert float((slope * towards).sum()) == pytest.approx(float(rise) / (2 * step), rel=1e-3, abs=1e-7)


def test_the_gradient_is_finite_where_nothing_is_seen() -> None:
    tensors = trunk("vgg", 16)
    for i in VGG:
        tensors[f"features.{i}.bias"].fill_(-3 if i == 28 else 0)
    tensors["features.28.weight"].zero_()
    first = torch.rand(1, 3, 32, 32, requires_grad=True)
    net = Lpips(tensors, heads("vgg", 16))
    assert bool((net.features(first)[4] == 0).all())
    net(first, torch.rand(1, 3, 32, 32)).sum().backward()
    same = torch.rand(1, 3, 32, 32, requires_grad=True)
    net(same, same.detach()).sum().backward()
    assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in (first, same))


@pytest.mark.parametrize("kind", KINDS)
def test_the_real_heads_give_the_vectors(kind: str, assets: Path, tmp_path: Path) -> None:
    folder = assets / "nets" / "lpips"
    stored = np.load(folder / "test_vector_heads.npz")
    features = [
        [torch.from_numpy(stored[f"{kind}_features{which}_{i}"]) for i in range(len(CHANNELS[kind]))]
        for which in (0, 1)
    ]
    save_file(trunk(kind, 1), tmp_path / "trunk.safetensors")
    net = load_lpips(tmp_path / "trunk.safetensors", folder / f"lpips_v0.1_{kind}.safetensors")
    assert float(net.compare(*features)) == pytest.approx(float(stored[f"{kind}_distance"]), abs=1e-5)
    for i, expected in enumerate(stored[f"{kind}_per_layer"]):
        first, second = ([f if j == i else f * 0 for j, f in enumerate(layers)] for layers in features)
        assert float(net.compare(first, second)) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("zipped", [True, False])
def test_all_kinds_of_files_give_the_same(tmp_path: Path, zipped: bool) -> None:
    tensors, weights = trunk("alex", 16), heads("alex", 16)
    save_file(tensors, tmp_path / "trunk.safetensors")
    save_file(weights, tmp_path / "heads.safetensors")
    extra = tensors | {"classifier.6.weight": torch.rand(10, 4)}
    parameters = {name: nn.Parameter(tensor) for name, tensor in extra.items()}
    torch.save(parameters, tmp_path / "trunk.pth", _use_new_zipfile_serialization=zipped)
    torch.save(weights, tmp_path / "heads.pth", _use_new_zipfile_serialization=zipped)
    first, second = torch.rand(2, 1, 3, 32, 32)
    distances = {
        float(load_lpips(tmp_path / f"trunk.{a}", tmp_path / f"heads.{b}")(first, second))
        for a, b in (("safetensors", "safetensors"), ("pth", "pth"), ("pth", "safetensors"))
    }
    assert distances == {float(Lpips(tensors, weights)(first, second))}


def saved(folder: Path, trunk_tensors: object, head_tensors: object) -> tuple[Path, Path]:
    """Files of them."""
    paths = folder / "the_trunk.pth", folder / "the_heads.pth"
    for path, content in zip(paths, (trunk_tensors, head_tensors), strict=True):
        torch.save(content, path)
    return paths


def refusal(paths: tuple[Path, Path]) -> str:
    """What `BadWeights` says, which always tells where to get the files."""
    with pytest.raises(BadWeights) as caught:
        load_lpips(*paths)
    assert "https://download.pytorch.org/models/" in str(caught.value)
    return str(caught.value)


class Bomb:
    """Makes a folder when a careless reader opens it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    content = trunk("alex", 16) | {"features.0.weight": Bomb(tmp_path / "boom")}
    assert "the_trunk.pth" in refusal(saved(tmp_path, content, heads("alex", 16)))
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files_are_named(tmp_path: Path, zipped: bool) -> None:
    paths = saved(tmp_path, {}, heads("alex", 16))
    torch.save(trunk("alex", 16), paths[0], _use_new_zipfile_serialization=zipped)
    whole = paths[0].read_bytes()
    for size in (0, 3, 500, len(whole) // 2, len(whole) - 1):
        paths[0].write_bytes(whole[:size])
        assert "the_trunk.pth" in refusal(paths)


def test_missing_files_are_named(tmp_path: Path) -> None:
    paths = saved(tmp_path, trunk("alex", 16), heads("alex", 16))
    for i in (0, 1):
        given = [tmp_path / "nowhere.pth" if i == j else path for j, path in enumerate(paths)]
        with pytest.raises(MissingWeights, match=r"nowhere\.pth.*https://"):
            load_lpips(*given)


def test_foreign_weights_are_named(tmp_path: Path) -> None:
    alex, its_heads = trunk("alex", 16), heads("alex", 16)
    without = {name: tensor for name, tensor in alex.items() if name != "features.3.bias"}
    wide = alex | {"features.6.weight": torch.rand(24, 12, 5, 5)}
    spoiled = alex | {"features.10.bias": torch.full((16,), math.nan)}
    normalised = trunk("vgg", 16) | {"features.1.weight": torch.ones(4)}
    for content, word in (
        (without, "features.3.bias"),
        (wide, "features.6.weight"),
        (spoiled, "features.10.bias"),
        (normalised, "none of"),
        ([1, 2], "tensors by name"),
        ({"features.0.weight": 3}, "tensors by name"),
    ):
        message = refusal(saved(tmp_path, content, its_heads))
        assert word in message and "the_trunk.pth" in message
    name = "lin0.model.1.weight"
    for content in (heads("vgg", 16), {}, its_heads | {name: torch.full((1, 4, 1, 1), math.inf)}, alex):
        assert "the_heads.pth" in refusal(saved(tmp_path, alex, content))
