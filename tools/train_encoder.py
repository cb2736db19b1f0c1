"""Train the encoder of a face generator: from a picture to the latents at which its search starts.

python tools/train_encoder.py GENERATOR.safetensors FACES.zip --out face_encoder.safetensors [--device cuda]

First its linear part: least squares from pictures that the generator made to their latents. Then the rest: half of
every batch are such pictures, the other half the faces of FACES.zip (`tools/generator_views.py`), whose latents are
only known through the generator's picture of the guess. Many are damaged like a view at the start of a search, and the
guess is compared with the complete picture.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from generator_archive import read_faces
from generator_networks import mixed
from generator_portraits import damaged, shrunk
from generator_training import to_pictures
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from ostec.networks.face_encoder import FaceEncoder
from ostec.networks.stylegan2 import Generator
from ostec.networks.stylegan2_files import load_generator

_CHANNELS = {64: 64, 32: 96, 16: 128, 8: 192, 4: 256}
_DENSE = 224
_RATE, _OUT_SCALE = 1e-3, 0.1
_MIX = 0.5
_LATENT_WEIGHT, _PICTURE_WEIGHT, _NEAR_WEIGHT = 1.0, 2.0, 0.02
"""Weights of three errors: the latents of generated pictures; the generator's picture of the guess; the distance of
guesses for real faces from the mean latent, over the deviation of latents."""
_LATENTS, _LINEAR_PX, _CHUNK, _DAMPING = 4096, 32, 64, 0.01
_SEED_STRIDE = 1_000_003


def new_encoder(generator: Generator, share: float, seed: int, samples: int = _LATENTS) -> FaceEncoder:
    """An encoder for a generator: its linear part is solved from `samples` pictures, its network is not trained yet.

    `share` scales the number of channels, for small trials.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int, gain: float = math.sqrt(2)) -> Tensor:
        return torch.randn(shape, generator=draw) * (gain / math.sqrt(math.prod(shape[1:])))

    w = _latents(generator, _LATENTS, torch.Generator().manual_seed(seed))
    widths = [max(8, round(_CHANNELS[px] * share)) for px in _CHANNELS if px <= generator.resolution]
    tensors = {"w_avg": generator.w_avg.cpu(), "w_std": w.std(dim=0).cpu().clamp(min=1e-3)}
    tensors |= linear_part(generator, tensors["w_std"], samples, seed)
    tensors |= {"first.weight": normal(widths[0], 3, 3, 3), "first.bias": torch.zeros(widths[0])}
    for k, (own, smaller) in enumerate(zip(widths, widths[1:], strict=False)):
        tensors |= {f"{k}.conv.weight": normal(own, own, 3, 3), f"{k}.conv.bias": torch.zeros(own)}
        tensors |= {f"{k}.down.weight": normal(smaller, own, 3, 3, gain=0.5), f"{k}.down.bias": torch.zeros(smaller)}
        tensors[f"{k}.skip.weight"] = normal(smaller, own, 1, 1, gain=1.0)
    dense = max(8, round(_DENSE * share))
    tensors |= {"dense.weight": normal(dense, 16 * widths[-1]), "dense.bias": torch.zeros(dense)}
    out = normal(generator.num_ws * len(tensors["w_avg"]), dense, gain=_OUT_SCALE)
    tensors["out.weight"] = out.unflatten(0, (generator.num_ws, -1))
    return FaceEncoder(tensors).requires_grad_()


