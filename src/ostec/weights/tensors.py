"""Tensors by name: read from files, checked, given to modules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ostec.errors import BadWeights
from ostec.weights.open import read_stored


def read_weights(path: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors by name of a `.safetensors` file or of what `torch.save` wrote.

    `remedy` ends the message of `MissingWeights` and `BadWeights`.
    """
    tensors = read_stored(path, remedy)
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise BadWeights(f"{path} does not hold tensors by name. {remedy}")
    return {str(name): tensor.detach() for name, tensor in tensors.items()}


def channels_of(tensors: Mapping[str, Tensor], name: str, source: str) -> int:
    """How many channels a layer gives, from its weight [out, ...]. Raises `BadWeights` naming `source`."""
    if name not in tensors:
        raise BadWeights(f"{source} lacks the tensor {name!r}.")
    if tensors[name].ndim == 0 or tensors[name].shape[0] == 0:
        raise BadWeights(f"{source}: the tensor {name!r} is empty.")
    return tensors[name].shape[0]


def require_finite(tensors: Mapping[str, Tensor], source: str, remedy: str = "") -> None:
    """Raises `BadWeights` naming `source` where a tensor holds NaN or infinity, or a variance is negative.

    `remedy` ends the message.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise BadWeights(f"{source}: the tensor {name!r} holds numbers that are not finite. {remedy}".rstrip())
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise BadWeights(f"{source}: the tensor {name!r} holds negative variances. {remedy}".rstrip())


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give a module built on the meta device its parameters, float32, no gradients, evaluation mode.

    `source` is what errors call the tensors. Raises `BadWeights` unless names and shapes match exactly.
    """
    wanted = {name: tuple(p.shape) for name, p in module.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    differing = sorted(n for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n))
    if differing:
        name = differing[0]
        raise BadWeights(
            f"{source} does not hold the weights of {type(module).__name__}: {len(differing)} tensors differ, "
            f"the first is {name!r} (wanted {wanted.get(name)}, found {found.get(name)})."
        )
    module.load_state_dict({n: t.to(torch.float32) for n, t in tensors.items()}, assign=True)
    module.requires_grad_(False).eval()


class Reader:
    """Takes tensors by name, and says what is wrong with them."""

    def __init__(self, tensors: Mapping[str, Tensor], source: str) -> None:
        self._tensors, self._source, self._left = tensors, source, set(tensors)

    def __call__(self, name: str, shape: tuple[int | None, ...], finite: bool = True) -> Tensor:
        """The tensor, float32; `shape` has None where any size will do. Raises `BadWeights`."""
        if name not in self._tensors:
            raise BadWeights(f"{self._source} lacks the tensor {name!r}.")
        tensor = self._tensors[name].detach().float().clone(memory_format=torch.contiguous_format)
        fits = tensor.ndim == len(shape) and all(
            n > 0 and n == (want or n) for n, want in zip(tensor.shape, shape, strict=True)
        )
        if not fits:
            wanted = [want or "any" for want in shape]
            raise BadWeights(f"{self._source}: the tensor {name!r} is {list(tensor.shape)}, not {wanted}.")
        if finite and not bool(torch.isfinite(tensor).all()):
            raise BadWeights(f"{self._source}: the tensor {name!r} holds numbers that are not finite.")
        self._left.discard(name)
        return tensor

    def finish(self) -> None:
        """Raises `BadWeights` if a tensor was not asked for: then the file is of another network."""
        if self._left:
            raise BadWeights(
                f"{self._source} holds tensors that this network has no place for: {sorted(self._left)[:5]}."
            )
