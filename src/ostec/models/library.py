"""Weight files that are not part of the package: what each is for, whose it is, and where it lies."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_path

from ostec.errors import MissingWeights

_NVIDIA = "NVIDIA Source Code License (non-commercial)"
_NVIDIA_LPIPS = f"{_NVIDIA}; made of VGG16 (CC BY 4.0) and LPIPS (BSD-2-Clause)"
_LPIPS = "BSD-2-Clause (richzhang/PerceptualSimilarity)"
_INSIGHTFACE = "InsightFace: non-commercial research"
_FAN = "BSD-3-Clause (1adrianb/face-alignment)"
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
    member: str = ""
    """The file that is used, where it is an archive of several."""


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

LANDMARKS = (
    WeightFile(
        "fan",
        "2DFAN4-11f355bf06.pth.tar",
        "heat maps of landmarks",
        _FAN,
        "https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
        megabytes=96,
        sha256="11f355bf06",
    ),
    WeightFile(
        "fan-torchscript",
        "2DFAN4-cd938726ad.zip",
        "the same as TorchScript",
        _FAN,
        "https://www.adrianbulat.com/downloads/python-fan/2DFAN4-cd938726ad.zip",
        megabytes=96,
        sha256="cd938726ad",
    ),
)
"""Either will do; the first that is there is used."""

ENCODER = WeightFile(
    "style-encoder",
    "resnet_18_20191231.h5",
    "where the search starts",
    "not stated; OSTeC, which hands it out, is CC BY-NC-SA 4.0 (non-commercial)",
    None,
    "It is in the archive of models that section 3 of https://github.com/barisgecer/OSTeC links to",
)

JUDGES = (
    WeightFile(
        "arcface-torch",
        "arcface.pth",
        "identity (IResNet, PyTorch)",
        _INSIGHTFACE,
        None,
        "Save `backbone.pth` of an IResNet from the model zoo of insightface's arcface_torch under this name",
    ),
    WeightFile(
        "arcface-onnx",
        "w600k_r50.onnx",
        "identity (IResNet-50, ONNX)",
        _INSIGHTFACE,
        None,
        "It is one of the files in buffalo_l.zip, which serves as it is: ostec models get arcface",
        sha256="4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
    ),
    WeightFile(
        "arcface",
        "buffalo_l.zip",
        "identity (IResNet-50; one of five files in it is used)",
        _INSIGHTFACE,
        "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip",
        megabytes=289,
        sha256="80ffe37d8a5940d59a7384c201a2a38d4741f2f3c51eef46ebb28218a7b0ca2f",
        member="w600k_r50.onnx",
    ),
    WeightFile(
        "arcface-npy",
        "arcface50.npy",
        "identity (LResNet50E-IR, the released OSTeC's)",
        _INSIGHTFACE,
        None,
        "It is among the models that https://github.com/barisgecer/OSTeC links to, in fr_models",
    ),
    WeightFile(
        "mobilefacenet",
        "mobilefacenet_arcface.safetensors",
        "identity, where there is no ArcFace",
        "Apache-2.0 (foamliu/MobileFaceNet)",
        None,
        "Save the state dict of https://github.com/foamliu/MobileFaceNet as safetensors, with its own names",
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
        _LPIPS,
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    ),
    WeightFile(
        "lpips-vgg-safetensors",
        "lpips_v0.1_vgg.safetensors",
        "the same heads",
        _LPIPS,
        None,
        "Save the tensors of lpips_v0.1_vgg.pth as safetensors, with their own names",
    ),
    WeightFile(
        "lpips-nvidia",
        "vgg16.pt",
        "features and LPIPS, trunk and heads in one file (TorchScript)",
        _NVIDIA_LPIPS,
        f"{_NVLABS}/stylegan2-ada-pytorch/pretrained/metrics/vgg16.pt",
        megabytes=553,
        sha256="b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3",
    ),
    WeightFile(
        "lpips-nvidia-tf",
        "vgg16_zhang_perceptual.pkl",
        "features and LPIPS, trunk and heads in one file (TensorFlow)",
        _NVIDIA_LPIPS,
        f"{_NVLABS}/stylegan2-ada/pretrained/metrics/vgg16_zhang_perceptual.pkl",
        megabytes=59,
    ),
)
PARTS: Mapping[str, tuple[WeightFile, ...]] = {}
"""Name of a part -> the files it cannot do without."""
LIBRARY = (*GENERATORS, ENCODER, *LANDMARKS, *JUDGES, *(entry for needed in PARTS.values() for entry in needed))


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
