"""Train a small StyleGAN2 of faces, in pieces as short as one likes.

python tools/train_generator.py FACES.zip --out RUN [--minutes 9] [--device cuda]

FACES.zip is what `tools/generator_data.py` wrote. Run the same command again and it continues from `RUN/state` exactly.
Every so many steps, RUN gets

    state/                         pieces of at most 14 MiB; take these to another machine to go on there
    samples.jpg, log.csv           pictures of the same latents, and figures
    face_generator.safetensors     the networks with the best score yet, float16, as the package reads them
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from generator_archive import read_faces, sheet
from generator_score import features, score
from generator_state import resume, save
from generator_training import Recipe, Trainer, to_pictures
from safetensors.torch import save_file
from torch import Tensor

_SCORED, _SHOWN, _SHEET_COLUMNS = 2000, 64, 8
_LAST_SECONDS = 20
"""Kept of a piece's time for its last report."""
NETWORKS = "face_generator.safetensors"
_LOG = "log.csv"


class Reports:
    """What a run says of itself in its folder."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self.trainer, self.folder = trainer, folder
        picked = torch.randperm(len(trainer.faces), generator=torch.Generator().manual_seed(0))[:_SCORED]
        self.count = len(picked)
        self.real = features(to_pictures(trainer.faces[picked.to(trainer.device)].cpu()))
        self.rows = [row for row in self._read() if int(row["step"]) <= trainer.step_count]

    def _read(self) -> list[dict[str, str]]:
        path = self.folder / _LOG
        if not path.is_file():
            return []
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def add(self, seconds: float) -> Mapping[str, str]:
        """Score and show the averaged generator. Raises `SystemExit` where a figure is not finite."""
        trainer = self.trainer
        pictures = trainer.samples(self.count)
        value = score(self.real, features(pictures))
        losses = {name: float(loss) for name, loss in trainer.losses.items()}
        if not all(math.isfinite(x) for x in (value, *losses.values())):
            raise SystemExit(f"step {trainer.step_count}: not finite: {losses}; the state before stays.")
        best = min((float(row["score"]) for row in self.rows), default=math.inf)
        row = {
            "step": str(trainer.step_count),
            "images": str(trainer.step_count * trainer.recipe.batch),
            "score": f"{value:.3f}",
            "p": f"{trainer.p:.3f}",
            **{name: f"{loss:.4f}" for name, loss in losses.items()},
            "seconds": f"{seconds:.0f}",
        }
        self.rows.append(row)
        if value < best:
            save_file(trainer.networks(), self.folder / NETWORKS, {"format": "ostec StyleGAN2"})
        sheet([p / 2 + 0.5 for p in pictures[:_SHOWN]], _SHEET_COLUMNS).save(self.folder / "samples.jpg", quality=92)
        with (self.folder / _LOG).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        return row


def train(trainer: Trainer, folder: Path, faces_sha256: str, steps: int, every: int, minutes: float) -> None:
    """Up to `steps` in all, or until the time is up."""
    folder.mkdir(parents=True, exist_ok=True)
    start, resumed = time.perf_counter(), resume(trainer, folder, faces_sha256)
    first, reports = trainer.step_count, Reports(trainer, folder)
    before = float(reports.rows[-1]["seconds"]) if resumed and reports.rows else 0.0
    end = start + 60 * minutes - _LAST_SECONDS
    while trainer.step_count < steps and (time.perf_counter() < end or trainer.step_count == first):
        trainer.step()
        if trainer.step_count % every == 0 and trainer.step_count < steps:
            _report(trainer, reports, folder, faces_sha256, before + time.perf_counter() - start)
    if trainer.step_count > first:
        _report(trainer, reports, folder, faces_sha256, before + time.perf_counter() - start)
        rate = (trainer.step_count - first) / (time.perf_counter() - start)
        left = steps - trainer.step_count
        print(f"{trainer.step_count} of {steps} steps; {left / rate / 60:.0f} minutes remain at {rate:.1f} steps/s")
    else:
        print(f"{trainer.step_count} of {steps} steps; nothing remains")


def _report(trainer: Trainer, reports: Reports, folder: Path, faces_sha256: str, seconds: float) -> None:
    row = reports.add(seconds)
    save(trainer, folder, faces_sha256)
    print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)


def load(path: Path, size_px: int) -> tuple[Tensor, str]:
    """The faces [N, 3, S, S] uint8 of a file, and its checksum."""
    return read_faces(path, size_px), hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.0, help="of this piece")
    parser.add_argument("--steps", type=int, default=60000, help="of all pieces")
    parser.add_argument("--every", type=int, default=2000, help="steps between reports")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=float, default=1.0, help="share of the channels, for trying things out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args(arguments)
    if options.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    faces, sha256 = load(options.faces, options.size)
    recipe = Recipe(options.size, options.batch, options.channels, options.seed)
    trainer = Trainer(recipe, faces, torch.device(options.device))
    train(trainer, options.out, sha256, options.steps, options.every, options.minutes)


if __name__ == "__main__":
    main()
