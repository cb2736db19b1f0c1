"""One photo of a face to a complete UV texture on a 3D head mesh. `complete` does all of it."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ostec._version import __version__
from ostec.errors import (
    BadGeometry,
    BadPhoto,
    BadSettings,
    BadWeights,
    Cancelled,
    CannotDownload,
    CannotWrite,
    MissingWeights,
    NoFace,
    OstecError,
    UnknownComponent,
)
from ostec.settings import SearchSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from ostec.interfaces import Parts, Progress
    from ostec.mesh_transfer.result import TransferResult
    from ostec.mesh_transfer.run import transfer
    from ostec.networks.stylegan2_files import load_discriminator, load_generator
    from ostec.registry.components import demo_photo, load_parts
    from ostec.types import Mesh, Photo, Result

__all__ = [
    "BadGeometry",
    "BadPhoto",
    "BadSettings",
    "BadWeights",
    "Cancelled",
    "CannotDownload",
    "CannotWrite",
    "Mesh",
    "MissingWeights",
    "NoFace",
    "OstecError",
    "Parts",
    "Photo",
    "Result",
    "SearchSettings",
    "Settings",
    "TransferResult",
    "UnknownComponent",
    "__version__",
    "complete",
    "demo_photo",
    "load_discriminator",
    "load_generator",
    "load_parts",
    "transfer",
]

_LAZY = {
    "Mesh": "ostec.types",
    "Parts": "ostec.interfaces",
    "Photo": "ostec.types",
    "Result": "ostec.types",
    "TransferResult": "ostec.mesh_transfer.result",
    "demo_photo": "ostec.registry.components",
    "load_discriminator": "ostec.networks.stylegan2_files",
    "load_generator": "ostec.networks.stylegan2_files",
    "load_parts": "ostec.registry.components",
    "transfer": "ostec.mesh_transfer.run",
}
"""Name -> the module it is imported from when first asked for: these need torch."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ostec' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def complete(
    photo: str | Path | Image.Image | np.ndarray | Photo,
    parts: Parts | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Result:
    """Complete the texture of the largest face in a photo.

    `photo` is a path, a PIL image, a uint8 array [H, W, 3] RGB or a `Photo`. Without `parts`, those of `load_parts()`
    are built once and kept for the process. `progress(stage, share)` is called as work goes on, share in 0..1;
    returning False stops it. Raises `BadPhoto`, `NoFace`, `Cancelled`, `MissingWeights`, `BadWeights`.
    """
    from ostec.files.photos import load_photo
    from ostec.pipeline import complete_face, find_faces

    loaded = load_photo(photo)
    parts = parts or _default_parts()
    largest = find_faces(loaded, parts)[0]
    return complete_face(loaded, largest, parts, settings or Settings(), progress)


@lru_cache(maxsize=1)
def _default_parts() -> Parts:
    from ostec.registry.components import load_parts

    return load_parts()
