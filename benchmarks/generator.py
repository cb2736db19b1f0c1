"""How fast is a step of the search: the generator forward and backward to the latent, beside NVIDIA's own code?

python benchmarks/generator.py [--reference DIR] [--resolutions 256 1024] [--batch 1] [--rounds 3] [--device cuda]

DIR is a checkout of NVlabs/stylegan2-ada-pytorch; without it only ours is timed. Both hold the same random weights of
StyleGAN2's config F, and their gradients are compared. They take turns, each time in a process of its own, as either
would run alone: ours with large memory pages, as the command `ostec` asks torch for, theirs as torch is (set
THP_MEM_ALLOC_ENABLE=1 yourself to give them to both and see what remains). Medians, after a warm-up in each process.
Theirs runs as its projector runs it: w is the only leaf that wants a gradient. On a GPU, ours is also timed in
bfloat16, as the search runs it there, and the memory is the GPU's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ostec.networks.stylegan2 import Generator

_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"
_WIDTH = 512
_CHANNEL_BASE, _CHANNEL_MAX = 32768, 512


def reference_generator(checkout: Path, resolution: int) -> torch.nn.Module:
    """NVIDIA's generator, config F, random weights."""
    sys.path.insert(0, str(checkout))
    from training.networks import Generator as Theirs  # pyright: ignore[reportMissingImports]

    torch.manual_seed(0)
    channels = {"channel_base": _CHANNEL_BASE, "channel_max": _CHANNEL_MAX, "num_fp16_res": 0, "conv_clamp": None}
    network = Theirs(_WIDTH, 0, _WIDTH, resolution, 3, {"num_layers": 8}, channels)
    for name, buffer in network.named_buffers():
        if name.endswith("noise_const"):
            buffer.mul_(0.1)
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(1.0)
    return network.eval().requires_grad_(False)


def same_weights(network: torch.nn.Module) -> Generator:
    """Ours, with what theirs holds."""
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    tensors = {"w_avg": state["mapping.w_avg"], "const": state["synthesis.b4.const"], "clamp": torch.tensor(torch.inf)}
    for i in range(8):
        tensors[f"mapping.{i}.weight"] = state[f"mapping.fc{i}.weight"] * 0.01 / _WIDTH**0.5
        tensors[f"mapping.{i}.bias"] = state[f"mapping.fc{i}.bias"] * 0.01
    size = 4
    while f"synthesis.b{size}.conv1.weight" in state:
        for kind, theirs in (("up", "conv0"), ("conv", "conv1"), ("rgb", "torgb"))[size == 4 :]:
            stored, name = f"synthesis.b{size}.{theirs}", f"{size}.{kind}"
            weight = state[f"{stored}.weight"]
            tensors[f"{name}.weight"] = weight / weight[0].numel() ** 0.5 if kind == "rgb" else weight
            tensors[f"{name}.bias"] = state[f"{stored}.bias"]
            tensors[f"{name}.style_weight"] = state[f"{stored}.affine.weight"] / _WIDTH**0.5
            tensors[f"{name}.style_bias"] = state[f"{stored}.affine.bias"]
            if kind != "rgb":
                tensors[f"{name}.noise"] = state[f"{stored}.noise_const"] * state[f"{stored}.noise_strength"]
        size *= 2
    return Generator(tensors)


