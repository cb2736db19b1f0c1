"""Weight files that are not part of the package: what each is for, whose it is, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


SMALL_GENERATOR = WeightFile(
    "small",
    "face_generator.safetensors",
    "generator of heads as the views show them, 128 px",
    "Apache-2.0",
    None,
    "It comes in the package; another goes first: docs/models/face-generator.md",
)
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
    SMALL_GENERATOR,
)
"""Any of them will do; the first that is there is used. The last comes in the package."""
SMALL_ENCODER = WeightFile(
    "small-encoder",
    "face_encoder.safetensors",
    "where the search with the small generator starts; lies beside it",
    "Apache-2.0",
    None,
    "It comes in the package; another goes first: docs/models/face-generator.md",
)

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
ICT_FACEKIT = WeightFile(
    "ict-facekit",
    "ict_face_model.npz",
    "head model ICT-FaceKit, packed",
    "MIT (USC Institute for Creative Technologies)",
    "https://raw.githubusercontent.com/ICT-VGL/ICT-FaceKit/da5f95a607f5e6b37755b38d3385d7f2853732e5/FaceXModel",
    megabytes=17,
)
GRAPHONOMY = WeightFile(
    "graphonomy",
    "inference.pth",
    "human parser Graphonomy, trained on CIHP",
    "not stated; MIT code; trained on pictures of others from the web (CIHP)",
    None,
    "Download the 'CIHP trained model' from https://drive.google.com/file/d/1eUe18HoH05p0yFUd_sN6GXdTj82aW0m9 (the "
    "link of https://github.com/Gaoyiminggithub/Graphonomy) and save it as inference.pth",
    megabytes=167,
)
PARTS: Mapping[str, tuple[WeightFile, ...]] = {
    "ict": (ICT_FACEKIT,),
    "deep3d": (*DEEP3D, *BFM09, *OSTEC_TOPOLOGY),
    "ganfit": OSTEC_TOPOLOGY,
    "file": (),
    "graphonomy": (GRAPHONOMY,),
    "graphonomy-512": (GRAPHONOMY,),
}
"""Name of a part -> the files it cannot do without."""
_NEEDED = tuple(entry for needed in PARTS.values() for entry in needed)
LIBRARY = tuple(dict.fromkeys((*GENERATORS, SMALL_ENCODER, ENCODER, *LANDMARKS, *JUDGES, *_NEEDED)))
