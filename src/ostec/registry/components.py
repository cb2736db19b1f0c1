"""The only file that knows parts by name: what there is, what `auto` picks, and how the parts are built."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ostec.errors import BadSettings, MissingWeights, UnknownComponent

if TYPE_CHECKING:
    from ostec.interfaces import Parts
    from ostec.types import Mesh

DETECTORS = {
    "mediapipe": "ostec.detection.blazeface:load_detector",
    "mtcnn": "ostec.original.mtcnn:load_mtcnn_detector",
}
RECONSTRUCTORS = {
    "ict": "ostec.heads.ict:load_ict_reconstructor",
    "mediapipe": "ostec.heads.facemesh:load_facemesh_reconstructor",
    "deep3d": "ostec.original.deep3d:load_deep3d_reconstructor",
    "ganfit": "ostec.original.ganfit:load_ganfit_reconstructor",
    "file": "ostec.heads.npz_fit:load_fit_file_reconstructor",
}
SEGMENTERS = {
    "built-in": "ostec.masking.skin:load_segmenter",
    "graphonomy": "ostec.original.graphonomy_segmenter:load_graphonomy_segmenter",
    "graphonomy-512": "ostec.original.graphonomy_segmenter:load_sharp_graphonomy_segmenter",
}
COMPLETERS = {
    "mirror": "ostec.completion.mirror:MirrorCompleter",
    "prior": "ostec.completion.prior.completer:load_prior_completer",
    "projection": "ostec.registry.projection:load_projection_completer",
}
HEADS = {"mediapipe": "ostec.heads.facemesh:neutral_head", "ict": "ostec.heads.ict:neutral_head"}
"""Name of a reconstructor -> "module:function" that gives its neutral head as a `Mesh`."""
RASTERISERS = {"cpu": "ostec.geometry.raster:rasterise"}
"""Name -> "module:factory"; a rasteriser is a plain function, so there the factory is the part itself."""
NEEDS_WEIGHTS = frozenset(("projection", "ict", "deep3d", "ganfit", "file", "graphonomy", "graphonomy-512"))
"""Whose factory takes (folder with weight files or None, device)."""
AUTO: Mapping[str, tuple[str, ...]] = {
    "detector": ("mediapipe",),
    "reconstructor": ("ict", "mediapipe"),
    "segmenter": ("built-in",),
    "completer": ("projection", "prior"),
    "rasteriser": ("cpu",),
}
"""Of each kind, best first; auto takes the first whose files are there. Fits of others are never taken unasked, nor is
deep3d: its mesh is not symmetric, so less of the face can be completed from its other side; nor graphonomy: nobody says
who may use its weights for what, and any network may lie in a file called `inference.pth`; nor mtcnn: it finds fewer of
the heads that are tilted or fill the photo."""

KINDS: Mapping[str, Mapping[str, str]] = {
    "detector": DETECTORS,
    "reconstructor": RECONSTRUCTORS,
    "segmenter": SEGMENTERS,
    "completer": COMPLETERS,
    "rasteriser": RASTERISERS,
}
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Shipped:
    """A file in `data/` that other people's work went into."""

    file: str
    what: str
    licence: str
    origin: str


_MEDIAPIPE = "Google MediaPipe"
SHIPPED = (
    Shipped("blazeface_back_256.safetensors", "face detector BlazeFace, 256 px", "Apache-2.0", _MEDIAPIPE),
    Shipped("mtcnn.safetensors", "face detector MTCNN", "MIT", "PyPI package mtcnn 1.0.0"),
    Shipped("facemesh.safetensors", "face mesh, 468 points", "Apache-2.0", _MEDIAPIPE),
    Shipped("selfie_segmentation.safetensors", "person mask", "Apache-2.0", _MEDIAPIPE),
    Shipped("face_prior.safetensors", "prior of facial texture", "Apache-2.0", "tools/train_prior.py"),
    Shipped("face_generator.safetensors", "face generator of 128 px", "Apache-2.0", "tools/train_eigenfaces.py"),
    Shipped("face_encoder.safetensors", "where its search starts", "Apache-2.0", "tools/train_encoder.py"),
    Shipped("facemesh_topology.npz", "head mesh", "MIT", "ICT-FaceKit's neutral head, bent"),
    Shipped("ict_topology.npz", "atlas and landmarks of ICT-FaceKit's head", "MIT", "tools/make_ict_topology.py"),
)

DATA = Path(__file__).parent.parent / "data"


@dataclass(frozen=True)
class Choice:
    """Parts picked by name and not yet built."""

    names: Mapping[str, str]
    """Part -> name."""
    statement: str
    """One line for people: what was picked, and what would make it better."""
    device: str = "cpu"
    weights_dir: Path | None = None

    @property
    def licences(self) -> Mapping[str, str]:
        """Weight file -> licence, of all files that the parts use."""
        found = {shipped.file: shipped.licence for shipped in SHIPPED}
        for name in self.names.values():
            if name in NEEDS_WEIGHTS:
                found |= _find("ostec.registry.projection:licences")(name, self.weights_dir)
        return found

    def load(self) -> Parts:
        """Build them. Raises `MissingWeights`, `BadWeights`."""
        from ostec.interfaces import Parts

        return Parts(
            detector=self._build("detector"),
            reconstructor=self._build("reconstructor"),
            segmenter=self._build("segmenter"),
            rasterise=self._build("rasteriser"),
            completer=self._build("completer"),
            writer=_find("ostec.files.results:FileWriter")(),
            names=self.names,
            licences=self.licences,
        )

    def _build(self, kind: str) -> Any:
        return build(kind, self.names[kind], self.weights_dir, self.device)


