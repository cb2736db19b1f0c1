"""The table of all parts: the only place that knows their names. A row per part; to add a part is to add its row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ostec.errors import UnknownComponent
from ostec.weights.catalogue import FILES, WeightFile


@dataclass(frozen=True)
class PartEntry:
    """One part: how it is built, from which files, and whether `auto` may take it."""

    kind: str
    """What it does. A detector, reconstructor, segmenter, completer or rasteriser is chosen by name; the other kinds
    are networks of the completer `projection`, which takes the best of each kind whose files are there."""
    name: str
    factory: str
    """"module:function". It is called with the networks (see `networks`), then the path of each of `files`, then a
    function that finds the paths of `optional`, then `device=` (see `on_device`); each only where the row has it.
    A rasteriser is a plain function, and not called."""
    files: tuple[WeightFile, ...] = ()
    """Files it cannot do without, which users bring or download."""
    shipped: tuple[WeightFile, ...] = ()
    """Files of the package that it reads."""
    optional: tuple[WeightFile, ...] = ()
    """Files that only some photos need."""
    networks: tuple[str, ...] = ()
    """Kinds of networks that it is put together from; the first is required. The factory gets them as a mapping from
    kind to `WeightSource`."""
    on_device: bool = False
    """It can compute on a GPU; the others stay on the CPU."""
    auto: bool = True
    """`auto` may take it. Of several it takes the first whose files are there, in the order of the rows."""
    only_with: str = ""
    """Of a network: the name of the generator that it was trained for. It is looked for beside that one's file."""
    neutral_head: str = ""
    """Of a reconstructor: "module:function" that gives its neutral head as a `Mesh`, from the paths of `files`."""


def _files(*names: str) -> tuple[WeightFile, ...]:
    return tuple(FILES[name] for name in names)


_FACEMESH = _files("facemesh", "facemesh-mirror", "facemesh-topology")
_OSTEC_TOPOLOGY = _files("ostec-triangles", "ostec-uv", "ostec-mask", "ostec-landmarks")
_BFM09 = _files("bfm09", "bfm09-expressions", "bfm09-deviations", "bfm09-trim", "bfm09-front")
_DEEP3D = _files("deep3d", "deep3d-landmarks")
_HEADS, _ORIGINAL, _NETWORKS = "ostec.heads.", "ostec.original.", "ostec.networks."
_STYLEGAN2 = f"{_NETWORKS}stylegan2_files:load_networks"
_LPIPS, _LPIPS_NVIDIA = f"{_NETWORKS}lpips:load_lpips", f"{_ORIGINAL}lpips_nvidia:load_nvidia_lpips"
_FACE_ENCODER = f"{_NETWORKS}face_encoder:load_face_encoder"
_FIT_FILE = f"{_HEADS}npz_fit:FitFileReconstructor"
_PRIOR = "ostec.completion.prior.completer:load_prior_completer"
_GRAPHONOMY = f"{_ORIGINAL}graphonomy_segmenter:load_graphonomy_segmenter"
_SHARP_GRAPHONOMY = f"{_ORIGINAL}graphonomy_segmenter:load_sharp_graphonomy_segmenter"

