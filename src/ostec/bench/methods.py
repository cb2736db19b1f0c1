"""Completers by name: those of the registry, and the baselines they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ostec.bench.baselines import MeanFaceCompleter, NearestCompleter, PlainSkinCompleter, TeleaCompleter
from ostec.completion.prior.face_prior import load_face_prior
from ostec.errors import BadSettings, UnknownComponent
from ostec.interfaces import Completer
from ostec.registry.components import build
from ostec.registry.table import rows
from ostec.texture.fill import push_pull


def mean_face() -> MeanFaceCompleter:
    """With the mean of the shipped prior."""
    model = load_face_prior().gaussian
    grid = torch.zeros(3, model.grid_px, model.grid_px)
    grid[:, model.domain] = model.mean
    return MeanFaceCompleter(push_pull(grid, model.domain.float()))


BASELINES: Mapping[str, Callable[[], Completer]] = {
    "mean-face": mean_face,
    "nearest": NearestCompleter,
    "telea": TeleaCompleter,
    "plain-skin": PlainSkinCompleter,
}
"""Name -> what builds it."""


def load_methods(
    names: Sequence[str], weights_dir: Path | None = None, device: str = "cpu", generator: Path | None = None
) -> dict[str, Completer]:
    """The completers by name, in this order, with the weight files of a folder, on a device, with a named generator.

    Raises `UnknownComponent`, `BadSettings` where a name comes twice or none is given, and what building them raises.
    """
    if not names:
        raise BadSettings(f"no method to measure; choose from {', '.join(known_methods())}.")
    if len(set(names)) < len(names):
        raise BadSettings(f"methods are {', '.join(names)}; name each once.")
    for name in names:
        if name not in known_methods():
            raise UnknownComponent(f"no method is called {name!r}; there is {', '.join(known_methods())}.")
    return {
        name: BASELINES[name]() if name in BASELINES else build("completer", name, weights_dir, device, generator)
        for name in names
    }


def known_methods() -> list[str]:
    """Every name that `load_methods` takes."""
    return sorted({*BASELINES, *(entry.name for entry in rows("completer"))})
