"""The training of a StyleGAN2 on few pictures, step by step.

Sources: "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, section 3 and appendix B (non-saturating
loss, lazy R1 and path length); "Training Generative Adversarial Networks with Limited Data", NeurIPS 2020,
section 3 and appendix C (the strength of the augmentation follows the discriminator's certainty about real pictures).

All random numbers of a step depend on the seed and the step's number only, so that a run that continues from its stored
state gives the same result as one without a pause.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from generator_augment import augmented
from generator_networks import Sizes, TrainedDiscriminator, TrainedGenerator, mixed
from torch import Tensor, nn
from torch.nn import functional as F

_RATE, _BETA, _EPS = 0.0025, 0.99, 1e-8
_R1_EVERY, _PATH_EVERY = 16, 8
_R1_PER_PIXEL = 0.001
"""Weight of R1 over pixels per picture, times the batch: a large one, as the pictures are few."""
_PATH_WEIGHT, _PATH_DECAY = 2.0, 0.01
_MIX = 0.9
_CERTAIN, _P_EVERY, _P_IMAGES, _P_MOST = 0.6, 4, 200_000, 0.8
"""Mean sign of the logits of real pictures that p is steered to, steps between two corrections, pictures in which p
could rise from 0 to 1, and its bound, beyond which the changes would be learned."""
_EMA_IMAGES, _EMA_RAMP = 20_000, 0.05
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Recipe:
    """What a run is."""

    size_px: int
    batch: int
    share: float = 1.0
    """Of the channels."""
    seed: int = 0

    @property
    def r1_weight(self) -> float:
        """Weight of the discriminator's squared gradient at real pictures."""
        return _R1_PER_PIXEL * self.size_px**2 / self.batch


