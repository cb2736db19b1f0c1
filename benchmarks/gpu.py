"""All that is to be measured on a GPU, in ten minutes at most.

python benchmarks/gpu.py [--photos FOLDER] [--generator FILE] [--weights_dir DIR] [--batches 1 2 4 8] [--minutes 10]

In this order: `tests/test_cuda.py`; a step of the generator in float32 and bfloat16 (`benchmarks/generator.py`); steps
of the search, with networks of full size and random weights, at each number of views in a batch, and the peak memory;
seconds per photo by stage (`ostec bench speed`) of the photos or the one in the package, with the generator given,
one of `--weights_dir` or the one in the package. Each result is printed as soon as it is there; when the minutes are
over, the rest is left out and named. The exit code is 1 if something failed or was left out.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from generator import peak_gb, random_weights, wait_for

from ostec.completion.projection.loss import WEIGHTS, Target, ViewLoss
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.search import DEFAULT, search
from ostec.interfaces import LossNetworks
from ostec.landmarks.facemesh_landmarks import load_mesh_landmarks
from ostec.networks.lpips import Lpips
from ostec.weights.shipped import DATA_DIR

_ROOT = Path(__file__).resolve().parent.parent
_VGG16 = dict(
    zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), (64,) * 2 + (128,) * 2 + (256,) * 3 + (512,) * 6, strict=True)
)
"""Layer -> channels."""
_TAPS = (2, 7, 14, 21, 28)


def random_lpips() -> Lpips:
    """LPIPS with VGG16, of full size."""
    trunk, channels = {}, 3
    for layer, width in _VGG16.items():
        trunk[f"features.{layer}.weight"] = torch.randn(width, channels, 3, 3) * (2 / 9 / channels) ** 0.5
        trunk[f"features.{layer}.bias"] = torch.zeros(width)
        channels = width
    return Lpips(trunk, {f"lin{i}.model.1.weight": torch.rand(1, _VGG16[tap], 1, 1) for i, tap in enumerate(_TAPS)})


def measure_search(views: int, resolution: int, steps: int, device: str) -> tuple[float, float]:
    """(median seconds of a step, peak GB) at 256 px, where most steps are."""
    generator = random_weights(resolution).to(device)
    networks = LossNetworks(landmarks=load_mesh_landmarks(device), perception=random_lpips().to(device))
    known = torch.ones(views, 1, resolution, resolution, device=device)
    landmarks_px = torch.rand(views, 68, 2, device=device) * resolution
    target = Target(torch.rand(views, 3, resolution, resolution, device=device), known, landmarks_px)
    loss = ViewLoss(target, networks, generator.w_avg, WEIGHTS)
    start = generator.w_avg.repeat(views, generator.num_ws, 1)
    marks: list[float] = []

    def mark(share: float) -> None:
        wait_for(start.device)
        marks.append(time.perf_counter())

    search(Pyramid(generator.reduced() if device == "cuda" else generator), loss, start, DEFAULT, steps, 0, mark)
    seconds = [after - before for before, after in zip(marks, marks[1:], strict=False)]
    return statistics.median(seconds[-(steps // 3) :]), peak_gb(device)


def search_in_turn(views: int, options: argparse.Namespace) -> None:
    """In this process, one number of views."""
    seconds, gb = measure_search(views, options.resolution, options.steps, options.device)
    print(f"{views} views: {seconds:.4f} s a step, {seconds / views:.4f} s a view and step, {gb:.2f} GB", flush=True)


def commands(options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    """What is run, by name, each in a process of its own."""
    here, device = str(_ROOT / "benchmarks"), ["--device", options.device]
    size = ["--resolution", str(options.resolution), "--steps", str(options.steps)]
    python = [sys.executable]
    found = [("the tests", [*python, "-m", "pytest", "-q", "-rs", str(_ROOT / "tests" / "test_cuda.py")])]
    for batch in sorted({options.batches[0], options.batches[-1]}):
        sizes = ["--resolutions", str(options.resolution), "--batch", str(batch), "--rounds", "1"]
        found.append((f"the generator, batch {batch}", [*python, f"{here}/generator.py", *sizes, *device]))
    for views in options.batches:
        found.append((f"the search, batch {views}", [*python, __file__, "--views", str(views), *size, *device]))
    speed = [*python, "-m", "ostec", "bench", "speed", "--source_dir", str(options.photos), *device]
    speed += ["--completer", "projection"]
    speed += ["--generator", str(options.generator)] if options.generator else []
    speed += ["--weights_dir", str(options.weights_dir)] if options.weights_dir else []
    return [*found, ("seconds per photo", speed)]


def run_all(options: argparse.Namespace) -> Sequence[str]:
    """Run the commands; gives the names of those that failed or were left out."""
    end, missing = time.monotonic() + 60 * options.minutes, []
    for name, command in commands(options):
        print(f"--- {name}", flush=True)
        left_s, start = end - time.monotonic(), time.monotonic()
        try:
            done = left_s > 0 and subprocess.run(command, cwd=_ROOT, timeout=left_s, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            done = False
        if not done:
            missing.append(name)
        print(
            f"--- {name}: {'done' if done else 'failed or out of time'} in {time.monotonic() - start:.0f} s", flush=True
        )
    return missing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=DATA_DIR)
    parser.add_argument("--generator", type=Path, default=None)
    parser.add_argument("--weights_dir", type=Path, default=None)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--views", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.views:
        search_in_turn(options.views, options)
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU here: torch.cuda.is_available() is false", file=sys.stderr)
        return 1
    missing = run_all(options)
    print(f"failed or left out: {', '.join(missing)}" if missing else "all done")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
