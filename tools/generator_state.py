"""The state of a training on disk, in small files, from which the training continues exactly.

Parameters are stored as float16 and squared gradients as bfloat16, half their size while training. After each save the
training continues from the rounded values, so that an interruption changes nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from generator_training import Trainer
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

_PIECE_BYTES = 14 << 20
_STATE, _NEW, _OLD = "state", "state.new", "state.old"


def save(trainer: Trainer, folder: Path, faces_sha256: str) -> None:
    """Write the state, which replaces the previous one when it is complete, and continue from the written values."""
    tensors = {name: tensor.cpu().contiguous() for name, tensor in _stored(trainer).items()}
    pieces: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        size += tensor.nbytes
        if size > _PIECE_BYTES:
            pieces.append({})
            size = tensor.nbytes
        pieces[-1][name] = tensor
    new, current, old = (folder / name for name in (_NEW, _STATE, _OLD))
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    about = {"run": json.dumps({**_about(trainer, faces_sha256), "pieces": len(pieces)})}
    for k, piece in enumerate(pieces):
        save_file(piece, new / f"piece_{k}.safetensors", about)
    shutil.rmtree(old, ignore_errors=True)
    if current.exists():
        current.rename(old)
    new.rename(current)
    shutil.rmtree(old, ignore_errors=True)
    _restore(trainer, tensors)


def resume(trainer: Trainer, folder: Path, faces_sha256: str) -> bool:
    """Go on from the state in a folder; False where there is none.

    Raises `ValueError` where it is of another recipe or other faces, or a piece is missing.
    """
    found = next((folder / name for name in (_STATE, _OLD) if (folder / name).is_dir()), None)
    if found is None:
        return False
    tensors: dict[str, Tensor] = {}
    paths, wanted = sorted(found.glob("piece_*.safetensors")), None
    for path in paths:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["run"])
            wanted = about.pop("pieces")
            if about != _about(trainer, faces_sha256):
                raise ValueError(f"{path} is of another run: {about}, not {_about(trainer, faces_sha256)}.")
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if len(paths) != wanted:
        raise ValueError(f"{found} holds {len(paths)} of {wanted} pieces.")
    _restore(trainer, tensors)
    return True


def _about(trainer: Trainer, faces_sha256: str) -> dict[str, Any]:
    return {**asdict(trainer.recipe), "faces": faces_sha256}


def _networks(trainer: Trainer) -> Mapping[str, nn.Module]:
    return {"generator": trainer.generator, "discriminator": trainer.discriminator, "average": trainer.average}


def _stored(trainer: Trainer) -> dict[str, Tensor]:
    found = {
        f"{network}.{name}": parameter.detach().half()
        for network, module in _networks(trainer).items()
        for name, parameter in module.named_parameters()
    }
    for optimiser, network in zip(trainer.optimisers, ("generator", "discriminator"), strict=True):
        states = [optimiser.state[parameter] for parameter in optimiser.param_groups[0]["params"]]
        found |= {f"{network}.squares.{i}": state["exp_avg_sq"].bfloat16() for i, state in enumerate(states)}
        found[f"{network}.steps"] = torch.tensor([float(state["step"]) for state in states])
    found |= {"certainty": trainer.certainty, "path_length": trainer.path_length}
    return found | {"step_count": torch.tensor(trainer.step_count), "p": torch.tensor(trainer.p, dtype=torch.float64)}


@torch.no_grad()
def _restore(trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
    for network, module in _networks(trainer).items():
        for name, parameter in module.named_parameters():
            parameter.copy_(tensors[f"{network}.{name}"])
    for optimiser, network in zip(trainer.optimisers, ("generator", "discriminator"), strict=True):
        for i, parameter in enumerate(optimiser.param_groups[0]["params"]):
            optimiser.state[parameter] = {
                "step": tensors[f"{network}.steps"][i].clone(),
                # With a first beta of 0 the mean gradient is the last gradient, and is not used again.
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.empty_like(parameter).copy_(tensors[f"{network}.squares.{i}"]),
            }
    trainer.certainty = tensors["certainty"].to(trainer.device, copy=True)
    trainer.path_length = tensors["path_length"].to(trainer.device, copy=True)
    trainer.step_count, trainer.p = int(tensors["step_count"]), float(tensors["p"])
