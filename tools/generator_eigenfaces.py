"""Trains a generator on a CPU to draw portraits from their principal components.

The generator is a StyleGAN2, but the training is not adversarial, because that takes millions of pictures. Here the
latent of every portrait is known: its principal components ("Eigenfaces for Recognition", 1991), each over its standard
deviation, and the generator learns to reproduce the portrait, coarse pictures before fine ones ("Progressive Growing of
GANs", ICLR 2018), with some noise on the latents, so that similar latents give similar pictures ("From Variational to
Deterministic Autoencoders", ICLR 2020). Latents of faces have mean 0 and covariance 1 by construction: a random person
is a standard normal vector, which needs no mapping network, and whitened latents suit a search ("Improved StyleGAN
Embedding: Where are the Good Latents?", 2020).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from generator_networks import Sizes, TrainedGenerator
from generator_portraits import difference, importance, shrunk, varied
from generator_training import to_pictures
from torch import Tensor

_CHANNELS = {4: 192, 8: 192, 16: 160, 32: 96, 64: 48, 128: 24}
_LATENT, _LATENT_PX, _VARIANTS, _CHUNK = 160, 64, 2, 256
"""Principal components, of pictures of this size; how often each portrait counts, each time varied otherwise."""
_BETAS, _EPS = (0.9, 0.99), 1e-8
_NOISE_STD = 0.1
_EMA_IMAGES, _EMA_RAMP = 1_000, 0.05
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Stage:
    """A part of the training."""

    size_px: int
    steps: int
    rate: float
    """Of Adam, at first; in the second half it falls to 0, without which steps of this size would end in noise."""


@dataclass(frozen=True)
class Recipe:
    """What a run is."""

    stages: tuple[Stage, ...]
    batch: int = 16
    share: float = 1.0
    """Of the channels."""
    seed: int = 0

    @property
    def size_px(self) -> int:
        """Of the pictures, at last."""
        return self.stages[-1].size_px

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> tuple[Stage, float]:
        """The one that a step belongs to, and the rate of that step."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, stage.rate * min(1.0, 2 * (1 - step / stage.steps))
            step -= stage.steps
        return self.stages[-1], 0.0


@dataclass(frozen=True)
class Eigenfaces:
    """Portraits as numbers. The middle of a picture counts most."""

    mean: Tensor
    """[3 P²]."""
    basis: Tensor
    """[3 P², W]."""
    std: Tensor
    """[W]: of each number, over many portraits."""
    size_px: int

    @classmethod
    def of(cls, batches: Iterable[Tensor], count: int, size_px: int, seed: int) -> Eigenfaces:
        """The first `count` principal components of pictures [N, 3, S, S], -1..1."""
        flat = torch.cat([_weighted(batch, size_px) for batch in batches])
        mean = flat.mean(dim=0)
        torch.manual_seed(seed)  # `svd_lowrank` draws from the global generator
        _, size, basis = torch.svd_lowrank(flat - mean, count, niter=4)
        return cls(mean, basis, size / len(flat) ** 0.5, size_px)

    def latents(self, pictures: Tensor) -> Tensor:
        """[N, W] of pictures [N, 3, S, S], -1..1; standard normal, roughly, over portraits."""
        return (_weighted(pictures, self.size_px) - self.mean) @ self.basis / self.std


class Trainer:
    """The generator and where it is on its way."""

    def __init__(self, recipe: Recipe, faces: Tensor) -> None:
        """`faces` [N, 3, R, R] uint8, mirror images left out."""
        self.recipe, self.faces = recipe, faces
        draw = torch.Generator().manual_seed(recipe.seed)
        variants = (varied(to_pictures(part), draw) for part in faces.split(_CHUNK) for _ in range(_VARIANTS))
        latent = max(8, round(_LATENT * recipe.share))
        self.eigenfaces = Eigenfaces.of(variants, latent, min(_LATENT_PX, recipe.size_px), recipe.seed)
        channels = {px: max(8, round(c * recipe.share)) for px, c in _CHANNELS.items() if px <= recipe.size_px}
        torch.manual_seed(recipe.seed)
        self.generator = TrainedGenerator(Sizes(recipe.size_px, latent, channels, {}, 0))
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.optimiser = torch.optim.Adam(self.generator.parameters(), 1.0, _BETAS, _EPS)
        self.step_count, self.loss = 0, 0.0

    def step(self) -> None:
        """One step: a few pictures given back."""
        recipe = self.recipe
        stage, rate = recipe.stage(self.step_count)
        draw = torch.Generator().manual_seed(recipe.seed * _SEED_STRIDE + self.step_count)
        picked = torch.randint(len(self.faces), (recipe.batch,), generator=draw)
        wanted = varied(to_pictures(self.faces[picked]), draw)
        w = self.eigenfaces.latents(wanted)
        w = w + _NOISE_STD * torch.randn(w.shape, generator=draw)
        w_plus = w[:, None].expand(-1, self.generator.num_ws, -1)
        loss = difference(self.generator.synthesis(w_plus, size_px=stage.size_px), shrunk(wanted, stage.size_px))
        self.optimiser.param_groups[0]["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.loss = float(loss.detach())
        self.step_count += 1
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        images = min(_EMA_IMAGES, self.step_count * self.recipe.batch * _EMA_RAMP)
        keep = 0.5 ** (self.recipe.batch / images)
        for own, other in zip(self.average.parameters(), self.generator.parameters(), strict=True):
            own.lerp_(other, 1 - keep)

    def tensors(self) -> dict[str, Tensor]:
        """What `ostec.networks.stylegan2.Generator` is made of: the average, with random inputs for latents."""
        own = {name: t for name, t in self.average.tensors(1).items() if not name.startswith("mapping.")}
        return own | {"w_avg": torch.zeros_like(own["w_avg"])}


def _weighted(pictures: Tensor, size_px: int) -> Tensor:
    return (shrunk(pictures, size_px) * importance(size_px).sqrt()).flatten(1)
