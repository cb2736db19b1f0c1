"""The whole of a transfer, from what was given to what can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from ostec.files.results import save_transfer
from ostec.interfaces import Detector, Reconstructor
from ostec.mesh_transfer.inputs import read_landmarks, source_mesh, target_mesh
from ostec.mesh_transfer.sheet import draw_transfer
from ostec.mesh_transfer.texture_transfer import detected_pairs, given_pairs, transfer_texture
from ostec.registry.components import build
from ostec.types import Mesh, Result, TransferResult


def transfer(
    source: str | Path | Mesh | Result,
    target: str | Path | Mesh,
    texture_size: int = 1024,
    landmarks: str | Path | None = None,
) -> TransferResult:
    """Carry a texture over to another mesh.

    `source` is a `Result`, or an .obj or .glb file with a texture; `target` is such a file with UVs, with or without a
    texture, in any unit and turned anyhow, or a name in `components.HEADS`. FaceMesh finds the face on both; where it
    cannot, `landmarks` is a text file of points that are the same on both, x y z on the source and x y z on the target
    in each line. Raises `BadGeometry`, `BadPhoto`, `BadSettings`, `NoFace`.
    """
    meshes = source_mesh(source), target_mesh(target)
    if landmarks is not None:
        pairs = given_pairs(read_landmarks(Path(landmarks)))
    else:
        pairs = detected_pairs(*meshes, *_face_finders())
    return transfer_texture(*meshes, pairs, texture_size, _write)


@lru_cache(maxsize=1)
def _face_finders() -> tuple[Detector, Reconstructor]:
    return build("detector", "mediapipe"), build("reconstructor", "mediapipe")


def _write(result: TransferResult, save_dir: Path, name: str) -> Mapping[str, Path]:
    return save_transfer(result, save_dir, name, draw_sheet=draw_transfer)
