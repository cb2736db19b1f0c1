"""Which files the networks of the projection completer are read from: the one place that decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ostec.landmarks.fan import load_fan
from ostec.networks.face_encoder import load_face_encoder
from ostec.networks.iresnet import load_iresnet
from ostec.networks.iresnet_onnx import load_iresnet_onnx
from ostec.networks.lpips import load_lpips
from ostec.networks.mobilefacenet import load_mobilefacenet
from ostec.networks.stylegan2_files import load_networks
from ostec.original.iresnet_npy import load_iresnet_npy
from ostec.original.lpips_nvidia import load_nvidia_lpips
from ostec.original.style_encoder import load_style_encoder
from ostec.weights import locate
from ostec.weights.catalogue import ENCODER, GENERATORS, LANDMARKS, LIBRARY, SMALL_ENCODER, SMALL_GENERATOR
from ostec.weights.locate import find


@dataclass(frozen=True)
class Source:
    """Files that together hold a network."""

    files: tuple[str, ...]
    read: Callable[..., Any]
    """Takes their paths. Raises `BadWeights`."""


@dataclass(frozen=True)
class Found:
    """A source all of whose files are there."""

    paths: tuple[Path, ...]
    read: Callable[..., Any]

    def load(self) -> Any:
        """What `read` gives. Raises `BadWeights`."""
        return self.read(*self.paths)


_VGG16 = "vgg16-397923af.pth"
LPIPS = (
    Source((_VGG16, "lpips_v0.1_vgg.pth"), load_lpips),
    Source((_VGG16, "lpips_v0.1_vgg.safetensors"), load_lpips),
    Source(("vgg16.pt",), load_nvidia_lpips),
    Source(("vgg16_zhang_perceptual.pkl",), load_nvidia_lpips),
)
"""With a VGG16 as its trunk."""
IDENTITY = (
    Source(("arcface.pth",), load_iresnet),
    Source(("w600k_r50.onnx",), load_iresnet_onnx),
    Source(("buffalo_l.zip",), load_iresnet_onnx),
    Source(("arcface50.npy",), load_iresnet_npy),
    Source(("mobilefacenet_arcface.safetensors",), load_mobilefacenet),
)
NETWORKS: Mapping[str, Sequence[Source]] = {
    "generator": tuple(Source((entry.file,), load_networks) for entry in GENERATORS),
    "identity": IDENTITY,
    "perception": LPIPS,
    "encoder": (Source((ENCODER.file,), load_style_encoder),),
    "heat_maps": tuple(Source((entry.file,), load_fan) for entry in LANDMARKS),
}
"""Network -> where it can come from, best first. Every file is an entry of the catalogue."""


def first_found(sources: Sequence[Source], folders: Sequence[Path]) -> Found | None:
    """The first source all of whose files are there."""
    for source in sources:
        paths = [find(file, folders) for file in source.files]
        present = tuple(path for path in paths if path is not None)
        if len(present) == len(paths):
            return Found(present, source.read)
    return None


def chosen(folders: Sequence[Path]) -> dict[str, Found]:
    """Network -> what it is read from, of those whose files are there, in the folders or in the package.

    The small generator goes with its own encoder, which lies beside it, and with no other.
    """
    found = {name: first_found(sources, (*folders, locate.PACKAGE)) for name, sources in NETWORKS.items()}
    generator = found["generator"]
    if generator is not None and generator.paths[0].name == SMALL_GENERATOR.file:
        own = generator.paths[0].with_name(SMALL_ENCODER.file)
        found["encoder"] = Found((own,), load_face_encoder) if own.is_file() else None
    return {name: source for name, source in found.items() if source is not None}


def licences(folders: Sequence[Path]) -> dict[str, str]:
    """File -> licence, of exactly the files that `chosen` names."""
    known = {entry.file: entry.licence for entry in LIBRARY}
    return {path.name: known[path.name] for source in chosen(folders).values() for path in source.paths}
