"""LPIPS as NVIDIA packs it, VGG16 and the heads in one file, read into the names of `networks.lpips`.

Two files: `vgg16.pt` of NVlabs/stylegan2-ada-pytorch, TorchScript, with the tensors `layers.conv1` to `layers.conv13`
and `lpips0` to `lpips4` (names as read by `models/perceptual_model.py` of snap-research/discoscene); and
`vgg16_zhang_perceptual.pkl` of NVlabs/stylegan2-ada, a pickled TensorFlow network. They hold the network of
`networks.lpips` in other words: the tests of toshas/torch-fidelity find the distances of `vgg16.pt` to be those of
torchvision's trunk with the heads v0.1, to 1e-5. They take 0..255 and normalise it themselves, by the same numbers.

The names in the pickle are not public, so its variables are distinguished by shape and order: 3x3 kernels
[height, width, in, out] with a bias beside each, and heads, as wide as the features that they weigh, never negative.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ostec.networks.lpips import Lpips
from ostec.weights.open import expecting, read_stored
from ostec.weights.pickles import Node, entries, floats, tf_state

_PLACES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Of the convolutions among torchvision's `features`."""
_TAPPED = (1, 3, 6, 9, 12)
"""Which of the convolutions, from 0, give the features that are compared."""
_REMEDY = "`ostec models get lpips-nvidia` downloads vgg16.pt."

Convolutions = list[tuple[Tensor, Tensor]]


def load_nvidia_lpips(path: Path) -> Lpips:
    """LPIPS with its VGG16 trunk in either file. Raises `MissingWeights`, `BadWeights`."""
    stored = read_stored(path, _REMEDY)
    with expecting("one of NVIDIA's VGG16 with LPIPS", path, _REMEDY):
        convolutions, heads = _of_pickle(stored) if isinstance(stored, Node) else _of_script(stored)
        trunk = {}
        for place, (weight, bias) in zip(_PLACES, convolutions, strict=True):
            trunk |= {f"features.{place}.weight": weight, f"features.{place}.bias": bias}
        named = {f"lin{i}.model.1.weight": head.reshape(1, -1, 1, 1) for i, head in enumerate(heads)}
        return Lpips(trunk, named, (str(path), str(path)))


def _of_script(tensors: Mapping[str, Tensor]) -> tuple[Convolutions, list[Tensor]]:
    layers = [f"layers.conv{i + 1}" for i in range(len(_PLACES))]
    found = [(tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]) for layer in layers]
    return found, [tensors[f"lpips{i}"] for i in range(len(_TAPPED))]


def _of_pickle(network: Node) -> tuple[Convolutions, list[Tensor]]:
    variables = {name: floats(value) for name, value in _variables(network, set())}
    kernels = {name: value for name, value in variables.items() if value.ndim == 4 and value.shape[:2] == (3, 3)}
    scopes = {name.rpartition("/")[0] for name in kernels}
    convolutions = [(k.permute(3, 2, 0, 1), _bias(variables, name, k.shape[3])) for name, k in kernels.items()]
    if len(convolutions) != len(_PLACES):
        raise ValueError(f"it has {len(convolutions)} convolutions of 3x3, not {len(_PLACES)}")
    wanted = [len(convolutions[i][1]) for i in _TAPPED]
    others = [value for name, value in variables.items() if name.rpartition("/")[0] not in scopes]
    heads = [value for value in others if value.ndim and value.numel() == max(value.shape) and value.numel() in wanted]
    if [head.numel() for head in heads] != wanted or any(bool((head < 0).any()) for head in heads):
        raise ValueError(f"it has no heads of {wanted} numbers, none of them negative")
    return convolutions, heads


def _variables(network: Any, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """(name, value) of a network and of those it is made of, in the order in which they were made."""
    state = tf_state(network)
    if id(network) in seen:
        raise ValueError("a network is part of two others")
    seen.add(id(network))
    for part in entries(state.get("components") or {}).values():
        yield from _variables(part, seen)
    yield from ((str(name), value) for name, value in state["variables"])


def _bias(variables: Mapping[str, Tensor], kernel: str, channels: int) -> Tensor:
    """What is beside a kernel, in the same scope."""
    scope = kernel.rpartition("/")[0]
    beside = [value for name, value in variables.items() if name != kernel and name.rpartition("/")[0] == scope]
    if len(beside) != 1 or beside[0].numel() != channels:
        raise ValueError(f"the kernel {kernel!r} does not have one bias of {channels} numbers")
    return beside[0].flatten()