class Trainer:
    """The networks and where they are on their way."""

    def __init__(self, recipe: Recipe, faces: Tensor, device: torch.device) -> None:
        """`faces` [N, 3, R, R] uint8, mirror images left out; they are kept on the device."""
        if faces.shape[1:] != (3, recipe.size_px, recipe.size_px):
            raise ValueError(f"faces are {list(faces.shape[1:])}, not {recipe.size_px} px")
        self.recipe, self.device, self.faces = recipe, device, faces.to(device)
        torch.manual_seed(recipe.seed)
        sizes = Sizes.of(recipe.size_px, recipe.share)
        half = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.generator = TrainedGenerator(sizes, half).to(device)
        self.discriminator = TrainedDiscriminator(sizes, half).to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimisers = tuple(
            _optimiser(network, every)
            for network, every in ((self.generator, _PATH_EVERY), (self.discriminator, _R1_EVERY))
        )
        self.step_count, self.p = 0, 0.0
        self.certainty = torch.zeros((), device=device)
        """Sum of the mean signs since p was last corrected."""
        self.path_length = torch.zeros((), device=device)
        self.losses = dict.fromkeys(("generator", "discriminator", "path", "r1"), torch.zeros(()))
        """Of the last time that each was computed."""

    def step(self) -> None:
        """One step of each network."""
        draw = torch.Generator(self.device).manual_seed(self.recipe.seed * _SEED_STRIDE + self.step_count)
        self._train_generator(draw)
        self._train_discriminator(draw)
        self.step_count += 1
        self._follow()
        if self.step_count % _P_EVERY == 0:
            self._correct_p()

    def _train_generator(self, draw: torch.Generator) -> None:
        optimiser = self.optimisers[0]
        _learning(self.generator, self.discriminator)
        pictures, _ = self._generated(self.recipe.batch, draw)
        loss = F.softplus(-self.discriminator(augmented(pictures, self.p, draw))).mean()
        _descend(optimiser, loss)
        self.losses["generator"] = loss.detach()
        if self.step_count % _PATH_EVERY == 0:
            loss = self._path_loss(draw)
            _descend(optimiser, loss * _PATH_EVERY)
            self.losses["path"] = loss.detach()

    def _path_loss(self, draw: torch.Generator) -> Tensor:
        """How unevenly pictures change with their latents."""
        pictures, w_plus = self._generated(max(1, self.recipe.batch // 2), draw)
        noise = torch.randn(pictures.shape, generator=draw, device=self.device) / self.recipe.size_px
        (gradient,) = torch.autograd.grad((pictures * noise).sum(), w_plus, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        self.path_length = torch.lerp(self.path_length, lengths.detach().mean(), _PATH_DECAY)
        return _PATH_WEIGHT * (lengths - self.path_length).square().mean()

    def _train_discriminator(self, draw: torch.Generator) -> None:
        optimiser = self.optimisers[1]
        _learning(self.discriminator, self.generator)
        with torch.no_grad():
            generated, _ = self._generated(self.recipe.batch, draw)
        of_generated = self.discriminator(augmented(generated, self.p, draw))
        real = augmented(self._real(draw), self.p, draw)
        of_real = self.discriminator(real)
        loss = F.softplus(of_generated).mean() + F.softplus(-of_real).mean()
        _descend(optimiser, loss)
        self.losses["discriminator"] = loss.detach()
        self.certainty = self.certainty + of_real.detach().sign().mean()
        if self.step_count % _R1_EVERY == 0:
            real = real.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self.discriminator(real).sum(), real, create_graph=True)
            loss = self.recipe.r1_weight / 2 * gradient.square().sum(dim=(1, 2, 3)).mean()
            _descend(optimiser, loss * _R1_EVERY)
            self.losses["r1"] = loss.detach()

    def _generated(self, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """(pictures, latents) of N random people."""
        z = torch.randn(2 * n, self.generator.z_dim, generator=draw, device=self.device)
        w, other = self.generator.mapping(z).chunk(2)
        w_plus = mixed(w, other, self.generator.num_ws, _MIX, draw)
        return self.generator.synthesis(w_plus, draw), w_plus

    def _real(self, draw: torch.Generator) -> Tensor:
        """[N, 3, R, R], -1..1: random faces, each mirrored or not."""
        n = self.recipe.batch
        picked = torch.randint(len(self.faces), (n,), generator=draw, device=self.device)
        faces = to_pictures(self.faces[picked])
        mirror = torch.rand(n, 1, 1, 1, generator=draw, device=self.device) < 0.5
        return torch.where(mirror, faces.flip(3), faces)

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow the generator, quickly at first."""
        images = min(_EMA_IMAGES, self.step_count * self.recipe.batch * _EMA_RAMP)
        keep = 0.5 ** (self.recipe.batch / max(images, 1e-8))
        for own, other in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            own.lerp_(other, 1 - keep)

    def _correct_p(self) -> None:
        certainty = float(self.certainty) / _P_EVERY
        change = math.copysign(_P_EVERY * self.recipe.batch / _P_IMAGES, certainty - _CERTAIN)
        self.p = min(max(self.p + change, 0.0), _P_MOST)
        self.certainty = torch.zeros_like(self.certainty)

    @torch.no_grad()
    def samples(self, count: int, batch: int = 50) -> Tensor:
        """[N, 3, R, R], -1..1, on the CPU: always the same random people, as the averaged generator makes them."""
        z = torch.randn(count, self.average.z_dim, generator=torch.Generator().manual_seed(1)).to(self.device)
        latents = self.average.mapping(z)[:, None].expand(-1, self.average.num_ws, -1)
        return torch.cat([self.average.synthesis(w).clamp(-1, 1).cpu() for w in latents.split(batch)])

    def networks(self) -> dict[str, Tensor]:
        """Both networks, float16, by the names of `ostec.networks.stylegan2_files`."""
        found = {f"generator.{name}": tensor for name, tensor in self.average.tensors().items()}
        found |= {f"discriminator.{name}": tensor for name, tensor in self.discriminator.tensors().items()}
        return {name: tensor.half() for name, tensor in found.items()}


def to_pictures(faces: Tensor) -> Tensor:
    """uint8 to -1..1."""
    return faces.float() / 127.5 - 1


def _optimiser(network: nn.Module, every: int) -> torch.optim.Adam:
    """Adam whose rate and memory allow for one more step in so many."""
    share = every / (every + 1)
    return torch.optim.Adam(network.parameters(), _RATE * share, (0.0, _BETA**share), _EPS)


def _learning(network: nn.Module, other: nn.Module) -> None:
    network.requires_grad_(True)
    other.requires_grad_(False)


def _descend(optimiser: torch.optim.Adam, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
