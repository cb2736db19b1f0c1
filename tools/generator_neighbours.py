"""Whether a face generator reproduces faces that it learned from.

python tools/generator_neighbours.py GENERATOR.safetensors FACES.zip --identity mobilefacenet_arcface.safetensors

Embeds generated faces and the faces of FACES.zip (`tools/generator_data.py`) with an identity network, and finds the
most similar real face for each generated one. The real faces give two references: the similarity of each to the most
similar other face, and to a poor copy of itself (mirrored, at half the resolution, with noise). A generated face that
is as similar to a real one as 95 % of the poor copies are counts as reproduced; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from generator_archive import listed, read_faces, sheet
from torch import Tensor, nn
from torch.nn import functional as F

from ostec.landmarks.facemesh_landmarks import load_mesh_landmarks
from ostec.networks.identity import embeddings
from ostec.networks.mobilefacenet import load_mobilefacenet
from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_files import load_generator

_COPY_QUANTILE, _COPY_NOISE = 0.05, 0.03
_SHOWN, _BATCH = 24, 32
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Neighbours:
    """Cosines: higher is more alike."""

    cosine: Tensor
    """[N]: similarity of each generated face to the most similar real one."""
    index: Tensor
    """[N]: which."""
    strangers: Tensor
    """[M]: similarity of each real face to the most similar other one."""
    copies: Tensor
    """[M]: of a real face to a poor copy of it."""

    @property
    def limit(self) -> float:
        """From here on a picture counts as a copy."""
        return float(self.copies.quantile(_COPY_QUANTILE))

    def reproduced(self) -> Tensor:
        """[N] bool."""
        return self.cosine >= self.limit


def compare(generated: Tensor, real: Tensor, mirrored: Tensor, copies: Tensor) -> Neighbours:
    """From embeddings of length 1: [N, E], and [M, E] of real faces, their mirror images and poor copies of them."""
    both = torch.stack([generated @ real.T, generated @ mirrored.T]).amax(dim=0)
    others = (real @ real.T).fill_diagonal_(-1).amax(dim=1)
    return Neighbours(*both.max(dim=1), strangers=others, copies=(real * copies).sum(dim=1))


@torch.no_grad()
def embedded(net: nn.Module, find: nn.Module, pictures: Tensor) -> Tensor:
    """[N, E] of pictures [N, 3, S, S], 0..1."""
    return torch.cat([embeddings(net, part, find(part)) for part in pictures.split(_BATCH)])


@torch.no_grad()
def generated_faces(generator: Generator, count: int, seed: int) -> Tensor:
    """[N, 3, R, R], 0..1."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    latents = generator.mapping(z)[:, None].expand(-1, generator.num_ws, -1)
    return torch.cat([(generator.synthesis(w) / 2 + 0.5).clamp(0, 1) for w in latents.split(_BATCH)])


def poor_copies(pictures: Tensor) -> Tensor:
    """Pictures [N, 3, S, S], 0..1, mirrored, at half the resolution and with noise."""
    halved = F.interpolate(F.avg_pool2d(pictures, 2), pictures.shape[-1], mode="bilinear")
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    return (halved.flip(3) + _COPY_NOISE * noise).clamp(0, 1)


def pairs(generated: Tensor, real: Tensor, found: Neighbours) -> Tensor:
    """The generated faces most similar to real ones, each above its real one: [2 N, 3, S, S] for a sheet of N
    columns."""
    order = found.cosine.argsort(descending=True)[:_SHOWN]
    below = F.interpolate(real[found.index[order]], generated.shape[-1], mode="area")
    return torch.cat([generated[order], below])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--identity", type=Path, required=True)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--sheet", type=Path, default=None)
    options = parser.parse_args(arguments)
    generator = load_generator(options.generator)
    real = read_faces(options.faces, generator.resolution).float() / 255
    made = generated_faces(generator, options.count, seed=2)
    net, find = load_mobilefacenet(options.identity).eval(), load_mesh_landmarks()
    found = compare(*(embedded(net, find, pictures) for pictures in (made, real, real.flip(3), poor_copies(real))))
    for name, values in (
        ("generated to real", found.cosine),
        ("real to another real", found.strangers),
        ("real to a poor copy of itself", found.copies),
    ):
        shares = "  ".join(f"{q:.0%} {float(values.quantile(q)):.3f}" for q in _QUANTILES)
        print(f"{name:30} {shares}")
    count = int(found.reproduced().sum())
    print(f"{count} of {len(made)} generated faces reach {found.limit:.3f} and count as reproduced")
    names = [row["file"] for row in listed(options.faces)]
    for i in found.reproduced().nonzero()[:, 0].tolist():
        print(f"  picture {i}: {names[int(found.index[i])]}, {float(found.cosine[i]):.3f}")
    if options.sheet:
        sheet(list(pairs(made, real, found)), _SHOWN).save(options.sheet)
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
