"""How long does `ostec run` take on a folder of photos, and how much memory?

python benchmarks/speed.py FOLDER [--limit N] [--completer NAME]

Runs the command as a user would, after one warm-up run (which compiles). Start-up is the wall time of a run in which
every photo is done already. Prints the median seconds per photo, the wall time of the run, its peak memory, and, as
the machine's measure, the median time of a 2048 x 2048 matrix product in the same minutes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ostec.files.photos import find_photos


def run(source_dir: Path, save_dir: Path, completer: str) -> float:
    """Wall seconds of one `ostec run`."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "ostec", "run", "--source_dir", str(source_dir), "--save_dir", str(save_dir)]
    command += ["--completer", completer]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def reference_seconds() -> float:
    """Median seconds of the matrix product."""
    matrix = torch.randn(2048, 2048)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--completer", default="auto")
    options = parser.parse_args()
    photos = find_photos(options.folder, recursive=False)[: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        source, warm, out = (Path(folder) / name for name in ("photos", "warm", "out"))
        source.mkdir()
        for photo in photos:
            (source / photo.name).symlink_to(photo.resolve())
        run(photos[0].resolve(), warm, options.completer)
        before = reference_seconds()
        wall = run(source, out, options.completer)
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        startup = run(source, out, options.completer)
        reference = statistics.median([before, reference_seconds()])
        summary = json.loads((out / "summary.json").read_text())
        totals = [sum(json.loads(p.read_text())["seconds"].values()) for p in out.glob("*.json") if p.stem != "summary"]
    per_photo = statistics.median(totals)
    print(f"{len(photos)} photos, {len(summary['photos'])} in the summary")
    print(f"compute per photo, median   {per_photo:7.2f} s   {per_photo / reference:7.1f} x reference")
    each = wall / len(photos)
    print(f"wall per photo, whole run   {each:7.2f} s   {each / reference:7.1f} x reference")
    print(f"whole run                   {wall:7.1f} s")
    print(f"start-up and skipping all   {startup:7.2f} s")
    print(f"peak memory                 {peak_mb:7.0f} MB")
    print(f"reference: 2048² product    {reference:7.3f} s")


if __name__ == "__main__":
    main()
