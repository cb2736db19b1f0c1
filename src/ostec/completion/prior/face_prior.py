"""The shipped prior: the Gaussian model, the calibration of its errors, and the head whose chart it uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from ostec.completion.prior.gaussian import FaceGaussian, condition
from ostec.errors import BadWeights, MissingWeights

PRIOR_FILE = Path(__file__).resolve().parents[2] / "data" / "face_prior.safetensors"
_GAUSSIAN = ("domain", "mean", "basis", "light_mean", "light_basis", "spread", "scales", "noise")
_REFERENCE = ("points", "uv", "landmarks")


@dataclass(frozen=True, eq=False)
class ReferenceHead:
    """The head whose UV chart the prior's grid covers."""

    topology: str
    """`Topology.name` of face models that need no correspondence."""
    points: Tensor
    """[N, 3] mean shape, head frame, metres."""
    uv: Tensor
    """[N, 2], 0..1, (0, 0) = top left."""
    landmarks: Tensor
    """[68, 3], iBUG order."""


@dataclass(frozen=True, eq=False)
class FacePrior:
    """A model of what faces look like."""

    gaussian: FaceGaussian
    head: ReferenceHead
    calibration: Tensor
    """[]: the ratio of errors on new faces to the model's own standard deviation."""

    def predict(self, log_rgb: Tensor, seen: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
        """(log colour [3, G, G], standard deviation [G, G] in sRGB 0..1) of a face of which a part is seen.

        `log_rgb` [3, G, G] is read where `seen` [G, G] bool; `normals` [3, G, G], unit, head frame. Zero
        outside the model's domain.
        """
        domain = self.gaussian.domain
        mean, log_std = condition(self.gaussian, log_rgb[:, domain], seen[domain], normals[:, domain].T)
        guess, std = torch.zeros_like(log_rgb), torch.zeros_like(log_rgb[0])
        guess[:, domain] = mean
        std[domain] = mean.exp().mean(dim=0).clamp(max=1) * log_std * self.calibration
        return guess, std


def load_face_prior(path: Path = PRIOR_FILE) -> FacePrior:
    """The prior in a file that `tools/train_prior.py` wrote. Raises `MissingWeights`, `BadWeights`."""
    if not path.is_file():
        raise MissingWeights(f"{path} is missing; it ships with ostec: install the package again.")
    try:
        return face_prior(load(path.read_bytes()))
    except (SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
        raise BadWeights(f"{path} does not hold a face prior ({error}); install the package again.") from error


def face_prior(tensors: Mapping[str, Tensor]) -> FacePrior:
    """The prior from the tensors of its file. Raises `KeyError`, `ValueError`, `RuntimeError` where they are wrong."""
    plain = {name: tensors[f"gaussian.{name}"].float() for name in _GAUSSIAN}
    gaussian = FaceGaussian(**{**plain, "domain": tensors["gaussian.domain"].bool()})
    texels = int(gaussian.domain.sum())
    if gaussian.mean.shape != (3, texels) or gaussian.basis.shape[:2] != (3, texels):
        raise ValueError(f"mean {list(gaussian.mean.shape)} for {texels} texels")
    if not all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors.values()):
        raise ValueError("values that are not finite")
    points = {name: tensors[f"head.{name}"].float() for name in _REFERENCE}
    name = bytes(tensors["head.topology"].tolist()).decode()
    return FacePrior(gaussian, ReferenceHead(name, **points), tensors["calibration"].float())


def save_face_prior(prior: FacePrior, path: Path) -> None:
    """Write the prior in half precision."""
    tensors = {f"gaussian.{name}": getattr(prior.gaussian, name) for name in _GAUSSIAN}
    tensors |= {f"head.{name}": getattr(prior.head, name) for name in _REFERENCE}
    halves = {name: (t if t.dtype == torch.bool else t.half()).contiguous() for name, t in tensors.items()}
    halves |= {f"gaussian.{name}": getattr(prior.gaussian, name) for name in ("noise", "scales")}
    halves["calibration"] = prior.calibration
    halves["head.topology"] = torch.tensor(list(prior.head.topology.encode()), dtype=torch.uint8)
    save_file(halves, path)
