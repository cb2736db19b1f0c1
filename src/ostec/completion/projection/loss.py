"""The loss of the search: which terms, with which weights, and against what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ostec.completion.projection import loss_terms
from ostec.completion.projection.search import shrunk, shrunk_known
from ostec.interfaces import Judges
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
"""The paper's; of landmarks as points, which it does not know, ours: five for 3 % of the picture."""
FRONTAL_IDENTITY_WEIGHT = 100.0
_JUDGED_PX = 256


@dataclass(frozen=True)
class Known:
    """What is known of N pictures that are to be found."""

    image: Tensor
    """[N, 3, R, R], 0..1."""
    trust: Tensor
    """[N, 1, R, R], 1 where the image is known."""
    landmarks_px: Tensor
    """[N, 68, 2]."""
    identity: Tensor | None = None
    """[N, E]: the embedding of the person."""

    @classmethod
    def of(cls, shots: tuple[Shot, ...], identity: Tensor | None, device: torch.device) -> Known:
        """What shots show, on a device."""
        image, trust, landmarks_px = (
            torch.stack(parts).to(device)
            for parts in zip(*((s.image, s.trust[None], s.landmarks_px) for s in shots), strict=True)
        )
        return cls(image, trust, landmarks_px, None if identity is None else identity.expand(len(shots), -1).to(device))

    @classmethod
    def joined(cls, parts: Sequence[Known]) -> Known:
        """Of several faces, one after the other; an identity is known of all or of none."""
        image, trust, landmarks_px = (
            torch.cat(tensors)
            for tensors in zip(*((part.image, part.trust, part.landmarks_px) for part in parts), strict=True)
        )
        people = [part.identity for part in parts if part.identity is not None]
        return cls(image, trust, landmarks_px, torch.cat(people) if people else None)


@dataclass
class Objective:
    """Losses [N] of pictures [N, 3, S, S] of any size of the generator's pyramid, and their latents [N, L, W].

    Pictures larger than 256 px are judged at 256 px, but for the discriminator, which sees only whole ones.
    """

    known: Known
    judges: Judges
    w_avg: Tensor
    weights: Mapping[str, float] = field(default_factory=lambda: WEIGHTS)
    _at_size: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)
    _features: dict[int, Sequence[Tensor]] = field(default_factory=dict, repr=False)

    def __call__(self, pictures: Tensor, w_plus: Tensor) -> Tensor:
        """[N]."""
        terms = self.terms(pictures, w_plus)
        return torch.stack([self.weights[name] * value for name, value in terms.items()]).sum(dim=0)

    def terms(self, pictures: Tensor, w_plus: Tensor) -> dict[str, Tensor]:
        """Each term that can be had, unweighted."""
        judged = shrunk(pictures, min(pictures.shape[-1], _JUDGED_PX))
        size = judged.shape[-1]
        image, trust = self._target(size)
        found = {
            "pixels": loss_terms.log_cosh(judged, image, trust),
            "ms_ssim": loss_terms.ms_ssim_loss(judged, image, trust),
            "latent": loss_terms.latent_penalty(w_plus, self.w_avg),
        }
        judges, known = self.judges, self.known
        if judges.perception is not None:
            seen, wanted = judges.perception.features(judged * trust), self._target_features(size)
            found["features"] = loss_terms.feature_loss(seen[len(seen) // 2], wanted[len(wanted) // 2])
            found["perceptual"] = judges.perception.compare(seen, wanted)
        if judges.discriminator is not None and pictures.shape[-1] == known.image.shape[-1]:
            found["discriminator"] = loss_terms.realism_loss(judges.discriminator, pictures)
        landmarks_px = known.landmarks_px * (size / known.image.shape[-1])
        if judges.heat_maps is not None:
            drawn = judges.heat_maps.drawn(landmarks_px, size)
            found["heat_maps"] = loss_terms.heat_map_loss(judges.heat_maps.seen(judged.clamp(0, 1)), drawn)
        elif judges.landmarks is not None:
            points = judges.landmarks(judged.clamp(0, 1))
            found["landmarks"] = loss_terms.landmark_loss(points, landmarks_px, size)
        if judges.identity is not None and known.identity is not None:
            embedded = judges.identity(judged.clamp(0, 1), landmarks_px)
            found["identity"] = loss_terms.identity_loss(embedded, known.identity)
        return found

    def _target(self, size_px: int) -> tuple[Tensor, Tensor]:
        """The image [N, 3, S, S] and the trust [N, 1, S, S] at a size."""
        if size_px not in self._at_size:
            self._at_size[size_px] = shrunk_known(self.known.image, self.known.trust, size_px)
        return self._at_size[size_px]

    @torch.no_grad()
    def _target_features(self, size_px: int) -> Sequence[Tensor]:
        """What the perceptual network sees in the target of a size."""
        assert self.judges.perception is not None
        if size_px not in self._features:
            image, trust = self._target(size_px)
            self._features[size_px] = self.judges.perception.features(image * trust)
        return self._features[size_px]


def terms_in_use(judges: Judges, whole: bool = True) -> dict[str, str]:
    """Term -> "on", or why it is off; `whole`: the search makes pictures of the generator's full size."""
    networks = {
        "features": judges.perception,
        "perceptual": judges.perception,
        "discriminator": judges.discriminator,
        "landmarks": judges.landmarks,
        "heat_maps": judges.heat_maps,
        "identity": judges.identity,
    }
    state = dict.fromkeys(WEIGHTS, "on")
    state |= {term: "off: its network is not among the weights" for term, net in networks.items() if net is None}
    if judges.heat_maps is not None:
        state["landmarks"] = "off: heat maps take its place"
    if judges.discriminator is not None and not whole:
        state["discriminator"] = "off: it judges whole pictures only, and this search makes smaller ones"
    return state
