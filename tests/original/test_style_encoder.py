"""Encoders give what Keras gives, of the picture that they were trained on; hostile files get nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from small_keras import change, change_config, change_layer, expected, rewrite, unpacked, with_old_names

from ostec.errors import BadWeights, MissingWeights
from ostec.original.style_encoder import load_style_encoder

KERNEL = "model_weights/resnet50/conv1_conv/kernel:0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The released encoder's recipe."""
    return unpacked("keras_dense", tmp_path / "encoder.h5")


@pytest.mark.parametrize("name", ["keras_dense", "keras_local"])
@pytest.mark.parametrize("mark", [None, "", "_1"], ids=["new names", "old names", "old names of a second session"])
@torch.no_grad()
def test_encoders_give_what_keras_gives(tmp_path: Path, name: str, mark: str | None) -> None:
    """A pixel is a square of one colour, so that resizing at the same size changes nothing."""
    path, (pictures, latents) = unpacked(name, tmp_path / "encoder.h5"), expected(name)
    encoder = load_style_encoder(path if mark is None else with_old_names(path, mark))
    assert (encoder.num_ws, encoder.w_dim) == latents.shape[1:]
    assert (encoder(pictures) - latents).abs().max() < 1e-5 * latents.abs().max()
    for turned in (pictures.flip(1), pictures.flip(2), pictures.flip(3)):
        assert (encoder(turned) - latents).abs().max() > 0.01 * latents.abs().max()


def test_a_slope_goes_all_the_way_to_the_picture(path: Path) -> None:
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (slope,) = torch.autograd.grad(load_style_encoder(path)(pictures)[0].sum(), pictures)
    assert float(slope[0].abs().max()) > 0 and float(slope[1].abs().max()) == 0


@torch.no_grad()
def test_pictures_of_any_size_are_resized_without_aliasing(path: Path) -> None:
    """A checkerboard of single pixels, seen at a fourth of its size, is grey."""
    encoder = load_style_encoder(path)
    board = ((torch.arange(256)[:, None] + torch.arange(256)) % 2.0).expand(1, 3, 256, 256)
    grey = encoder(torch.full((1, 3, 64, 64), 0.5))
    assert (encoder(board) - grey).abs().max() < 0.1 * grey.abs().max()
    colours = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    large, small = (colours.repeat_interleave(n, 2).repeat_interleave(n, 3) for n in (32, 8))
    assert (encoder(large) - encoder(small)).abs().max() < 0.1 * encoder(small).abs().max()


def test_moving_it_moves_all_of_it(path: Path) -> None:
    assert load_style_encoder(path).double()(torch.rand(1, 3, 64, 64).double()).dtype == torch.float64


def replaced(**how: Any) -> Callable[[h5py.File], None]:
    def write(file: h5py.File) -> None:
        del file[KERNEL]
        file.create_dataset(KERNEL, **how)

    return write


def linked(link: Any) -> Callable[[h5py.File], None]:
    def write(file: h5py.File) -> None:
        file["elsewhere"] = file[KERNEL]
        del file[KERNEL]
        file[KERNEL] = link

    return write


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((7, 7, 3, 64), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", (7, 7, 3, 64))
    del file[KERNEL]
    file.create_virtual_dataset(KERNEL, layout)


def twice(file: h5py.File) -> None:
    file["model_weights/resnet50/conv1_conv/kernel:1"] = file[KERNEL]


def circle(file: h5py.File) -> None:
    file["model_weights/resnet50/conv1_conv/inner"] = file["model_weights/resnet50"]


HOSTILE: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "no architecture": (lambda file: file.attrs.__delitem__("model_config"), "model_config"),
    "no weights": (lambda file: file.__delitem__("model_weights"), "model_weights"),
    "a weight missing": (lambda file: file.__delitem__(KERNEL), "lacks 'kernel'"),
    "a weight too many": (lambda file: file.create_dataset(f"{KERNEL}x/y", data=np.zeros(1, "f4")), "belong to"),
    "NaN": (replaced(data=np.full((7, 7, 3, 64), np.nan, np.float32)), "finite"),
    "text": (replaced(data=b"kernel"), "array of numbers"),
    "numbers promised": (replaced(shape=(1 << 20, 1 << 14), dtype="f4"), "no numbers"),
    "packed": (replaced(data=np.zeros((7, 7, 3, 64), "f4"), compression="gzip"), "in one piece"),
    "in another file": (replaced(shape=(7, 7, 3, 64), dtype="f4", external=[("other.bin", 0, 37632)]), "in one piece"),
    "link outside": (linked(h5py.ExternalLink("other.h5", "/x")), "link"),
    "link inside": (linked(h5py.SoftLink("/elsewhere")), "link"),
    "virtual": (virtual, "in one piece"),
    "one array twice": (twice, "stands in it twice"),
    "a circle of groups": (circle, "stands in it twice"),
    "transposed": (replaced(data=np.zeros((64, 3, 7, 7), "f4")), "of shape"),
    "channels flipped": (replaced(data=np.zeros((7, 7, 64, 3), "f4")), "of shape"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(path: Path, name: str) -> None:
    how, reason = HOSTILE[name]
    change(path, how)
    with pytest.raises(BadWeights, match=rf"encoder\.h5 .*{reason}.*OSTeC"):
        load_style_encoder(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"{" * 10, "Expecting"), (b"[" + b"0, " * 999 + b"0]", "indices"), (b"[" * 60000, "recursion")],
)
def test_texts_that_are_no_architecture_are_refused(path: Path, text: bytes, reason: str) -> None:
    with pytest.raises(BadWeights, match=rf"encoder\.h5 .*{reason}.*OSTeC"):
        load_style_encoder(rewrite(path, text))


