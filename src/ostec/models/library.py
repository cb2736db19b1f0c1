"""Weight files that are not part of the package: what each is for, whose it is, and where it lies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from ostec.errors import MissingWeights

_NVIDIA = "NVIDIA Source Code License (non-commercial)"
_NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files"
_NVLABS = "https://nvlabs-fi-cdn.nvidia.com"


@dataclass(frozen=True)
class WeightFile:
    """A file that the package can make use of."""

    name: str
    """What `ostec models get` calls it."""
    file: str
    """What it is called on disk."""
    what: str
    licence: str
    url: str | None
    """None where it cannot be downloaded unasked."""
    how: str = ""
    """How to get it where there is no address."""
    megabytes: int = 0
    """About."""
    sha256: str = ""
    """The checksum, or as much of its beginning as is publicly known."""


GENERATORS = (
    WeightFile(
        "stylegan2-ffhq",
        "stylegan2-ffhq-config-f.pkl",
        "face generator, 1024 px (StyleGAN2, TensorFlow)",
        _NVIDIA,
        f"{_NVLABS}/stylegan2/networks/stylegan2-ffhq-config-f.pkl",
        megabytes=381,
    ),
    WeightFile(
        "stylegan2-ffhq-ada",
        "ffhq.pkl",
        "face generator, 1024 px (StyleGAN2-ADA, PyTorch)",
        _NVIDIA,
        f"{_NVLABS}/stylegan2-ada-pytorch/pretrained/ffhq.pkl",
        megabytes=381,
    ),
    WeightFile(
        "stylegan2-ffhq-1024",
        "stylegan2-ffhq-1024x1024.pkl",
        "face generator, 1024 px",
        _NVIDIA,
        f"{_NGC}/stylegan2-ffhq-1024x1024.pkl",
        megabytes=382,
    ),
    WeightFile(
        "stylegan2-ffhq-512",
        "stylegan2-ffhq-512x512.pkl",
        "face generator, 512 px",
        _NVIDIA,
        f"{_NGC}/stylegan2-ffhq-512x512.pkl",
        megabytes=381,
    ),
    WeightFile(
        "stylegan2-ffhq-256",
        "stylegan2-ffhq-256x256.pkl",
        "face generator, 256 px: fast",
        _NVIDIA,
        f"{_NGC}/stylegan2-ffhq-256x256.pkl",
        megabytes=370,
    ),
    WeightFile(
        "stylegan2-rosinality",
        "stylegan2-ffhq-config-f.pt",
        "face generator, 1024 px (rosinality)",
        _NVIDIA,
        None,
        "Follow the link under 'Pretrained Checkpoints' of https://github.com/rosinality/stylegan2-pytorch",
    ),
    WeightFile(
        "converted",
        "stylegan2-ffhq.safetensors",
        "face generator that `ostec models convert` wrote",
        "that of the original",
        None,
        "ostec models convert FILE stylegan2-ffhq.safetensors",
    ),
)
"""Any of them will do; the first that is there is used."""

JUDGES = (
    WeightFile(
        "arcface",
        "arcface.pth",
        "identity, before MobileFaceNet",
        "InsightFace: non-commercial research",
        None,
        "Save `backbone.pth` of an IResNet from the model zoo of insightface's arcface_torch under this name",
    ),
    WeightFile(
        "vgg16",
        "vgg16-397923af.pth",
        "features and trunk of LPIPS",
        "BSD-3-Clause (torchvision)",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        megabytes=528,
        sha256="397923af",
    ),
    WeightFile(
        "lpips-vgg",
        "lpips_v0.1_vgg.pth",
        "heads of LPIPS",
        "BSD-2-Clause (richzhang/PerceptualSimilarity)",
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    ),
    WeightFile(
        "mobilefacenet",
        "mobilefacenet_arcface.safetensors",
        "identity",
        "Apache-2.0 (foamliu/MobileFaceNet)",
        None,
        "Save the state dict of https://github.com/foamliu/MobileFaceNet as safetensors, with its own names",
    ),
)
ICT_FACEKIT = WeightFile(
    "ict-facekit",
    "ict_face_model.npz",
    "head model ICT-FaceKit, packed",
    "MIT (USC Institute for Creative Technologies)",
    "https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/da5f95a607f5e6b37755b38d3385d7f2853732e5/FaceXModel",
    megabytes=17,
)
PARTS: Mapping[str, tuple[WeightFile, ...]] = {"ict": (ICT_FACEKIT,)}
"""Name of a part -> the files it cannot do without."""
LIBRARY = (*GENERATORS, *JUDGES, *(entry for needed in PARTS.values() for entry in needed))


def weights_folders(weights_dir: Path | None = None) -> tuple[Path, ...]:
    """Where weight files are looked for, in order: the folder given, `OSTEC_WEIGHTS`, the user's data folder."""
    named = os.environ.get("OSTEC_WEIGHTS")
    own = user_data_path("ostec", appauthor=False) / "weights"
    return tuple(folder for folder in (weights_dir, Path(named) if named else None, own) if folder is not None)


def find(file: str, folders: Sequence[Path]) -> Path | None:
    """A file in one of the folders, or in a folder in one of them."""
    for folder in folders:
        for path in sorted([*folder.glob(file), *folder.glob(f"*/{file}")]):
            if path.is_file():
                return path
    return None


def has(part: str, folders: Sequence[Path]) -> bool:
    """Whether all files are there that a part of this name needs."""
    if part == "projection":
        return find_generator(folders) is not None
    return all(find(entry.file, folders) for entry in PARTS[part])


def require(part: str, folders: Sequence[Path]) -> dict[str, Path]:
    """File name -> where it lies, of all that a part needs. Raises `MissingWeights` naming each that is absent."""
    found = {entry.file: find(entry.file, folders) for entry in PARTS[part]}
    absent = [entry for entry in PARTS[part] if found[entry.file] is None]
    if absent:
        each = "; ".join(
            f"{entry.file} ({entry.what}; {entry.licence}): "
            + (f"`ostec models get {entry.name}` downloads it from {entry.url}" if entry.url else entry.how)
            for entry in absent
        )
        raise MissingWeights(f"{part!r} needs files that are not in {', '.join(map(str, folders))}: {each}.")
    return {file: path for file, path in found.items() if path is not None}


def find_generator(folders: Sequence[Path]) -> Path | None:
    """The first face generator that is there."""
    return next((path for entry in GENERATORS if (path := find(entry.file, folders))), None)


def require_generator(folders: Sequence[Path]) -> Path:
    """The same. Raises `MissingWeights` with all that is needed to get one."""
    found = find_generator(folders)
    if found is None:
        first, smallest = GENERATORS[0], GENERATORS[4]
        raise MissingWeights(
            f"the completer 'projection' needs a face generator and none is in {', '.join(map(str, folders))}. "
            f"`ostec models get {first.name}` downloads {first.file} ({first.megabytes} MB) from {first.url}, "
            f"`ostec models get {smallest.name}` a smaller and faster one; licence: {first.licence}. Any file that "
            "`ostec models list` names will do. Without one, `--completer prior` needs no download."
        )
    return found