def random_weights(resolution: int) -> Generator:
    """Config F without a reference."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    tensors = {"w_avg": torch.zeros(_WIDTH), "const": normal(512, 4, 4), "clamp": torch.tensor(torch.inf)}
    size, channels = 4, 512
    while size <= resolution:
        for kind in ("up", "conv", "rgb")[size == 4 :]:
            out, kernel = (3, 1) if kind == "rgb" else (min(_CHANNEL_MAX, _CHANNEL_BASE // size), 3)
            name = f"{size}.{kind}"
            tensors[f"{name}.weight"] = normal(out, channels, kernel, kernel) / (channels * kernel**2) ** 0.5
            tensors[f"{name}.bias"], tensors[f"{name}.style_bias"] = torch.zeros(out), torch.ones(channels)
            tensors[f"{name}.style_weight"] = normal(channels, _WIDTH) / _WIDTH**0.5
            if kind != "rgb":
                tensors[f"{name}.noise"], channels = normal(size, size) * 0.1, out
        size *= 2
    return Generator(tensors)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def peak_gb(device: str) -> float:
    """Most memory so far: of the GPU, or of this process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def step(synthesis: Callable[[Tensor], Tensor], w_plus: Tensor) -> tuple[float, Tensor]:
    """(seconds, gradient) of a picture's mean square."""
    w_plus = w_plus.clone().requires_grad_()
    wait_for(w_plus.device)
    start = time.perf_counter()
    (gradient,) = torch.autograd.grad(synthesis(w_plus).square().mean(), w_plus)
    wait_for(w_plus.device)
    return time.perf_counter() - start, gradient


def runs_of(options: argparse.Namespace, resolution: int) -> tuple[dict[str, Callable[[Tensor], Tensor]], Tensor]:
    """Name -> synthesis, and the latents for them."""
    network = reference_generator(options.reference, resolution) if options.reference else None
    ours = random_weights(resolution) if network is None else same_weights(network)
    ours = ours.to(options.device)
    runs: dict[str, Callable[[Tensor], Tensor]] = {"ours": ours.synthesis}
    if options.device == "cuda":
        runs["ours in bfloat16"] = ours.reduced().synthesis
    if network is not None:
        network = network.to(options.device)
        runs["theirs"] = lambda w: network.synthesis(w, noise_mode="const")  # pyright: ignore[reportCallIssue]
    w_plus = torch.randn(options.batch, ours.num_ws, _WIDTH, generator=torch.Generator().manual_seed(1))
    return runs, w_plus.to(options.device)


def names_of(options: argparse.Namespace) -> list[str]:
    """What is timed."""
    bfloat16 = ["ours in bfloat16"] if options.device == "cuda" else []
    return ["ours", *bfloat16, *(["theirs"] if options.reference else [])]


def alone(name: str, options: argparse.Namespace) -> None:
    """Time one of them in this process."""
    runs, w_plus = runs_of(options, options.resolutions[0])
    seconds = [step(runs[name], w_plus)[0] for _ in range(4)][1:]
    print(json.dumps([seconds, peak_gb(options.device)]))


def in_turn(options: argparse.Namespace, resolution: int) -> dict[str, tuple[float, float]]:
    """Name -> (median seconds, most GB)."""
    times: dict[str, list[float]] = {}
    peaks_gb: dict[str, float] = {}
    for _ in range(options.rounds):
        for name in names_of(options):
            command = [sys.executable, __file__, "--resolutions", str(resolution), "--alone", name]
            command += ["--device", options.device, "--batch", str(options.batch)]
            command += ["--reference", str(options.reference)] if options.reference else []
            environment = {_LARGE_PAGES: "0" if name == "theirs" else "1", **os.environ}
            out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
            seconds, its_peak_gb = json.loads(out.splitlines()[-1])
            times.setdefault(name, []).extend(seconds)
            peaks_gb[name] = max(its_peak_gb, peaks_gb.get(name, 0))
    return {name: (statistics.median(seconds), peaks_gb[name]) for name, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, default=None)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--alone", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        alone(options.alone, options)
        return
    for resolution in options.resolutions:
        found = in_turn(options, resolution)
        print(f"{resolution} px: " + ", ".join(f"{n} {s:.3f} s, {gb:.1f} GB" for n, (s, gb) in found.items()), end="")
        if options.reference:
            runs, w_plus = runs_of(options, resolution)
            ours, theirs = (step(runs[name], w_plus)[1] for name in ("ours", "theirs"))
            off = float((ours - theirs).abs().max() / theirs.abs().max())
            print(f", ratio {found['theirs'][0] / found['ours'][0]:.2f}, gradients differ by {off:.1e}", end="")
        print()


if __name__ == "__main__":
    main()
