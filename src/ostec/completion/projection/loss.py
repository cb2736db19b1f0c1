"""The loss of the search: its terms, their weights, and the target that pictures are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ostec.completion.projection import loss_terms
from ostec.completion.projection.pyramid import downsample, downsample_known
from ostec.interfaces import LossNetworks
from ostec.types import Shot

WEIGHTS: Mapping[str, float] = {
    "pixels": 1.5,
    "features": 0.4,
    "ms_ssim": 200.0,
    "perceptual": 100.0,
    "latent": 0.5,
    "discriminator": 0.5,
    "landmarks": 5000.0,
    "heat_maps": 200.0,
    "identity": 10.0,
}
"""The paper's, but for `landmarks`, which is ours: an error of 3 % of the picture's side costs five."""
FRONTAL_IDENTITY_WEIGHT = 100.0
_COMPARED_PX = 256


@dataclass(frozen=True)
class Target:
    """What is known of the N pictures that are searched for."""

    image: Tensor
    """[N, 3, R, R], 0..1."""
    trust: Tensor
    """[N, 1, R, R], 1 where the image is known."""
    landmarks_px: Tensor
    """[N, 68, 2]."""
    identity: Tensor | None = None
    """[N, E]: the embedding of the person."""

    @classmethod
    def from_shots(cls, shots: tuple[Shot, ...], identity: Tensor | None, device: torch.device) -> Target:
        """What the shots of one person show, on a device; `identity` [1, E]."""
        image, trust, landmarks_px = (
            torch.stack(parts).to(device)
            for parts in zip(*((s.image, s.trust[None], s.landmarks_px) for s in shots), strict=True)
        )
        return cls(image, trust, landmarks_px, None if identity is None else identity.expand(len(shots), -1).to(device))

    @classmethod
    def concatenated(cls, targets: Sequence[Target]) -> Target:
        """One target after the other; either all have an identity or none."""
        image, trust, landmarks_px = (
            torch.cat(tensors) for tensors in zip(*((t.image, t.trust, t.landmarks_px) for t in targets), strict=True)
        )
        identities = [target.identity for target in targets if target.identity is not None]
        return cls(image, trust, landmarks_px, torch.cat(identities) if identities else None)


@dataclass
class ViewLoss:
    """Losses [M] of pictures [M, 3, S, S] of any size of the generator's pyramid, and their latents [M, L, W].

    M is N, the size of the target, or a multiple k N: then k sets of pictures are compared with the N targets in turn.
    Pictures larger than 256 px are compared at 256 px, except by the discriminator, which sees only full resolution.
    """

    target: Target
    networks: LossNetworks
    w_avg: Tensor
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    _at_size: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _features: dict[int, Sequence[Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, pictures: Tensor, w_plus: Tensor) -> Tensor:
        """[M]: the weighted sum of the terms."""
        terms = self.terms(pictures, w_plus)
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum(dim=0)

    def terms(self, pictures: Tensor, w_plus: Tensor) -> dict[str, Tensor]:
        """Name -> unweighted values [M], of each term whose network is there."""
        networks, full_px = self.networks, self.target.image.shape[-1]
        compared = downsample(pictures, min(pictures.shape[-1], _COMPARED_PX))
        size_px, sets = compared.shape[-1], len(pictures) // len(self.target.image)
        image, trust = (_repeated(tensor, sets) for tensor in self._target(size_px))
        values = {
            "pixels": loss_terms.log_cosh(compared, image, trust),
            "ms_ssim": loss_terms.ms_ssim_loss(compared, image, trust),
            "latent": loss_terms.latent_penalty(w_plus, self.w_avg),
        }
        if networks.perception is not None:
            features = networks.perception.features(compared * trust)
            wanted = [_repeated(tensor, sets) for tensor in self._target_features(size_px)]
            values["features"] = loss_terms.feature_loss(features[len(features) // 2], wanted[len(wanted) // 2])
            values["perceptual"] = networks.perception.compare(features, wanted)
        if networks.discriminator is not None and pictures.shape[-1] == full_px:
            values["discriminator"] = loss_terms.realism_loss(networks.discriminator, pictures)
        landmarks_px = _repeated(self.target.landmarks_px, sets) * (size_px / full_px)
        if networks.heat_maps is not None:
            wanted_maps = networks.heat_maps.target(landmarks_px, size_px)
            values["heat_maps"] = loss_terms.heat_map_loss(
                networks.heat_maps.predict(compared.clamp(0, 1)), wanted_maps
            )
        elif networks.landmarks is not None:
            points_px = networks.landmarks(compared.clamp(0, 1))
            values["landmarks"] = loss_terms.landmark_loss(points_px, landmarks_px, size_px)
        if networks.identity is not None and self.target.identity is not None:
            embeddings = networks.identity(compared.clamp(0, 1), landmarks_px)
            values["identity"] = loss_terms.identity_loss(embeddings, _repeated(self.target.identity, sets))
        return values

    def _target(self, size_px: int) -> tuple[Tensor, Tensor]:
        """The target's image [N, 3, S, S] and trust [N, 1, S, S] at a size."""
        if size_px not in self._at_size:
            self._at_size[size_px] = downsample_known(self.target.image, self.target.trust, size_px)
        return self._at_size[size_px]

    @torch.no_grad()
    def _target_features(self, size_px: int) -> Sequence[Tensor]:
        """The perceptual network's features of the target at a size."""
        assert self.networks.perception is not None
        if size_px not in self._features:
            image, trust = self._target(size_px)
            self._features[size_px] = self.networks.perception.features(image * trust)
        return self._features[size_px]


def _repeated(tensor: Tensor, times: int) -> Tensor:
    """[k N, ...]: a tensor [N, ...] k times, one after the other."""
    return tensor if times == 1 else tensor.repeat(times, *[1] * (tensor.ndim - 1))


def terms_in_use(networks: LossNetworks, full_resolution: bool = True) -> dict[str, str]:
    """Term -> "on", or why it is off; `full_resolution`: the search makes pictures of the generator's resolution."""
    needed = {
        "features": networks.perception,
        "perceptual": networks.perception,
        "discriminator": networks.discriminator,
        "landmarks": networks.landmarks,
        "heat_maps": networks.heat_maps,
        "identity": networks.identity,
    }
    state = dict.fromkeys(WEIGHTS, "on")
    state |= {term: "off: its network is not among the weights" for term, network in needed.items() if network is None}
    if networks.heat_maps is not None:
        state["landmarks"] = "off: heat maps take its place"
    if networks.discriminator is not None and not full_resolution:
        state["discriminator"] = "off: it needs pictures of full resolution, and this search makes smaller ones"
    return state
