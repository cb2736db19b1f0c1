"""How soon does the search reach what NVIDIA's projector ends with?

THP_MEM_ALLOC_ENABLE=1 python benchmarks/search.py --reference DIR [--resolution 64] [--reference_steps 1000]
    [--seed 0] [--device cuda]

DIR is a checkout of NVlabs/stylegan2-ada-pytorch. A picture that the generator made (random W+, config F cut to
`--resolution`, random weights) is hidden in half, and both search for it by the log-cosh of the half that is left:
theirs is NVIDIA's generator under its projector's schedule (Adam, 0.1, ramped; noise on the latent; one w for all
layers, and once more with one per layer), ours the default plan. Prints the loss that theirs ends with, and the seconds
that each needed to get there.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from generator import reference_generator, same_weights
from torch import Tensor

from ostec.completion.projection.loss_terms import log_cosh
from ostec.completion.projection.pyramid import Pyramid
from ostec.completion.projection.search import DEFAULT, search
from ostec.networks.stylegan2 import Generator

_RATE, _RISE, _FALL, _NOISE, _NOISE_UNTIL = 0.1, 0.05, 0.25, 0.05, 0.75
"""The projector's schedule: learning rate, shares of the steps in which it rises and falls, noise on the latent."""


def rate_at(share: float) -> float:
    """Learning rate."""
    falling = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - share) / _FALL))
    return _RATE * falling * min(1.0, share / _RISE)


def search_theirs(
    network: torch.nn.Module, image: Tensor, mask: Tensor, start: Tensor, spread: float, steps: int
) -> list[tuple[float, float]]:
    """(seconds so far, loss of the latent itself) by step."""
    w = start.clone().requires_grad_()
    optimiser, found, begin = torch.optim.Adam([w]), [], time.perf_counter()
    for step in range(steps):
        share = step / steps
        for group in optimiser.param_groups:
            group["lr"] = rate_at(share)
        noise = torch.randn_like(w) * spread * _NOISE * max(0.0, 1 - share / _NOISE_UNTIL) ** 2
        layers = (w + noise).expand(-1, network.num_ws, -1)  # pyright: ignore
        picture = network.synthesis(layers, noise_mode="const") / 2 + 0.5  # pyright: ignore
        loss = log_cosh(picture, image, mask).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append((time.perf_counter() - begin, float(loss.detach())))
    return found


def search_ours(
    generator: Generator, image: Tensor, mask: Tensor, start: Tensor, steps: int, seed: int
) -> list[tuple[float, float]]:
    """The same of ours."""
    found: list[tuple[float, float]] = []
    begin = time.perf_counter()

    def loss_function(picture: Tensor, w_plus: Tensor) -> Tensor:
        loss = log_cosh(picture, image, mask)
        found.append((time.perf_counter() - begin, float(loss.detach().sum())))
        return loss

    search(Pyramid(generator), loss_function, start, DEFAULT, steps, seed)
    return found


def best_so_far(found: list[tuple[float, float]]) -> float:
    return min(loss for _, loss in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--reference_steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    network = reference_generator(options.reference, options.resolution).to(options.device)
    generator = same_weights(network)
    draw = torch.Generator().manual_seed(options.seed)
    mean = torch.zeros(1, generator.num_ws, 512, device=options.device)
    with torch.no_grad():
        samples = generator.mapping(torch.randn(1000, 512, generator=draw).to(options.device))
        spread = float((samples - samples.mean(dim=0)).square().sum(dim=1).mean().sqrt())
        mean += samples.mean(dim=0)
        truth = mean + (samples[: generator.num_ws] - samples.mean(dim=0))[None]
        image = generator.synthesis(truth) / 2 + 0.5
    mask = torch.zeros_like(image[:, :1])
    mask[..., : options.resolution // 2] = 1
    ours = search_ours(generator, image, mask, mean, 200, options.seed)
    for name, start in (("one w", mean[:, :1]), ("one w per layer", mean)):
        theirs = search_theirs(network, image, mask, start, spread, options.reference_steps)
        goal = best_so_far(theirs)
        reached = next((seconds for seconds, loss in ours if loss <= goal), math.inf)
        print(f"theirs, {name}: loss {goal:.3f} after {theirs[-1][0]:.0f} s; ours got there in {reached:.1f} s", end="")
        print(f", {reached / theirs[-1][0]:.3f} of the time")
    print(f"ours: loss {best_so_far(ours):.3f} after {ours[-1][0]:.0f} s and {len(ours)} steps")


if __name__ == "__main__":
    main()