def test_files_that_are_something_else_are_refused(path: Path, tmp_path: Path) -> None:
    complete = path.read_bytes()
    for data in (b"", b"GIF89a", complete[: len(complete) // 2], complete[:600]):
        path.write_bytes(data)
        with pytest.raises(BadWeights, match="truncated"):
            load_style_encoder(path)
    with pytest.raises(MissingWeights, match="ostec models list"):
        load_style_encoder(tmp_path / "none.h5")


OTHERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "code": ("dense", {"class_name": "Lambda"}, "a Lambda, .*none of it was run"),
    "code in the trunk": ("conv2_block1_1_conv", {"class_name": "Lambda"}, "no ResNet-50"),
    "a trunk of another name": ("conv5_block3_3_conv", {"name": "other"}, "no layer 'conv5_block3_3_conv'"),
    "another activation": ("conv4_block2_1_relu", {"activation": "elu"}, "no ResNet-50"),
    "another border": ("pool1_pad", {"padding": [[2, 2], [2, 2]]}, "borders"),
    "another stride": ("conv3_block1_1_conv", {"strides": [1, 1]}, "strides"),
    "dilated": ("conv3_block1_2_conv", {"dilation_rate": [2, 2]}, "dilation_rate"),
    "channels first": ("conv3_block1_2_conv", {"data_format": "channels_first"}, "channels_first"),
    "epsilons": ("conv3_block1_2_bn", {"epsilon": 0.5}, "epsilon"),
    "wrong size": ("conv3_block1_2_conv", {"kernel_size": [5, 5]}, "kernel_size"),
    "shared": ("resnet50", {"inbound_nodes": [[["photo", 0, 0, {}]]] * 2}, "used 2 times"),
    "out of the row": ("dense", {"inbound_nodes": [[["conv1_relu", 0, 0, {}]]]}, "not the layer before"),
    "unknown activation": ("dense", {"activation": "gelu"}, "gelu"),
    "no latents": ("reshape", {"target_shape": [15]}, r"not \[layers, latent\]"),
    "no picture": ("resnet50_input", {"batch_input_shape": [None, 64, 64, 4]}, "input"),
    "huge picture": ("resnet50_input", {"batch_input_shape": [None, 1 << 20, 64, 3]}, "input"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_refused(path: Path, name: str) -> None:
    layer, changed, reason = OTHERS[name]
    if "inbound_nodes" in changed:
        change_config(path, lambda model: [each.setdefault("inbound_nodes", []) for each in model["config"]["layers"]])
    change_layer(path, layer, **changed)
    with pytest.raises(BadWeights, match=rf"encoder\.h5 .*{reason}.*OSTeC"):
        load_style_encoder(path)


def test_names_that_two_layers_have_are_refused(path: Path) -> None:
    change_config(path, lambda model: model["config"]["layers"].append(model["config"]["layers"][-1]))
    with pytest.raises(BadWeights, match="two layers are called 'reshape'"):
        load_style_encoder(path)


def test_values_of_different_shapes_are_not_added(tmp_path: Path) -> None:
    path = unpacked("keras_local", tmp_path / "encoder.h5")
    change_layer(path, "add", inbound_nodes=[[["permute_3", 0, 0, {}], ["permute", 0, 0, {}]]])
    with pytest.raises(BadWeights, match="are added"):
        load_style_encoder(path)


def test_strings_that_lie_about_their_length_take_no_memory(path: Path) -> None:
    data = path.read_bytes()
    with h5py.File(path) as file:
        length = len(str(file.attrs["model_config"])).to_bytes(8, "little")
    first = data.index(length, data.index(b"GCOL"))
    for said in (1 << 40, len(data), (1 << 64) - 1):
        path.write_bytes(data[:first] + said.to_bytes(8, "little") + data[first + 8 :])
        with pytest.raises(BadWeights, match="not a model file of Keras"):
            load_style_encoder(path)


def test_numbers_that_look_like_references_to_strings_are_numbers(path: Path) -> None:
    """Among millions of weights there are some: a full-size file from Keras was refused for them."""
    heap = path.read_bytes().index(b"GCOL").to_bytes(8, "little")
    bias = np.frombuffer((0xF0000000).to_bytes(4, "little") + heap + (1).to_bytes(4, "little"), np.float32)

    def write(file: h5py.File) -> None:
        name = next(name for name in ("dense/dense/bias:0", "dense/bias:0") if f"model_weights/{name}" in file)
        file[f"model_weights/{name}"][:4] = bias  # pyright: ignore[reportIndexIssue]

    encoder = load_style_encoder(change(path, write))
    assert torch.equal(encoder.get("dense/bias")[:4], torch.from_numpy(bias.copy()))
