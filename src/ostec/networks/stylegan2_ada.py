"""StyleGAN2 networks as NVlabs/stylegan2-ada-pytorch and NVlabs/stylegan3 pickle them: modules as dicts of dicts.

Format: `torch_utils.persistence`, a module's `__dict__` by class name; weights at unit scale, each dense layer with its
gains. The source text that is stored with each module is not looked at.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ostec.weights.pickles import NETWORK_TORCH, Node, entries, number, tensor

_FIR = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


class _Module:
    """One stored module."""

    def __init__(self, node: Any) -> None:
        if not isinstance(node, Node) or node.name != NETWORK_TORCH:
            raise ValueError("it holds no PyTorch network of NVIDIA's")
        self.state = entries(entries(node.args[0])["state"])

    def __getitem__(self, name: str) -> _Module:
        return _Module(entries(self.state["_modules"])[name])

    def __contains__(self, name: str) -> bool:
        return name in entries(self.state["_modules"])

    def tensor(self, name: str) -> Tensor:
        own = {**entries(self.state["_parameters"]), **entries(self.state["_buffers"])}
        return tensor(own[name]).float()

    def clamp(self) -> Tensor:
        bound = self.state.get("conv_clamp")
        return torch.tensor(math.inf if bound is None else number(bound))


def generator(node: Any) -> dict[str, Tensor]:
    """Tensors for `stylegan2.Generator`. Raises `ValueError`, `KeyError` where it is another network."""
    network = _Module(node)
    synthesis, mapping = network["synthesis"], network["mapping"]
    if "embed" in mapping:
        raise ValueError("its generator wants a class along with the latent; one of faces alone is needed")
    if "b4" not in synthesis:
        raise ValueError("its generator is not a StyleGAN2")
    found = {"w_avg": mapping.tensor("w_avg"), "const": synthesis["b4"].tensor("const")}
    found["clamp"] = synthesis["b4"]["conv1"].clamp()
    count = 0
    while f"fc{count}" in mapping:
        found |= _dense(mapping[f"fc{count}"], f"mapping.{count}.")
        count += 1
    size = 4
    while f"b{size}" in synthesis:
        block = synthesis[f"b{size}"]
        for kind, stored in (("up", "conv0"), ("conv", "conv1"), ("rgb", "torgb")):
            if size > 4 or kind != "up":
                found |= _styled(block[stored], f"{size}.{kind}")
        size *= 2
    return found


def discriminator(node: Any) -> dict[str, Tensor]:
    """Tensors for `stylegan2_discriminator.Discriminator`. Raises `ValueError`, `KeyError`."""
    network = _Module(node)
    size = int(number(network.state["img_resolution"]))
    first = network[f"b{size}"]["fromrgb"]
    found, layers = {"clamp": first.clamp()}, {"rgb": first}
    while size > 4:
        block = network[f"b{size}"]
        layers |= {f"{size}.conv": block["conv0"], f"{size}.down": block["conv1"]}
        found[f"{size}.skip.weight"] = _kernel(block["skip"])
        size //= 2
    last = network["b4"]
    layers["last.conv"] = last["conv"]
    for name, layer in layers.items():
        found |= {f"{name}.weight": _kernel(layer), f"{name}.bias": layer.tensor("bias")}
    return found | _dense(last["fc"], "last.dense.") | _dense(last["out"], "last.out.")


def _styled(layer: _Module, name: str) -> dict[str, Tensor]:
    rgb = name.endswith(".rgb")
    found = _dense(layer["affine"], f"{name}.style_")
    found |= {f"{name}.weight": _kernel(layer) if rgb else layer.tensor("weight"), f"{name}.bias": layer.tensor("bias")}
    if not rgb:
        noisy = bool(layer.state.get("use_noise", True))
        size = int(name.partition(".")[0])
        noise = layer.tensor("noise_const") * layer.tensor("noise_strength") if noisy else torch.zeros(size, size)
        found[f"{name}.noise"] = noise
        taps = layer.tensor("resample_filter")
        if taps.shape != (4, 4) or not torch.allclose(taps, torch.outer(_FIR, _FIR), atol=1e-5):
            raise ValueError("it resamples by another filter than [1, 3, 3, 1]")
    return found


def _dense(layer: _Module, name: str) -> dict[str, Tensor]:
    """Its weight and bias; `name` is what comes before these words."""
    kinds = ("weight", "bias")
    return {f"{name}{kind}": layer.tensor(kind) * number(layer.state[f"{kind}_gain"]) for kind in kinds}


def _kernel(layer: _Module) -> Tensor:
    weight = layer.tensor("weight")
    return weight / math.sqrt(weight[0].numel())