TABLE = (
    PartEntry("detector", "mediapipe", "ostec.detection.blazeface:load_detector", shipped=_files("blazeface")),
    # Not for auto: it finds fewer of the heads that are tilted or fill the photo.
    PartEntry("detector", "mtcnn", f"{_ORIGINAL}mtcnn:load_mtcnn_detector", shipped=_files("mtcnn"), auto=False),
    PartEntry(
        "reconstructor",
        "ict",
        f"{_HEADS}ict:load_ict_reconstructor",
        _files("ict-facekit"),
        _files("facemesh", "facemesh-mirror", "ict-topology"),
        neutral_head=f"{_HEADS}ict:neutral_head",
    ),
    PartEntry(
        "reconstructor",
        "mediapipe",
        f"{_HEADS}facemesh:load_facemesh_reconstructor",
        shipped=_FACEMESH,
        neutral_head=f"{_HEADS}facemesh:neutral_head",
    ),
    # Not for auto: its mesh is not symmetric, so less of a face can be completed from its other side.
    PartEntry(
        "reconstructor",
        "deep3d",
        f"{_ORIGINAL}deep3d:load_deep3d_reconstructor",
        (*_DEEP3D, *_BFM09, *_OSTEC_TOPOLOGY),
        _FACEMESH,
        on_device=True,
        auto=False,
    ),
    # Not for auto: fits that other programs made.
    PartEntry("reconstructor", "ganfit", f"{_ORIGINAL}ganfit:load_ganfit_reconstructor", _OSTEC_TOPOLOGY, auto=False),
    PartEntry("reconstructor", "file", _FIT_FILE, optional=_OSTEC_TOPOLOGY, auto=False),
    PartEntry("segmenter", "built-in", "ostec.masking.skin:load_segmenter", shipped=_files("selfie-segmentation")),
    # Not for auto: the terms of its weights are not stated, and `inference.pth` may be any network.
    PartEntry("segmenter", "graphonomy", _GRAPHONOMY, _files("graphonomy"), on_device=True, auto=False),
    PartEntry("segmenter", "graphonomy-512", _SHARP_GRAPHONOMY, _files("graphonomy"), on_device=True, auto=False),
    # For auto where somebody put a generator into a folder of weights: the one in the package completes faces about as
    # well as the prior, and slower (docs/models/face-generator.md).
    PartEntry(
        "completer",
        "projection",
        "ostec.registry.projection:load_projection_completer",
        shipped=(*_files("face-prior", "blazeface"), *_FACEMESH),
        networks=("generator", "encoder", "heat_maps", "identity", "perception"),
        on_device=True,
    ),
    PartEntry("completer", "prior", _PRIOR, shipped=_files("face-prior")),
    PartEntry("completer", "mirror", "ostec.completion.mirror:MirrorCompleter", auto=False),
    PartEntry("rasteriser", "cpu", "ostec.geometry.raster:rasterise"),
    PartEntry("generator", "stylegan2-ffhq", _STYLEGAN2, _files("stylegan2-ffhq")),
    PartEntry("generator", "stylegan2-ffhq-ada", _STYLEGAN2, _files("stylegan2-ffhq-ada")),
    PartEntry("generator", "stylegan2-ffhq-1024", _STYLEGAN2, _files("stylegan2-ffhq-1024")),
    PartEntry("generator", "stylegan2-ffhq-512", _STYLEGAN2, _files("stylegan2-ffhq-512")),
    PartEntry("generator", "stylegan2-ffhq-256", _STYLEGAN2, _files("stylegan2-ffhq-256")),
    PartEntry("generator", "stylegan2-rosinality", _STYLEGAN2, _files("stylegan2-rosinality")),
    PartEntry("generator", "converted", _STYLEGAN2, _files("converted")),
    PartEntry("generator", "small", _STYLEGAN2, _files("small")),
    PartEntry("encoder", "small-encoder", _FACE_ENCODER, _files("small-encoder"), only_with="small"),
    PartEntry("encoder", "style-encoder", f"{_ORIGINAL}style_encoder:load_style_encoder", _files("style-encoder")),
    PartEntry("heat_maps", "fan", "ostec.landmarks.fan:load_fan", _files("fan")),
    PartEntry("heat_maps", "fan-torchscript", "ostec.landmarks.fan:load_fan", _files("fan-torchscript")),
    PartEntry("identity", "arcface-torch", f"{_NETWORKS}iresnet:load_iresnet", _files("arcface-torch")),
    PartEntry("identity", "arcface-onnx", f"{_NETWORKS}iresnet_onnx:load_iresnet_onnx", _files("arcface-onnx")),
    PartEntry("identity", "arcface", f"{_NETWORKS}iresnet_onnx:load_iresnet_onnx", _files("arcface")),
    PartEntry("identity", "arcface-npy", f"{_ORIGINAL}iresnet_npy:load_iresnet_npy", _files("arcface-npy")),
    PartEntry("identity", "mobilefacenet", f"{_NETWORKS}mobilefacenet:load_mobilefacenet", _files("mobilefacenet")),
    PartEntry("perception", "lpips-vgg", _LPIPS, _files("vgg16", "lpips-vgg")),
    PartEntry("perception", "lpips-vgg-safetensors", _LPIPS, _files("vgg16", "lpips-vgg-safetensors")),
    PartEntry("perception", "lpips-nvidia", _LPIPS_NVIDIA, _files("lpips-nvidia")),
    PartEntry("perception", "lpips-nvidia-tf", _LPIPS_NVIDIA, _files("lpips-nvidia-tf")),
    # Not for auto but for benchmarks: the search was tuned with a VGG16.
    PartEntry("perception", "lpips-alex", _LPIPS, _files("alexnet", "lpips-alex"), auto=False),
    PartEntry("perception", "lpips-squeeze", _LPIPS, _files("squeezenet", "lpips-squeeze"), auto=False),
)
PART_KINDS = ("detector", "reconstructor", "segmenter", "completer", "rasteriser")
"""The kinds of which the pipeline has one part each."""


def rows(kind: str) -> Iterator[PartEntry]:
    """The rows of one kind, in order."""
    return (entry for entry in TABLE if entry.kind == kind)


def row(kind: str, name: str) -> PartEntry:
    """The row of this kind and name. Raises `UnknownComponent`, which lists the names there are."""
    known: Mapping[str, PartEntry] = {entry.name: entry for entry in rows(kind)}
    if name not in known:
        raise UnknownComponent(f"no {kind} is called {name!r}; there is {', '.join(sorted(known))}.")
    return known[name]


def resolve(where: str) -> Any:
    """What "module:attribute" names; the module is imported now, and not before."""
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)
