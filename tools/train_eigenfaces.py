"""Train a small StyleGAN2 of faces without a GPU.

python tools/train_eigenfaces.py FACES.zip --out RUN [--minutes 60]

FACES.zip is what `tools/generator_views.py` wrote. Run the same command again and it continues from `RUN/state.pt`,
exactly. Every so many steps, RUN gets

    faces.png, samples.png, log.csv    portraits and what is made of them, random people, and figures
    face_generator.safetensors         the network, float16, as the package reads it
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import asdict
from pathlib import Path

import torch
from generator_archive import read_faces, sheet
from generator_eigenfaces import Eigenfaces, Recipe, Stage, Trainer
from generator_portraits import difference, shrunk
from generator_score import features, score
from generator_training import to_pictures
from safetensors.torch import save_file
from torch import Tensor

from ostec.networks.stylegan2 import Generator

STAGES = (
    Stage(16, 600, 0.01),
    Stage(16, 800, 0.02),
    Stage(32, 1000, 0.015),
    Stage(64, 800, 0.008),
    Stage(128, 450, 0.005),
    Stage(64, 1100, 0.008),
    Stage(128, 800, 0.006),
)
NETWORK = "face_generator.safetensors"
_SHOWN, _SCORED, _COLUMNS = 32, 500, 16
_STATE, _LOG = "state.pt", "log.csv"


def save(trainer: Trainer, folder: Path) -> None:
    """Write all that is needed to go on."""
    state = {
        "generator": trainer.generator.state_dict(),
        "average": trainer.average.state_dict(),
        "optimiser": trainer.optimiser.state_dict(),
        "eigenfaces": asdict(trainer.eigenfaces),
        "step_count": trainer.step_count,
    }
    new = folder / f"{_STATE}.new"
    torch.save(state, new)
    new.replace(folder / _STATE)


def resume(trainer: Trainer, folder: Path) -> None:
    """Go on from the state in a folder, where there is one."""
    path = folder / _STATE
    if path.is_file():
        state = torch.load(path, weights_only=True)
        trainer.generator.load_state_dict(state["generator"])
        trainer.average.load_state_dict(state["average"])
        trainer.optimiser.load_state_dict(state["optimiser"])
        trainer.eigenfaces = Eigenfaces(**state["eigenfaces"])
        trainer.step_count = state["step_count"]


@torch.no_grad()
def report(trainer: Trainer, folder: Path) -> dict[str, float]:
    """Write network and pictures; figures."""
    tensors = trainer.tensors()
    halves = {f"generator.{name}": tensor.half() for name, tensor in tensors.items()}
    save_file(halves, folder / NETWORK, {"format": "ostec StyleGAN2"})
    generator, size_px = Generator(tensors), trainer.recipe.stage(trainer.step_count - 1)[0].size_px
    real = to_pictures(trainer.faces[:: max(1, len(trainer.faces) // _SCORED)][:_SCORED])
    shown = real[:: max(1, len(real) // _SHOWN)][:_SHOWN]
    wanted, made = shrunk(shown, size_px), _pictures(generator, trainer.eigenfaces.latents(shown), size_px)
    rows = [t[i : i + _COLUMNS] / 2 + 0.5 for i in range(0, len(shown), _COLUMNS) for t in (wanted, made)]
    sheet(list(torch.cat(rows)), _COLUMNS).save(folder / "faces.png")
    z = torch.randn(len(real), generator.z_dim, generator=torch.Generator().manual_seed(1))
    people = _pictures(generator, generator.mapping(z), size_px)
    sheet(list(people[: 4 * _COLUMNS] / 2 + 0.5), _COLUMNS).save(folder / "samples.png")
    return {
        "step": trainer.step_count,
        "images": trainer.step_count * trainer.recipe.batch,
        "size_px": size_px,
        "loss": round(trainer.loss, 4),
        "shown": round(float(difference(made, wanted)), 4),
        "score": round(score(features(shrunk(real, size_px)), features(people)), 2),
    }


def _pictures(generator: Generator, w: Tensor, size_px: int, batch: int = 50) -> Tensor:
    latents = w[:, None].expand(-1, generator.num_ws, -1).split(batch)
    return torch.cat([generator.synthesis(part, size_px).clamp(-1, 1) for part in latents])


def train(trainer: Trainer, folder: Path, every: int, minutes: float) -> None:
    """Go on to the end, or until the time is up."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    resume(trainer, folder)
    while trainer.step_count < trainer.recipe.steps and time.perf_counter() - start < 60 * minutes:
        trainer.step()
        if trainer.step_count % every == 0 or trainer.step_count == trainer.recipe.steps:
            save(trainer, folder)
            _note(report(trainer, folder), folder / _LOG)
    print(f"{trainer.step_count} of {trainer.recipe.steps} steps")


def _note(row: dict[str, float], log: Path) -> None:
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    fresh = not log.is_file()
    with log.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=int, default=500, help="steps between reports")
    options = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    recipe = Recipe(STAGES)
    train(Trainer(recipe, read_faces(options.faces, recipe.size_px)), options.out, options.every, options.minutes)


if __name__ == "__main__":
    main()
