"""How long does it take to carry a finished texture over to other meshes?

    python benchmarks/transfer.py SOURCE TARGET [TARGET ...] [--texture_size 1024] [--rounds 5]

SOURCE is an .obj or .glb file with a texture, each TARGET such a file with UVs, or the name of a head. Meshes and
networks are read before; medians over the rounds, after one to warm up. As the machine's measure, each is also given
as a multiple of a 2048 x 2048 matrix product of the same minutes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

from ostec.mesh_transfer.run import source_mesh, target_mesh, transfer
from ostec.registry.components import head_names


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(
    source: tyro.conf.Positional[Path],
    targets: tyro.conf.Positional[tuple[str, ...]],
    texture_size: int = 1024,
    rounds: int = 5,
) -> None:
    """Print seconds for each target."""
    given, matrix = source_mesh(source), torch.randn(2048, 2048)
    for name in targets:
        target = target_mesh(name if name in head_names() else Path(name))
        took, reference = [], []
        for _ in range(rounds + 1):
            took.append(seconds(lambda onto=target: transfer(given, onto, texture_size)))
            reference.append(seconds(lambda: torch.mm(matrix, matrix)))
        taken, measure = statistics.median(took[1:]), statistics.median(reference[1:])
        print(f"{name:40s} {taken:6.2f} s   {taken / measure:6.1f} x reference")


if __name__ == "__main__":
    tyro.cli(main)
