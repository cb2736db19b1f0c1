"""Keras files give what Keras gives; encoders get the picture that they were trained on; hostile files get nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_keras import conv, layer, model, picture, write_keras
from torch import Tensor

from ostec.errors import BadWeights, MissingWeights
from ostec.original.keras_files import read_keras
from ostec.original.keras_graph import KerasGraph
from ostec.original.style_encoder import load_style_encoder

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


def latents() -> dict[str, Any]:
    """A column of them."""
    return layer("Reshape", "latents", "mean", target_shape=[-1, 1])


def graph(path: Path) -> KerasGraph:
    return KerasGraph(read_keras(path, ""), path.name, "")


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def encoder_layers() -> list[dict[str, Any]]:
    """A whole encoder: conv, mean over the picture, a column of latents."""
    return [
        picture(6, 6),
        conv("conv", "picture", 4, 3, 2),
        layer("GlobalAveragePooling2D", "mean", "conv", data_format="channels_last"),
        latents(),
    ]


def encoder_file(path: Path, **changed: Any) -> Path:
    layers = encoder_layers()
    layers[1]["config"] |= changed
    return write_keras(path, model(layers), {"conv": [("conv/kernel:0", random(3, 3, 3, 4))]})


def test_a_model_that_keras_wrote_gives_what_keras_gives() -> None:
    """Keras 2.15: a nested and a sequential model, layers of every kind, two of them frozen; random weights."""
    with np.load(GOLDEN / "keras_small_expected.npz") as arrays:
        x, y = torch.from_numpy(arrays["x"]).float(), torch.from_numpy(arrays["y"])
    found = graph(GOLDEN / "keras_small.h5")
    assert (found.input_px, found.output_shape) == ((20, 25), (2, 6))
    assert torch.allclose(found(x), y, atol=1e-5)
    assert not torch.allclose(found(x.flip(3)), y, atol=0.01)
    assert not torch.allclose(found(x.flip(2)), y, atol=0.01)


def slow_conv(x: NDArray[Any], kernel: NDArray[Any], stride: int) -> NDArray[Any]:
    """A convolution with TensorFlow's "same" padding by its definition: the odd row and column come last."""
    size, (height, width) = len(kernel), x.shape[:2]
    out = [-(-n // stride) for n in (height, width)]
    before = [max((m - 1) * stride + size - n, 0) // 2 for m, n in zip(out, (height, width), strict=True)]
    y = np.zeros((*out, kernel.shape[3]))
    for row, column, dy, dx in np.ndindex(*out, size, size):
        at = row * stride + dy - before[0], column * stride + dx - before[1]
        if 0 <= at[0] < height and 0 <= at[1] < width:
            y[row, column] += x[at] @ kernel[dy, dx]
    return y


@pytest.mark.parametrize(
    ("height", "width", "size", "stride"), [(6, 7, 3, 2), (7, 6, 4, 2), (5, 5, 3, 1), (9, 8, 5, 3)]
)
def test_convolutions_are_those_of_the_definition(
    tmp_path: Path, height: int, width: int, size: int, stride: int
) -> None:
    kernel, x = random(size, size, 3, 2), random(height, width, 3, seed=1)
    stated = model([picture(height, width), conv("conv", "picture", 2, size, stride)])
    found = graph(write_keras(tmp_path / "conv.h5", stated, {"conv": [("conv/kernel:0", kernel)]}))
    assert np.allclose(found(torch.from_numpy(x)[None])[0], slow_conv(x, kernel, stride), atol=1e-5)


def test_the_odd_row_of_padding_is_the_last(tmp_path: Path) -> None:
    kernel = np.arange(27, dtype=np.float32).reshape(3, 3, 3, 1)
    stated = model([picture(4, 4), conv("conv", "picture", 1, 3, 2)])
    found = graph(write_keras(tmp_path / "conv.h5", stated, {"conv": [("conv/kernel:0", kernel)]}))
    x = torch.zeros(1, 4, 4, 3)
    x[0, 0, 0, 2] = 1
    assert found(x).flatten().tolist() == [kernel[0, 0, 2, 0], 0, 0, 0]


def test_batch_normalisation_has_its_own_epsilon(tmp_path: Path) -> None:
    norm = layer("BatchNormalization", "norm", "picture", axis=[3], epsilon=0.5, center=True, scale=True)
    weights = [(f"norm/{name}:0", np.full(3, value)) for name, value in (("gamma", 3.0), ("beta", 1.0))]
    weights += [("norm/moving_mean:0", np.array([1.0, 2, 3])), ("norm/moving_variance:0", np.full(3, 3.5))]
    found = graph(write_keras(tmp_path / "norm.h5", model([picture(1, 1), norm]), {"norm": weights}))
    assert torch.allclose(found(torch.full((1, 1, 1, 3), 3.0)).flatten(), torch.tensor([4.0, 2.5, 1.0]))


@pytest.mark.parametrize(("kind", "wanted"), [("MaxPooling2D", [-1.0, -2, -3]), ("AveragePooling2D", [-2.5, -3.5, -3])])
def test_the_border_does_not_count_in_pools(tmp_path: Path, kind: str, wanted: list[float]) -> None:
    pool = layer(kind, "pool", "picture", pool_size=[2, 2], strides=[2, 2], padding="same", data_format="channels_last")
    found = graph(write_keras(tmp_path / "pool.h5", model([picture(1, 5), pool]), {}))
    x = -torch.tensor([4.0, 1, 5, 2, 3])[None, None, :, None].expand(1, 1, 5, 3)
    assert found(x)[0, 0, :, 0].tolist() == wanted


@pytest.mark.parametrize("frozen", [(), ("a",), ("b",), ("a", "b")])
def test_weights_of_nested_models_are_in_keras_order(tmp_path: Path, frozen: tuple[str, ...]) -> None:
    """What is trained first, then the rest layer by layer; the names' marks of sessions do not matter."""
    norms = [
        layer("BatchNormalization", name, source, axis=3, epsilon=0.0, center=True, scale=True)
        for name, source in (("a", "inner"), ("b", "a"))
    ]
    for norm in norms:
        norm["config"]["trainable"] = norm["name"] not in frozen
    values = {"a": (2.0, 5.0, 1.0, 4.0), "b": (3.0, 7.0, 6.0, 0.25)}
    roles = ("gamma", "beta", "moving_mean", "moving_variance")
    named = {
        (n, role): (f"{n}_1/{role}:0", np.full(3, v)) for n in values for role, v in zip(roles, values[n], strict=True)
    }
    order = [(n, role) for n in "ab" if n not in frozen for role in roles[:2]]
    order += [(n, role) for n in "ab" for role in (roles if n in frozen else roles[2:])]
    stated = model([picture(1, 1), model([picture(1, 1, "inner"), *norms], "trunk", "picture")])
    found = graph(write_keras(tmp_path / "nested.h5", stated, {"trunk": [named[each] for each in order]}))
    inner = (10.0 - 1) / 2 * 2 + 5
    assert torch.allclose(found(torch.full((1, 1, 1, 3), 10.0)), torch.tensor((inner - 6) / 0.5 * 3 + 7))


def test_an_encoder_gets_blue_green_red_less_the_means(tmp_path: Path) -> None:
    layers = [picture(8, 8), layer("GlobalAveragePooling2D", "mean", "picture"), latents()]
    encoder = load_style_encoder(write_keras(tmp_path / "mean.h5", model(layers), {}))
    assert (encoder.num_ws, encoder.w_dim) == (3, 1)
    colour = torch.tensor([0.2, 0.4, 0.6])
    for size in (8, 5, 64):
        found = encoder(colour[None, :, None, None].expand(2, 3, size, size))
        wanted = colour.flip(0) * 255 - torch.tensor([103.939, 116.779, 123.68])
        assert torch.allclose(found[:, :, 0], wanted.expand(2, 3), atol=1e-3)


def test_pictures_are_resized_without_aliasing_or_shift(tmp_path: Path) -> None:
    layers = [
        picture(8, 8),
        layer("Flatten", "row", "picture"),
        layer("Reshape", "latents", "row", target_shape=[8, 24]),
    ]
    encoder = load_style_encoder(write_keras(tmp_path / "all.h5", model(layers), {}))
    x = torch.linspace(0.2, 0.8, 64)
    picture_px = torch.stack([x.expand(64, 64), x[:, None].expand(64, 64), (torch.arange(64) % 2.0).expand(64, 64)])
    seen = (encoder(picture_px[None]).reshape(8, 8, 3) + encoder.mean_bgr.flatten()) / 255
    steps = x.reshape(8, 8).mean(dim=1)
    assert torch.allclose(seen[1:-1, 1:-1, 2], steps[None, 1:-1].expand(6, 6), atol=0.005)
    assert torch.allclose(seen[1:-1, 1:-1, 1], steps[1:-1, None].expand(6, 6), atol=0.005)
    assert torch.allclose(seen[:, :, 0], torch.tensor(0.5), atol=0.05)


def test_the_recipe_of_the_released_encoder_is_read(tmp_path: Path) -> None:
    """A trunk as a model of its own, then one dense layer to all latents; a slope all the way to the picture."""
    trunk = model([*encoder_layers()[:3]], "resnet50", "photo")
    dense = layer("Dense", "dense_2", "resnet50", units=36, activation="linear", use_bias=True)
    layers = [picture(6, 6, "photo"), trunk, dense, layer("Reshape", "reshape_1", "dense_2", target_shape=[18, 2])]
    kernel, bias = random(4, 36, seed=2), random(36, seed=3)
    weights = {
        "resnet50": [("conv/kernel:0", random(3, 3, 3, 4))],
        "dense_2": [("dense_2/kernel:0", kernel), ("dense_2/bias:0", bias)],
    }
    encoder = load_style_encoder(write_keras(tmp_path / "resnet_18.h5", model(layers), weights))
    pictures = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = encoder(pictures)
    inputs = (pictures.detach().flip(1) * 255 - encoder.mean_bgr)[1].permute(1, 2, 0).numpy()
    features = slow_conv(inputs, random(3, 3, 3, 4), 2).mean(axis=(0, 1))
    assert np.allclose(found[1].detach().flatten(), features @ kernel + bias, atol=1e-2)
    (slope,) = torch.autograd.grad(found.sum(), pictures)
    assert float(slope.abs().max()) > 0


def _change(path: Path, change: Callable[[h5py.File], None]) -> None:
    with h5py.File(path, "r+") as file:
        change(file)


def _replace(**how: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        group: Any = file["model_weights/conv/conv"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", **how)

    return change


def _link(link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        group: Any = file["model_weights/conv/conv"]
        group["elsewhere"] = group["kernel:0"]
        del group["kernel:0"]
        group["kernel:0"] = link

    return change


def _virtual(file: h5py.File) -> None:
    group: Any = file["model_weights/conv/conv"]
    layout = h5py.VirtualLayout((3, 3, 3, 4), np.float32)
    layout[:] = h5py.VirtualSource("other.h5", "x", (3, 3, 3, 4))
    del group["kernel:0"]
    group.create_virtual_dataset("kernel:0", layout)


HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "no architecture": (lambda file: file.attrs.__delitem__("model_config"), "model_config"),
    "no JSON": (lambda file: file.attrs.__setitem__("model_config", b"{"), "Expecting"),
    "deep JSON": (lambda file: file.attrs.__setitem__("model_config", b"[" * 60000), "recursion"),
    "no weights": (lambda file: file.__delitem__("model_weights"), "model_weights"),
    "a weight missing": (lambda file: file.__delitem__("model_weights/conv/conv/kernel:0"), "kernel"),
    "NaN": (_replace(data=np.full((3, 3, 3, 4), np.nan, np.float32)), "finite"),
    "text": (_replace(data=b"kernel"), "array of numbers"),
    "numbers promised": (_replace(shape=(1 << 20, 1 << 14), dtype="f4"), "no numbers"),
    "packed": (_replace(data=np.zeros((3, 3, 3, 4), "f4"), compression="gzip"), "in one piece"),
    "in another file": (_replace(shape=(3, 3, 3, 4), dtype="f4", external=[("other.bin", 0, 432)]), "in one piece"),
    "link outside": (_link(h5py.ExternalLink("other.h5", "/x")), "link"),
    "link inside": (_link(h5py.SoftLink("elsewhere")), "link"),
    "virtual": (_virtual, "(in one piece|not as long)"),
    "transposed": (_replace(data=random(4, 3, 3, 3)), "of shape"),
    "channels flipped": (_replace(data=random(3, 3, 4, 3)), "of shape"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    change, reason = HOSTILE[name]
    path = encoder_file(tmp_path / "encoder.h5")
    load_style_encoder(path)
    _change(path, change)
    with pytest.raises(BadWeights, match=rf"encoder\.h5 .*{reason}.*OSTeC"):
        load_style_encoder(path)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    path = encoder_file(tmp_path / "encoder.h5")
    whole = path.read_bytes()
    for data in (b"", b"GIF89a", whole[: len(whole) // 2], whole[:600]):
        path.write_bytes(data)
        with pytest.raises(BadWeights, match="truncated"):
            load_style_encoder(path)
    with pytest.raises(MissingWeights, match="ostec models list"):
        load_style_encoder(tmp_path / "none.h5")


UNREADABLE: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "code": (lambda layers: layers[1].update(class_name="Lambda"), "never run"),
    "unknown kind": (lambda layers: layers[1].update(class_name="Conv3D"), "'conv' is a Conv3D"),
    "unknown source": (lambda layers: layers[1].update(inbound_nodes=[[["none", 0, 0, {}]]]), "none"),
    "a circle": (lambda layers: layers[1].update(inbound_nodes=[[["mean", 0, 0, {}]]]), "mean"),
    "shared": (lambda layers: layers[1].update(inbound_nodes=[[["picture", 0, 0, {}]]] * 2), "used 2 times"),
    "two of a name": (lambda layers: layers.insert(1, layers[1]), "two layers"),
    "no picture": (lambda layers: layers[0]["config"].update(batch_input_shape=[None, 6, 6, 4]), "input"),
    "huge picture": (lambda layers: layers[0]["config"].update(batch_input_shape=[None, 1 << 20, 6, 3]), "input"),
    "channels first": (lambda layers: layers[1]["config"].update(data_format="channels_first"), "data_format"),
    "dilated": (lambda layers: layers[1]["config"].update(dilation_rate=[2, 2]), "dilation_rate"),
    "wrong size": (lambda layers: layers[1]["config"].update(kernel_size=[5, 5]), "kernel"),
    "unknown activation": (lambda layers: layers[1]["config"].update(activation="gelu"), "gelu"),
    "no latents": (lambda layers: layers[-1]["config"].update(target_shape=[4]), r"not \[layers, latent\]"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_models_that_cannot_be_computed_are_refused(tmp_path: Path, name: str) -> None:
    change, reason = UNREADABLE[name]
    layers = encoder_layers()
    change(layers)
    weights = {"conv": [("conv/kernel:0", random(3, 3, 3, 4))]}
    path = write_keras(tmp_path / "encoder.h5", model(layers), weights)
    with pytest.raises(BadWeights, match=rf"encoder\.h5 .*{reason}.*OSTeC"):
        load_style_encoder(path)


def test_no_layer_asks_for_more_memory_than_there_is(tmp_path: Path) -> None:
    border = layer("ZeroPadding2D", "border", "picture", padding=[[1 << 20] * 2] * 2, data_format="channels_last")
    mean = layer("GlobalAveragePooling2D", "mean", "border")
    path = write_keras(tmp_path / "huge.h5", model([picture(6, 6), border, mean, latents()]), {})
    with pytest.raises(BadWeights, match="more than any encoder"):
        load_style_encoder(path)


def test_the_same_weight_many_times_is_refused(tmp_path: Path) -> None:
    path = encoder_file(tmp_path / "encoder.h5")
    names = np.array([b"conv/kernel:0"] * 1000)
    _change(path, lambda file: file["model_weights/conv"].attrs.__setitem__("weight_names", names))
    with pytest.raises(BadWeights, match="no numbers"):
        load_style_encoder(path)


def test_strings_that_lie_about_their_length_are_refused(tmp_path: Path) -> None:
    path = encoder_file(tmp_path / "encoder.h5")
    _change(path, lambda file: file.attrs.__setitem__("model_config", file.attrs["model_config"]))
    whole = path.read_bytes()
    with h5py.File(path) as file:
        length = len(file.attrs["model_config"])  # pyright: ignore[reportArgumentType]
    said = length.to_bytes(4, "little") + whole.index(b"GCOL").to_bytes(8, "little")
    assert whole.count(said) == 1
    path.write_bytes(whole.replace(said, (0xF0000000).to_bytes(4, "little") + said[4:]))
    with pytest.raises(BadWeights, match="not as long"):
        load_style_encoder(path)
    first = whole.index(b"GCOL") + 24
    path.write_bytes(whole[:first] + (1 << 10).to_bytes(8, "little") + whole[first + 8 :])
    with pytest.raises(BadWeights, match="damaged"):
        load_style_encoder(path)


def test_lists_split_over_attributes_are_read(tmp_path: Path) -> None:
    path = encoder_file(tmp_path / "encoder.h5")
    wanted = load_style_encoder(path)(torch.ones(1, 3, 6, 6))

    def split(file: h5py.File) -> None:
        attrs = file["model_weights"].attrs
        names: Any = attrs["layer_names"]
        attrs["layer_names0"], attrs["layer_names1"] = names[:2], names[2:]
        del attrs["layer_names"]

    _change(path, split)
    found: Tensor = load_style_encoder(path)(torch.ones(1, 3, 6, 6))
    assert torch.equal(found, wanted)