def choose(
    completer: str = "auto",
    reconstructor: str = "auto",
    device: str = "auto",
    weights_dir: Path | None = None,
    *,
    detector: str = "auto",
    segmenter: str = "auto",
) -> Choice:
    """Pick a part of every kind; "auto" takes the best that can be built here.

    Raises `UnknownComponent`, and `BadSettings` for a device that is not there.
    """
    device = _device(device)
    folders = _find("ostec.weights.locate:weights_folders")(weights_dir)
    has = _find("ostec.weights.locate:has")
    asked = {"completer": completer, "reconstructor": reconstructor, "detector": detector, "segmenter": segmenter}
    names = {}
    for kind, best_first in AUTO.items():
        name = asked.get(kind, "auto")
        there = (known for known in best_first if known not in NEEDS_WEIGHTS or has(known, folders))
        names[kind] = next(there) if name == "auto" else name
        _factory(kind, names[kind])
    searched = (*folders, _find("ostec.weights.locate:PACKAGE")) if names["completer"] == "projection" else folders
    generator = _find("ostec.weights.locate:find_generator")(searched)
    where = "the GPU" if device == "cuda" and names["completer"] in NEEDS_WEIGHTS else "the CPU"
    picked = f"{names['completer']} completion on the {names['reconstructor']} mesh, on {where}"
    return Choice(names, f"{picked}; {_better(names['completer'], generator)}.", device, weights_dir)


def _better(completer: str, generator: Path | None) -> str:
    if completer == "projection":
        return f"generator {generator.name}" if generator else "its generator is missing"
    if generator:
        return f"--completer projection would use {generator.name}"
    return "a face generator would make it better: see ostec models list"


def load_parts(
    completer: str = "auto",
    reconstructor: str = "auto",
    device: str = "auto",
    weights_dir: str | Path | None = None,
    *,
    detector: str = "auto",
    segmenter: str = "auto",
) -> Parts:
    """Pick and build the parts; they serve any number of photos.

    `completer`, `reconstructor`, `detector` and `segmenter` are names in `KINDS` or "auto", `device` is one of
    `DEVICES`. `weights_dir` is a folder with weight files of your own, looked into before the one that `OSTEC_WEIGHTS`
    names and the user's data folder. Raises `UnknownComponent`, `BadSettings`, `MissingWeights`, `BadWeights`.
    """
    if weights_dir is not None and not Path(weights_dir).is_dir():
        raise MissingWeights(f"{weights_dir}: not a folder. Give the folder that holds the weight files.")
    folder = None if weights_dir is None else Path(weights_dir)
    return choose(completer, reconstructor, device, folder, detector=detector, segmenter=segmenter).load()


def demo_photo() -> Path:
    """The bundled photo: the astronaut Eileen Collins, by NASA, public domain."""
    return DATA / "astronaut.jpg"


def build(kind: str, name: str, weights_dir: Path | None = None, device: str = "cpu") -> Any:
    """The part of this kind and name. Raises `UnknownComponent`, `MissingWeights`, `BadWeights`."""
    part = _find(_factory(kind, name))
    if name in NEEDS_WEIGHTS:
        return part(weights_dir, device)
    return part if kind == "rasteriser" else part()


def neutral_head(name: str) -> Mesh:
    """The mesh that a reconstructor bends. Raises `KeyError` for a name that is not in `HEADS`."""
    return _find(HEADS[name])()


def check_shipped() -> dict[str, str]:
    """File -> what is wrong with it, for every file in `data/` that is not what `SHA256SUMS` says."""
    wrong = {}
    for line in (DATA / "SHA256SUMS").read_text().splitlines():
        promised, _, file = line.partition("  ")
        path = DATA / file
        if not path.is_file():
            wrong[file] = f"{path}: missing. Install the package again."
        elif hashlib.sha256(path.read_bytes()).hexdigest() != promised:
            wrong[file] = f"{path}: not the file that was shipped. Install the package again."
    return wrong


def _factory(kind: str, name: str) -> str:
    known = KINDS[kind]
    if name not in known:
        raise UnknownComponent(f"no {kind} is called {name!r}; there is {', '.join(sorted(known))}.")
    return known[name]


def _find(where: str) -> Any:
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)


def _device(device: str) -> str:
    """ "cpu" or "cuda". Raises `BadSettings`."""
    if device not in DEVICES:
        raise BadSettings(f"device is {device!r}; choose {', '.join(DEVICES)}.")
    if device == "cpu":
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise BadSettings("device is 'cuda', but torch sees no CUDA GPU here; choose auto or cpu.")
    return "cpu"
