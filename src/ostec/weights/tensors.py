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


def size_of(tensors: Mapping[str, Tensor], name: str, source: str, axis: int = 0) -> int:
    """A side of a tensor, by default the channels that a layer gives. Raises `BadWeights` naming `source`."""
    if name not in tensors:
        raise BadWeights(f"{source} lacks the tensor {name!r}.")
    if tensors[name].ndim <= axis or tensors[name].numel() == 0:
        raise BadWeights(f"{source}: the tensor {name!r} is empty, or is {list(tensors[name].shape)}.")
    return tensors[name].shape[axis]


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
    """Give a module built on the meta device copies of its tensors, float32, no gradients, evaluation mode.

    `source` is what errors call the tensors. Raises `BadWeights` unless names and shapes match exactly and all numbers
    are finite.
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
    require_finite(tensors, source)
    copies = {
        n: t.detach().to(torch.float32, memory_format=torch.contiguous_format, copy=True) for n, t in tensors.items()
    }
    module.load_state_dict(copies, assign=True)
    module.requires_grad_(False).eval()
