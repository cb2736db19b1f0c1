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

_BFM_TERMS = "University of Basel: research only, by a form"
_DEEP3D_GIT = (
    "https://raw.githubusercontent.com/sicxu/Deep3DFaceRecon_pytorch/9167c7136aebef0c54d3ac74f4b0396222a491c1/BFM"
)
_OSTEC_GIT = (
    "https://raw.githubusercontent.com/barisgecer/OSTeC/d6f807606d572f81fbfc396f97e4521ed2c0a83d/models/topology"
)
_MIT, _OSTEC = "MIT (sicxu/Deep3DFaceRecon_pytorch)", "CC BY-NC-SA 4.0 (barisgecer/OSTeC)"
BFM09 = (
    WeightFile(
        "bfm09",
        "01_MorphableModel.mat",
        "Basel Face Model 2009: mean and identities",
        _BFM_TERMS,
        None,
        "Fill in the form at https://faces.dmi.unibas.ch/bfm/ for the model of 2009 and take this file out of "
        "`BaselFaceModel.tgz`; the models of 2017 and 2019 (.h5) are other meshes",
        megabytes=240,
    ),
    WeightFile(
        "bfm09-expressions",
        "Exp_Pca.bin",
        "expressions on BFM09",
        "of Guo et al. (Juyong/3DFace): research only",
        None,
        "Download it from https://drive.google.com/file/d/1bw5Xf8C12pWmcMhNEu6PtsYVZkVucEN6 (the link of "
        "https://github.com/Juyong/3DFace)",
        megabytes=51,
    ),
    WeightFile(
        "bfm09-deviations",
        "std_exp.txt",
        "standard deviations of the expressions",
        _MIT,
        f"{_DEEP3D_GIT}/std_exp.txt",
        sha256="4abc20f1cad2471272637d366b511f1a44c2befeeb1353b7fff392ef72ed1203",
    ),
    WeightFile(
        "bfm09-trim",
        "BFM_exp_idx.mat",
        "which vertices of BFM09 have expressions",
        _MIT,
        f"{_DEEP3D_GIT}/BFM_exp_idx.mat",
        sha256="62752a2cab3eea148569fb07e367e03535b4ee04aa71ea1a9aed36486d26c612",
    ),
    WeightFile(
        "bfm09-front",
        "BFM_front_idx.mat",
        "which of those are the front of the face",
        _MIT,
        f"{_DEEP3D_GIT}/BFM_front_idx.mat",
        sha256="7d285dd018563113496127df9c364800183172adb4d3e802f726085dab66b087",
    ),
)
DEEP3D = (
    WeightFile(
        "deep3d",
        "epoch_latest.pth",
        "regressor of Deep3DFaceRecon_pytorch",
        "MIT code; trained on research-only photos",
        None,
        "Download `epoch_latest.pth` from the folder "
        "https://drive.google.com/drive/folders/1liaIxn9smpudjjqMaWWRpP0mXRW_qRPP (the link of "
        "https://github.com/sicxu/Deep3DFaceRecon_pytorch)",
        megabytes=288,
    ),
    WeightFile(
        "deep3d-landmarks",
        "similarity_Lm3D_all.mat",
        "the standard face that photos are cropped to",
        _MIT,
        f"{_DEEP3D_GIT}/similarity_Lm3D_all.mat",
        sha256="53b83ce6e35c50ddc3e97603650cef4970320c157e75c241c844f29c1dcba65a",
    ),
)
OSTEC_TOPOLOGY = (
    WeightFile(
        "ostec-triangles",
        "trilist_full.pkl",
        "triangles of the original's mesh",
        _OSTEC,
        f"{_OSTEC_GIT}/trilist_full.pkl",
        sha256="328efc5af142d97ddb4684a79f75e840f253fe23f895e119880033205315a6fd",
    ),
    WeightFile(
        "ostec-uv",
        "tcoords_alex.pkl",
        "texture coordinates of the original's mesh",
        _OSTEC,
        f"{_OSTEC_GIT}/tcoords_alex.pkl",
        sha256="c8f7e37d38f1f5fa7e167c9a2a09fe60a118564b0188fc28fa5f80510f1b96ed",
    ),
    WeightFile(
        "ostec-mask",
        "mask_full2crop.pkl",
        "face and neck without ears of the original's mesh",
        _OSTEC,
        f"{_OSTEC_GIT}/mask_full2crop.pkl",
        sha256="5fe13fb95be5080b0277ebb99e579c308bd5a8caa2e29bb416a053e2cd37455c",
    ),
    WeightFile(
        "ostec-landmarks",
        "all_all_all_lands_ids.pkl",
        "68 landmarks of the original's mesh",
        _OSTEC,
        f"{_OSTEC_GIT}/all_all_all_lands_ids.pkl",
        sha256="c16c999a4ed9b29a7d3769a5862707408a5d9e679d1473d390f72f83866899e2",
    ),
)
PARTS: Mapping[str, tuple[WeightFile, ...]] = {
    "deep3d": (*DEEP3D, *BFM09, *OSTEC_TOPOLOGY),
    "ganfit": OSTEC_TOPOLOGY,
    "file": (),
}
"""Name of a part -> the files it cannot do without."""
LIBRARY = (*GENERATORS, *JUDGES, *dict.fromkeys(entry for needed in PARTS.values() for entry in needed))


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
