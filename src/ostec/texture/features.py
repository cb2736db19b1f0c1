"""Eyes, teeth and the inside of the mouth: the photo's colours where it shows them, plausible ones elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ostec.geometry.camera import to_camera, to_clip, to_pixels, toward_camera, zoomed
from ostec.geometry.raster import interpolate
from ostec.geometry.sampling import pixels_inside, warp
from ostec.interfaces import Rasteriser
from ostec.texture.eyes import painted_eyes
from ostec.texture.fill import push_pull
from ostec.texture.unwrap import TRUSTED, skin_at
from ostec.types import Face, FacePart, Texels, Topology, UVTexture

TEETH = torch.tensor([0.84, 0.80, 0.72])
GUMS = torch.tensor([0.66, 0.38, 0.36])
MOUTH = torch.tensor([0.50, 0.24, 0.22])
"""sRGB colours, chosen by eye, under a light in which light skin has the luminance `SKIN`."""
SKIN = 0.62
_SOCKET_TINT = torch.tensor([0.98, 0.84, 0.82])
"""Colour of the wet rims of the lids relative to the skin around them."""
_INTO_THE_DARK_M = 0.05
"""Distance from the lips at which the light inside the mouth has dropped to a third."""
_WINDOW_PX = 448
_LIP_GAP_M = 0.002
_TOLERANCE_M = 0.003
_EDGE_PX = 0.9
"""Width in photo pixels of the edges between lid and eyeball, lip and teeth, where both colours mix."""
_EXTENDED_M = 0.003
_SEARCHED = (FacePart.RIGHT_EYE, FacePart.LEFT_EYE, FacePart.MOUTH)
_LEAST_SEEN = 30
_GROUPS = torch.arange(len(FacePart))
_GROUPS[[int(FacePart.GUMS), int(FacePart.TEETH)]] = int(FacePart.MOUTH)
"""Part -> the part with which it shares a visible region, without a lid or lip between."""


@dataclass(frozen=True)
class _PartTexels:
    """The texels of parts other than skin."""

    painted: Tensor
    """[Hu, Wu] bool: skin or any other part."""
    texels: Tensor
    """[N] flat indices."""
    part: Tensor
    """[N]: values of `FacePart`."""


def chart_of_parts(texels: Texels, topology: Topology) -> Tensor:
    """[Hu, Wu] bool: texels of skin or of another part."""
    return texels.inside if topology.parts is None else _part_texels(topology, texels.inside, texels.triangle).painted


def feature_texture(face: Face, seen: UVTexture, rasterise: Rasteriser) -> UVTexture | None:
    """The texture of all parts but skin, 0 elsewhere; None where the face model has none.

    Confidence is 1 where the photo shows the part, else -1. `seen` is the unwrapped photo; its skin colour is used for
    the lids' rims.
    """
    topology = face.reconstruction.topology
    if topology.parts is None:
        return None
    layout = _part_texels(topology, face.texels.inside, face.texels.triangle)
    points, normals = (values.reshape(-1, 3)[layout.texels] for values in (face.texels.points, face.texels.normals))
    colours, visible = _photographed(face, points, normals, layout.part, rasterise)
    skin = seen.rgb[:, seen.confidence >= TRUSTED].median(dim=1).values
    light = float(skin.mean()) / SKIN
    rgb = torch.zeros_like(colours)
    eyes = [layout.part == int(part) for part in (FacePart.RIGHT_EYE, FacePart.LEFT_EYE)]
    balls = [face.reconstruction.vertices[topology.faces[topology.parts == int(k)].unique()] for k in _SEARCHED[:2]]
    at, have, sure = ([values[eye] for eye in eyes] for values in (points, colours, visible))
    for eye, painted in zip(eyes, painted_eyes(balls, at, have, sure, light), strict=True):
        rgb[eye] = painted
    rgb[(layout.part == int(FacePart.RIGHT_SOCKET)) | (layout.part == int(FacePart.LEFT_SOCKET))] = skin * _SOCKET_TINT
    upper_lip, lower_lip = face.reconstruction.vertices[topology.landmark_vertices[[62, 66]]]
    if float(upper_lip[1] - lower_lip[1]) < _LIP_GAP_M:
        visible = torch.where(_GROUPS[layout.part] == int(FacePart.MOUTH), 0.0, visible)
    for part in (FacePart.TEETH, FacePart.GUMS, FacePart.MOUTH):
        own = layout.part == int(part)
        made_up = _synthetic(face, part, points[own], colours[own], visible[own], light)
        rgb[own] = torch.lerp(made_up, colours[own], visible[own][:, None])
    plane = torch.zeros_like(seen.rgb).flatten(1)
    plane[:, layout.texels] = rgb.clamp(0, 1).T
    confidence = torch.full_like(seen.confidence, -1.0).flatten()
    confidence[layout.texels] = torch.where(visible > 0.5, 1.0, -1.0)
    return UVTexture(plane.view_as(seen.rgb), confidence.view_as(seen.confidence))


def with_features(skin: UVTexture, face: Face) -> UVTexture:
    """`skin` with the other parts of the face added."""
    if face.features is None:
        return skin
    other = chart_of_parts(face.texels, face.reconstruction.topology) & ~face.texels.inside
    rgb = torch.where(other, face.features.rgb, skin.rgb)
    return replace(skin, rgb=rgb, confidence=torch.where(other, face.features.confidence, skin.confidence))


@lru_cache(maxsize=2)  # tensors are hashed by identity: all faces of one model share their chart
def _part_texels(topology: Topology, inside: Tensor, triangle: Tensor) -> _PartTexels:
    assert topology.parts is not None
    part = torch.where(triangle >= 0, topology.parts[triangle.clamp(min=0)], int(FacePart.SKIN))
    other = part != FacePart.SKIN
    flat = other.flatten().nonzero()[:, 0]
    return _PartTexels(inside | other, flat, part.flatten()[flat])


def _photographed(
    face: Face, points: Tensor, normals: Tensor, part: Tensor, rasterise: Rasteriser
) -> tuple[Tensor, Tensor]:
    """([N, 3], [N] 0..1): the photo's colours at the points [N, 3], and their confidence.

    Colours are taken from inside lids and lips, not from their edges, and extended a little way under them.
    """
    reconstruction, topology = face.reconstruction, face.reconstruction.topology
    assert topology.parts is not None
    camera, crop, scale = zoomed(reconstruction.camera, points, _WINDOW_PX)
    clip = to_clip(reconstruction.vertices, camera)
    fragments = rasterise(clip, topology.faces, camera.size)
    metre_px = float(camera.K[0, 0] / clip[:, 3].mean())
    rgb, inside = warp(face.photo.rgb, crop, camera.size), pixels_inside(crop, face.photo.size, camera.size)
    depth_m = to_camera(points, camera)[:, 2]
    column, row = to_pixels(points, camera).long().clamp(0, _WINDOW_PX - 1).unbind(dim=1)
    surface_m = interpolate(fragments, to_camera(reconstruction.vertices, camera)[:, 2:], topology.faces)[..., 0]
    shown = torch.where(fragments.triangle >= 0, topology.parts[fragments.triangle.clamp(min=0)], int(FacePart.SKIN))
    covered = (fragments.triangle >= 0) & inside
    colours, trust = torch.zeros_like(points), torch.zeros(len(points))
    for index in _SEARCHED:
        here = covered & (_GROUPS[shown] == int(index))
        if not bool(here.any()):
            continue
        clear, near = _interior(here, scale, metre_px)
        own = _GROUPS[part] == int(index)
        filled = push_pull(rgb, clear)
        colours[own] = filled[:, row[own], column[own]].T
        behind = here[row, column] & ((depth_m - surface_m[row, column]) > _TOLERANCE_M)
        trust[own] = torch.where(behind, 0.0, near[row, column])[own]
    facing = (normals * toward_camera(points, reconstruction.camera)).sum(dim=1) > 0
    return colours, trust * facing * skin_at(face.skin, to_pixels(points, reconstruction.camera))


def _interior(here: Tensor, scale: float, metre_px: float) -> tuple[Tensor, Tensor]:
    """([S, S], [S, S]): 1 where a part is visible, without its edge; 1 where it is visible, falling to 0 around it."""
    depth = torch.from_numpy(distance_transform_edt(here.numpy())).float()
    clear = (depth > min(_EDGE_PX * scale, 0.5 * float(depth.max()))).float()
    beyond = torch.from_numpy(distance_transform_edt(~here.numpy())).float() / metre_px
    return clear, torch.exp(-((beyond / _EXTENDED_M) ** 2))


def _synthetic(face: Face, part: FacePart, points: Tensor, colours: Tensor, visible: Tensor, light: float) -> Tensor:
    """[N, 3]: colours of teeth, gums or the inside of the mouth without the photo, darker behind the lips."""
    lips = face.reconstruction.vertices[face.reconstruction.topology.landmark_vertices[60:68]]
    darkness = torch.exp(-torch.cdist(points, lips).amin(dim=1) / _INTO_THE_DARK_M)
    colour = {FacePart.TEETH: TEETH, FacePart.GUMS: GUMS, FacePart.MOUTH: MOUTH}[part] * light
    sure = visible > 0.9
    if part == FacePart.TEETH and int(sure.sum()) >= _LEAST_SEEN:
        brightest = colours[sure][colours[sure].mean(dim=1).argsort(descending=True)[: int(sure.sum()) // 2]]
        colour = brightest.median(dim=0).values
    return colour * darkness[:, None]
