"""What a transfer gives, and the files that it is saved as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.files.glb import encode_glb
from ostec.files.obj import encode_obj, with_material
from ostec.files.photos import encode_png, encode_sheet
from ostec.files.results import Files, check_name, obj_files, printable, write_files
from ostec.files.sheet import PAPER, TURNS_DEG, shrunk
from ostec.geometry.camera import rotation
from ostec.geometry.raster import rasterise
from ostec.geometry.render import render
from ostec.types import Camera, Mesh, Shape

_TILE_PX, _TILE_M, _OVERSAMPLED = 256, 0.3, 2
_FILLED_IN = torch.tensor([0.85, 0.2, 0.85])[:, None, None]


@dataclass(frozen=True)
class TransferResult:
    """A texture carried over to another mesh."""

    source: Mesh
    target: Mesh
    """With its new texture `rgb`, otherwise unchanged."""
    upright_source: Tensor
    """[V, 3]: the source's vertices in the head frame, metres, estimated."""
    upright_target: Tensor
    """[V, 3]: the same for the target."""
    coverage: Tensor
    """[Hu, Wu] bool: the texel has a counterpart on the source; the others are filled in."""
    fitted: Tensor
    """[V, 3]: the target's vertices, registered non-rigidly to `upright_source`."""

    @property
    def rgb(self) -> Tensor:
        """[3, Hu, Wu], sRGB 0..1: the source's texture in the target's UV layout."""
        assert self.target.rgb is not None
        return self.target.rgb

    def save(self, save_dir: str | Path, name: str | None = None) -> Mapping[str, Path]:
        """Write the files and give their paths by kind: png, coverage, obj, mtl, glb, sheet.

        The mesh is the target's own, in its axes and unit; an OBJ keeps its polygons. `name` defaults to
        SOURCE_on_TARGET. Raises `CannotWrite`. A file is never left half written.
        """
        name = name or "_on_".join(Path(mesh.name).stem for mesh in (self.source, self.target))
        check_name(name)
        texture_png, own = encode_png(self.rgb), Path(self.target.name)
        if own.suffix.lower() == ".obj" and own.is_file():
            obj = with_material(own.read_bytes(), f"{name}.mtl")
        else:
            obj = encode_obj(self.target.shape, f"{name}.mtl")
        files: Files = {
            "png": (f"{name}.png", texture_png),
            "coverage": (f"{name}_coverage.png", encode_png(self.coverage.float().expand(3, -1, -1))),
            **obj_files(name, obj),
            "glb": (f"{name}.glb", encode_glb(self.target.shape, texture_png, printable(name))),
            "sheet": (f"{name}_sheet.jpg", encode_sheet(_draw_sheet(self))),
        }
        return write_files(files, Path(save_dir))


def _draw_sheet(result: TransferResult) -> list[list[tuple[str, Tensor]]]:
    """Rows of captioned tiles: the source, the target, which parts of it have a counterpart, the textures."""
    source = Shape(result.upright_source, result.source.shape.topology)
    target = Shape(result.upright_target, result.target.shape.topology)
    on = result.upright_source[source.topology.faces.flatten()]
    centre = (on.amin(dim=0) + on.amax(dim=0)) / 2
    marked = torch.where(result.coverage, result.rgb, 0.5 * result.rgb + 0.5 * _FILLED_IN)
    assert result.source.rgb is not None
    own, new, filled = (source, result.source.rgb), (target, result.rgb), (target, marked)
    heads = {"source": own, "target": new, "pink: filled in": filled}
    textures = {"texture of the source": own, "texture on the target": new, "pink: filled in": filled}
    rows = [_turned(name, head, rgb, centre) for name, (head, rgb) in heads.items()]
    return [*rows, [(name, _tile(rgb)) for name, (_, rgb) in textures.items()]]


def _turned(name: str, head: Shape, rgb: Tensor, centre: Tensor) -> list[tuple[str, Tensor]]:
    size_px = _TILE_PX * _OVERSAMPLED
    K = torch.tensor([[size_px / _TILE_M, 0, size_px / 2], [0, size_px / _TILE_M, size_px / 2], [0, 0, 1]])
    row = []
    for caption, yaw_deg in TURNS_DEG.items():
        R = rotation(0.0, yaw_deg, 0.0)
        t = torch.tensor([0.0, 0.0, 1.0]) - R @ centre
        image, covered = render(head, rgb, Camera(K, R, t, (size_px, size_px), "orthographic"), rasterise)
        row.append((f"{name}, {caption}", F.avg_pool2d(image + PAPER * ~covered, _OVERSAMPLED)))
    return row


def _tile(texture: Tensor) -> Tensor:
    height, width = texture.shape[1:]
    return shrunk(texture, (_TILE_PX * 2, max(1, round(_TILE_PX * 2 * width / height))))
