"""NVIDIA's packings of LPIPS give what torchvision's trunk and the authors' heads give; nothing in them is run."""

from __future__ import annotations

import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_lpips import Weights, save_script
from torch import nn

from ostec.errors import BadWeights, MissingWeights
from ostec.original.lpips_nvidia import load_nvidia_lpips

STAGES = ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "3_3", "4_1", "4_2", "4_3", "5_1", "5_2", "5_3")


def variables(weights: Weights) -> list[tuple[str, np.ndarray]]:
    """In the order of a TensorFlow network's creation."""
    found = []
    for stage, kernel, bias in zip(STAGES, weights.kernels, weights.biases, strict=True):
        array = kernel.permute(2, 3, 1, 0).contiguous().numpy()
        found += [(f"conv{stage}/weight", array), (f"conv{stage}/bias", bias.numpy())]
    return found + [(f"lin{i}/weight", head[None, None, :, None].numpy()) for i, head in enumerate(weights.heads)]


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A pickled TensorFlow network with these variables, and perhaps others below it."""
    module = types.ModuleType("dnnlib.tflib.network")
    kind = type("Network", (), {"__module__": module.__name__})
    module.__dict__["Network"] = kind
    for name in ("dnnlib", "dnnlib.tflib"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def network(values: Any, components: dict[str, Any]) -> Any:
        made = kind()
        state = {"version": 4, "name": "vgg16", "static_kwargs": {}, "components": components}
        vars(made).update(state, build_module_src="raise SystemExit", build_func_name="lpips", variables=values)
        return made

    def save(own: Any, below: Any = None) -> Path:
        components = {} if below is None else {"vgg": network(below, {})}
        (tmp_path / "vgg16_zhang_perceptual.pkl").write_bytes(pickle.dumps(network(own, components), protocol=4))
        return tmp_path / "vgg16_zhang_perceptual.pkl"

    return save


def same(path: Path, weights: Weights) -> None:
    """Whether a file holds them: distances, features, and not those of other channels or turned kernels."""
    first, second = torch.rand(2, 2, 3, 40, 36)
    found, expected = load_nvidia_lpips(path), weights.lpips()
    assert torch.allclose(found(first, second), expected(first, second), atol=1e-5)
    for ours, theirs in zip(found.features(first), expected.features(first), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(found(first, second), expected(first.flip(1), second.flip(1)), atol=1e-4)
    assert not torch.allclose(found(first, second), expected(first.mT, second.mT), atol=1e-4)


def test_the_script_is_lpips(tmp_path: Path) -> None:
    weights = Weights()
    same(save_script(weights, tmp_path / "vgg16.pt"), weights)


def test_the_pickle_is_lpips(pickled: Callable[..., Path]) -> None:
    weights = Weights()
    values = variables(weights)
    same(pickled(values), weights)
    same(pickled(values[-5:], values[:-5]), weights)


def test_the_names_of_the_variables_do_not_matter(pickled: Callable[..., Path]) -> None:
    weights = Weights()
    scopes = list(dict.fromkeys(name.rpartition("/")[0] for name, _ in variables(weights)))
    renamed = [
        (f"net/{scopes.index(name.rpartition('/')[0])}/{'w' if value.ndim > 1 else 'b'}", value.squeeze())
        for name, value in variables(weights)
    ]
    same(pickled(renamed), weights)


def refusal(path: Path) -> str:
    with pytest.raises(BadWeights) as caught:
        load_nvidia_lpips(path)
    assert str(path) in str(caught.value) and "ostec models get lpips-nvidia" in str(caught.value)
    return str(caught.value)


def test_other_pickles_are_refused(pickled: Callable[..., Path], tmp_path: Path) -> None:
    values = variables(Weights())
    negative = [(name, -value if name == "lin2/weight" else value) for name, value in values]
    spoiled = [(name, value * np.nan if name == "conv3_1/bias" else value) for name, value in values]
    flat = [(name, value.transpose(3, 2, 0, 1) if name == "conv2_1/weight" else value) for name, value in values]
    for content, word in (
        (values[2:], "12 convolutions"),
        (values[:-1], "no heads"),
        ([*values, values[-1]][:-2] + [("lin4/weight", np.ones((1, 1, 31, 1), np.float32))], "no heads"),
        (negative, "no heads"),
        (spoiled, "not finite"),
        (flat, "12 convolutions"),
        ([pair for pair in values if pair[0] != "conv4_2/bias"], "'conv4_2/weight' does not have one bias"),
        ([], "0 convolutions"),
        ("text", "is not one of NVIDIA's"),
    ):
        assert word in refusal(pickled(content))
    whole = pickled(values).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "vgg16_zhang_perceptual.pkl").write_bytes(whole[:size])
        refusal(tmp_path / "vgg16_zhang_perceptual.pkl")


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_code_in_a_pickle_does_not_run(pickled: Callable[..., Path], tmp_path: Path) -> None:
    refusal(pickled([("conv1_1/weight", _Bomb(tmp_path / "boom"))]))
    assert not (tmp_path / "boom").exists()


def test_other_scripts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "vgg16.pt"
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 1)), path)
    assert "layers.conv1.weight" in refusal(path)
    whole = save_script(Weights(), path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refusal(path)
    torch.save([1, 2], path)
    refusal(path)
    with pytest.raises(MissingWeights, match="ostec models get lpips-nvidia"):
        load_nvidia_lpips(tmp_path / "none.pt")
