"""MobileFaceNet computes what its table of layers says; foreign weights are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from small_mobilefacenet import NORMS, small_weights
from torch import Tensor

from ostec.errors import BadGeometry, BadWeights, MissingWeights
from ostec.files.photos import load_photo
from ostec.geometry.align import ARCFACE_POINTS_PX, apply_affine, arcface_crop, invert_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.networks.identity import identity_similarity
from ostec.networks.mobilefacenet import MobileFaceNet, load_mobilefacenet
from ostec.weights.shipped import DATA_DIR, read_tensors

Tensors = dict[str, Tensor]
STRIDED, RESIDUAL = {0, 5, 12}, {1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13, 14}


def plain(tensors: Tensors, images: Tensor) -> Tensor:
    """The twin: layer after layer by name, as the table of the weights says."""

    def conv(x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        weight = tensors[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, tensors.get(f"{name}.bias"), stride, padding, groups=groups)

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias, mean, variance = (
            tensors[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).to(images)[:, :, None, None]
    x = norm(conv((images - mean) / std, "conv1.0", 2, 1), "conv1.1").clamp(0, 6)
    x = norm(conv(x, "dw_conv.depthwise", 1, 1), "dw_conv.bn1").clamp(min=0)
    x = norm(conv(x, "dw_conv.pointwise"), "dw_conv.bn2").clamp(min=0)
    for i in range(15):
        name = f"features.{i}.conv"
        y = norm(conv(x, f"{name}.0.0"), f"{name}.0.1").clamp(0, 6)
        y = norm(conv(y, f"{name}.1.0", 2 if i in STRIDED else 1, 1), f"{name}.1.1").clamp(0, 6)
        y = norm(conv(y, f"{name}.2"), f"{name}.3")
        x = x + y if i in RESIDUAL else y
    x = norm(conv(x, "conv2.0"), "conv2.1").clamp(0, 6)
    x = norm(conv(norm(conv(x, "gdconv.depthwise"), "gdconv.bn"), "conv3"), "bn")[:, :, 0, 0]
    return x / x.norm(dim=1, keepdim=True)


def landmarks(points: Tensor) -> Tensor:
    """[68, 2] whose eye centres, nose tip and mouth corners are `points` [5, 2]; the rest lies elsewhere."""
    all_points = torch.full((68, 2), 7.0)
    all_points[36:42], all_points[42:48], all_points[[30, 48, 54]] = points[0], points[1], points[2:]
    all_points[36:48] += torch.tensor([[-2.0, 1.0], [2.0, -1.0]]).repeat(6, 1)
    return all_points


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    torch.manual_seed(1)
    return small_weights()


@pytest.fixture(scope="module")
def net(tensors: Tensors) -> MobileFaceNet:
    return MobileFaceNet(tensors)


def test_the_network_is_its_table_of_layers(tensors: Tensors) -> None:
    images = torch.rand(2, 3, 112, 112, dtype=torch.float64)
    embeddings = MobileFaceNet(tensors).double()(images)
    assert torch.allclose(embeddings, plain({n: t.double() for n, t in tensors.items()}, images), atol=1e-5)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2).double())
    assert float((embeddings[0] - embeddings[1]).norm()) > 0.01


def test_the_gradient_is_the_slope(tensors: Tensors) -> None:
    net = MobileFaceNet(tensors).double()
    image, towards = torch.rand(2, 1, 3, 112, 112, dtype=torch.float64)
    weights, step = torch.randn(16, dtype=torch.float64), 1e-6
    image.requires_grad_()
    (slope,) = torch.autograd.grad(net(image)[0] @ weights, image)
    rise = (net(image + step * towards) - net(image - step * towards))[0].detach() @ weights
    assert float((slope * towards).sum()) == pytest.approx(float(rise) / (2 * step), rel=1e-3, abs=1e-6)


def test_counters_of_batches_are_left_out(net: MobileFaceNet, tensors: Tensors) -> None:
    counted = tensors | {f"{name}.num_batches_tracked": torch.tensor(5) for name in NORMS}
    image = torch.rand(1, 3, 112, 112)
    assert torch.equal(MobileFaceNet(counted)(image), net(image))


def test_similarity_is_the_cosine_of_the_aligned_crops(net: MobileFaceNet, tensors: Tensors) -> None:
    pictures, points, crops = [torch.rand(3, 150, 130), torch.rand(3, 300, 200)], [], []
    for picture, (x, y, side, roll) in zip(pictures, ((60, 70, 112, 0), (100, 150, 200, 30)), strict=True):
        crop = square_crop(torch.tensor([x, y]), side, roll, 112)
        points.append(landmarks(apply_affine(invert_affine(crop), ARCFACE_POINTS_PX)))
        crops.append(warp(picture, crop, (112, 112)))
    one, other = plain(tensors, torch.stack(crops))
    value = identity_similarity(net, *pictures, *points)
    assert value == pytest.approx(float(one @ other), abs=1e-3)
    assert identity_similarity(net, *pictures[::-1], *points[::-1]) == pytest.approx(value, abs=1e-5)
    same = identity_similarity(net, pictures[0], pictures[0], points[0], points[0])
    assert same == pytest.approx(1, abs=1e-5) and same <= 1


def test_landmarks_that_coincide_are_refused(net: MobileFaceNet) -> None:
    picture, points = torch.rand(3, 120, 120), landmarks(ARCFACE_POINTS_PX)
    with pytest.raises(BadGeometry):
        identity_similarity(net, picture, picture, points, torch.ones(68, 2))


def test_the_real_network_gives_the_vectors(assets: Path) -> None:
    folder = assets / "nets" / "mobilefacenet"
    net, vector = load_mobilefacenet(folder / "mobilefacenet_arcface.safetensors"), np.load(folder / "test_vector.npz")
    embeddings = net(torch.from_numpy(vector["aligned_rgb_uint8"]).permute(0, 3, 1, 2) / 255)
    assert np.abs(embeddings.numpy() - vector["embedding_unit"]).max() < 1e-4


def test_the_real_network_tells_people_apart_in_photos(assets: Path) -> None:
    folder = assets / "nets" / "mobilefacenet"
    net, vector = load_mobilefacenet(folder / "mobilefacenet_arcface.safetensors"), np.load(folder / "test_vector.npz")
    photos = [load_photo(assets / file).rgb for file in vector["source_files"]]
    points = [landmarks(torch.from_numpy(five) + 0.5) for five in vector["source_points_px"]]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        known = float(vector["embedding_unit"][a] @ vector["embedding_unit"][b])
        found = identity_similarity(net, photos[a], photos[b], points[a], points[b])
        assert found == pytest.approx(known, abs=0.05)
        small = warp(photos[a], arcface_crop(torch.tensor(vector["source_points_px"][a]) + 0.5), (112, 112))
        assert identity_similarity(net, photos[a], small, points[a], landmarks(ARCFACE_POINTS_PX)) > 0.98


def test_a_file_gives_the_network_back(net: MobileFaceNet, tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(tensors, path)
    image = torch.rand(1, 3, 112, 112)
    assert torch.equal(load_mobilefacenet(path)(image), net(image))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"nowhere\.safetensors.*github\.com"):
        load_mobilefacenet(tmp_path / "nowhere.safetensors")


def test_a_truncated_file_is_named(tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file(tensors, path)
    whole = path.read_bytes()
    for size in (0, 5, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(BadWeights, match=r"half\.safetensors.*github\.com"):
            load_mobilefacenet(path)


def changed(tensors: Tensors, name: str, how: str) -> Tensors:
    """A copy with one tensor spoiled."""
    tensors = {key: value.clone() for key, value in tensors.items()}
    if how == "lost":
        del tensors[name]
    elif how == "wider":
        tensors[name] = tensors[name].repeat_interleave(2, dim=-1)
    elif how == "empty":
        tensors[name] = tensors[name][:0]
    else:
        tensors[name].view(-1)[0] = float(how)
    return tensors


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("conv1.0.weight", "lost"),
        ("features.7.conv.2.weight", "lost"),
        ("bn.running_var", "lost"),
        ("conv3.bias", "wider"),
        ("features.3.conv.1.0.weight", "wider"),
        ("features.0.conv.0.0.weight", "empty"),
        ("gdconv.depthwise.weight", "nan"),
        ("conv2.1.running_mean", "inf"),
        ("dw_conv.bn1.running_var", "-1"),
    ],
)
def test_spoiled_weights_are_named(tensors: Tensors, tmp_path: Path, name: str, how: str) -> None:
    path = tmp_path / "spoiled.safetensors"
    save_file(changed(tensors, name, how), path)
    with pytest.raises(BadWeights) as caught:
        load_mobilefacenet(path)
    assert all(word in str(caught.value) for word in ("spoiled.safetensors", name, "github.com"))


def test_other_networks_are_refused(tensors: Tensors) -> None:
    with pytest.raises(BadWeights, match="extra"):
        MobileFaceNet(tensors | {"extra": torch.zeros(1)})
    with pytest.raises(BadWeights, match="the state dict is not a MobileFaceNet: it lacks"):
        MobileFaceNet(read_tensors(DATA_DIR / "facemesh.safetensors"))
