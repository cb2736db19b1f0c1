"""Files of StyleGAN2 networks, read into the names and scales of `stylegan2` and `stylegan2_discriminator`.

Four layouts: TensorFlow pickles of NVlabs/stylegan2 (`stylegan2_tensorflow`), PyTorch pickles of stylegan2-ada-pytorch
and stylegan3 (`stylegan2_ada`), checkpoints of rosinality/stylegan2-pytorch (`stylegan2_rosinality`), and our own
safetensors, where the two networks' names begin with `generator.` and `discriminator.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ostec.errors import BadWeights
from ostec.networks import stylegan2_ada, stylegan2_rosinality, stylegan2_tensorflow
from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_discriminator import Discriminator
from ostec.weights.open import expecting, read_stored

_GENERATOR, _DISCRIMINATOR = "generator.", "discriminator."
_REMEDY = (
    "Give a StyleGAN2 file: a pickle of NVlabs/stylegan2, stylegan2-ada-pytorch or stylegan3, a checkpoint of "
    "rosinality/stylegan2-pytorch, or what `ostec models convert` wrote."
)


def load_generator(path: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator in a StyleGAN2 file of any public layout; of several, the one with averaged weights.

    Runs nothing that the file holds. Raises `MissingWeights` where there is no file, `BadWeights` where it is no
    such file, or damaged.
    """
    return Generator(_network(_networks(Path(path)), Path(path), _GENERATOR), str(path)).to(device)


def load_discriminator(path: str | Path, device: str | torch.device = "cpu") -> Discriminator:
    """The discriminator in a StyleGAN2 file. Raises as `load_generator`, also where the file holds none."""
    return Discriminator(_network(_networks(Path(path)), Path(path), _DISCRIMINATOR), str(path)).to(device)


def load_networks(path: Path, device: str | torch.device = "cpu") -> tuple[Generator, Discriminator | None]:
    """The generator of a StyleGAN2 file, and the discriminator where one can be had from it; the file is read once.

    Raises as `load_generator`.
    """
    networks = _networks(path)
    generator = Generator(_network(networks, path, _GENERATOR), str(path)).to(device)
    try:
        return generator, Discriminator(_network(networks, path, _DISCRIMINATOR), str(path)).to(device)
    except BadWeights:  # many files hold the generator alone
        return generator, None


def converted(path: Path) -> bytes:
    """The networks of a StyleGAN2 file as safetensors. Raises as `load_generator`."""
    networks = _networks(path)
    for name, kind in ((_GENERATOR, Generator), (_DISCRIMINATOR, Discriminator)):
        if name in networks:
            kind(networks[name], str(path))
    flat = {f"{prefix}{name}": t.contiguous() for prefix, network in networks.items() for name, t in network.items()}
    return save(flat, {"format": "ostec StyleGAN2"})


def _network(networks: Mapping[str, Mapping[str, Tensor]], path: Path, network: str) -> Mapping[str, Tensor]:
    if network not in networks:
        raise BadWeights(f"{path} holds no {network.rstrip('.')}. {_REMEDY}")
    return networks[network]


def _networks(path: Path) -> dict[str, dict[str, Tensor]]:
    stored = read_stored(path, _REMEDY)
    with expecting("as StyleGAN2 files are", path, _REMEDY):
        return _by_layout(stored)


def _by_layout(stored: Any) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    if isinstance(stored, (tuple, list)) and len(stored) == 3:
        found[_GENERATOR] = stylegan2_tensorflow.generator(stored[2])
        found[_DISCRIMINATOR] = stylegan2_tensorflow.discriminator(stored[1])
    elif not isinstance(stored, dict):
        raise ValueError(f"it holds a {type(stored).__name__}")
    elif "G_ema" in stored:
        found[_GENERATOR] = stylegan2_ada.generator(stored["G_ema"])
        if stored.get("D") is not None:
            found[_DISCRIMINATOR] = stylegan2_ada.discriminator(stored["D"])
    elif "g_ema" in stored:
        found[_GENERATOR] = stylegan2_rosinality.generator(stored["g_ema"], stored["latent_avg"])
        if "d" in stored:
            found[_DISCRIMINATOR] = stylegan2_rosinality.discriminator(stored["d"])
    else:
        for name, tensor in stored.items():
            prefix, dot, rest = str(name).partition(".")
            if f"{prefix}{dot}" in (_GENERATOR, _DISCRIMINATOR):
                found.setdefault(f"{prefix}.", {})[rest] = tensor
    if not found:
        raise ValueError(f"it holds {sorted(map(str, stored))[:4]}")
    return found