@torch.no_grad()
def linear_part(generator: Generator, w_std: Tensor, samples: int, seed: int) -> dict[str, Tensor]:
    """`linear.weight` and `linear.bias` of the encoder: least squares, under a little damping, from pictures that the
    generator made of random latents, many of them damaged, to what the latents are over `w_std` [W]."""
    size_px, draw = min(generator.resolution, _LINEAR_PX), torch.Generator(generator.w_avg.device).manual_seed(seed)
    pixels, wanted = [], []
    for w in _latents(generator, samples, draw).split(_CHUNK):
        made = generator.synthesis(w[:, None].expand(-1, generator.num_ws, -1), min(generator.resolution, 2 * size_px))
        for pictures in (made.clamp(-1, 1), damaged(made.clamp(-1, 1), draw)):
            pixels.append(shrunk(pictures, size_px).flatten(1).cpu())
            wanted.append(((w - generator.w_avg) / w_std.to(w)).cpu())
    x, y = torch.cat(pixels).double(), torch.cat(wanted).double()
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    square = (x - mean_x).T @ (x - mean_x)
    square.diagonal().add_(_DAMPING * float(square.diagonal().mean()))
    weight = torch.linalg.solve(square, (x - mean_x).T @ (y - mean_y)).T
    return {"linear.weight": weight.float(), "linear.bias": (mean_y - weight @ mean_x).float()}


def train(
    encoder: FaceEncoder, generator: Generator, faces: Tensor, steps: int, batch: int, seed: int = 0, every: int = 500
) -> list[float]:
    """Train in place on faces [N, 3, R, R] uint8; the losses by step. The same seed gives the same bits on one CPU."""
    device = generator.w_avg.device
    generator.requires_grad_(False)
    taught = [p for name, p in encoder.named_parameters() if name not in ("w_avg", "w_std")]
    optimiser = torch.optim.Adam(taught, _RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses: list[Tensor] = []
    for step in range(steps):
        draw = torch.Generator(device).manual_seed(seed * _SEED_STRIDE + step)
        loss = _loss(encoder, generator, faces, batch, draw)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
        if (step + 1) % every == 0:
            print(f"step {step + 1} of {steps}: loss {float(torch.stack(losses[-every:]).mean()):.4f}", flush=True)
    return torch.stack(losses).tolist()


def _loss(encoder: FaceEncoder, generator: Generator, faces: Tensor, batch: int, draw: torch.Generator) -> Tensor:
    size_px = min(generator.resolution, max(_CHANNELS))
    with torch.no_grad():
        w, other = _latents(generator, batch, draw).chunk(2)
        known = mixed(w, other, generator.num_ws, _MIX, draw)
        made = generator.synthesis(known, size_px).clamp(-1, 1)
        picked = torch.randint(len(faces), (len(made),), generator=draw, device=made.device)
        mirror = torch.rand(len(made), 1, 1, 1, generator=draw, device=made.device) < 0.5
        real = shrunk(to_pictures(faces[picked]), size_px)
        pictures = torch.cat([made, torch.where(mirror, real.flip(3), real)])
    guess = encoder(damaged(pictures, draw) / 2 + 0.5)
    w_avg, w_std = encoder.get_parameter("w_avg").detach(), encoder.get_parameter("w_std").detach()
    of_latents = ((guess[: len(made)] - known) / w_std).square().mean()
    near = ((guess[len(made) :] - w_avg) / w_std).square().mean()
    difference = picture_loss(generator.synthesis(guess, size_px), pictures).mean()
    return _LATENT_WEIGHT * of_latents + _PICTURE_WEIGHT * difference + _NEAR_WEIGHT * near


def picture_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """[N]: mean absolute difference of pictures [N, 3, S, S], at this and three smaller sizes."""
    losses = []
    for _ in range(4):
        losses.append((made - wanted).abs().mean(dim=(1, 2, 3)))
        made, wanted = F.avg_pool2d(made, 2), F.avg_pool2d(wanted, 2)
    return torch.stack(losses).sum(dim=0)


def _latents(generator: Generator, count: int, draw: torch.Generator) -> Tensor:
    z = torch.randn(count, generator.z_dim, generator=draw, device=draw.device)
    return generator.mapping(z.to(generator.w_avg))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=float, default=1.0, help="share of the channels, for trying things out")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    generator = load_generator(options.generator, options.device)
    faces = read_faces(options.faces, generator.resolution).to(options.device)
    encoder = new_encoder(generator, options.channels, seed=0).to(options.device)
    train(encoder, generator, faces, options.steps, options.batch)
    tensors = {name: t.detach().half().cpu().contiguous() for name, t in encoder.state_dict().items()}
    save_file(tensors, options.out, {"format": "ostec face encoder"})
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {(time.perf_counter() - start) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
