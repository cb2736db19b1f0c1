"""Eyes, teeth and the inside of the mouth: what the photo shows of them, and plausible colours for the rest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ostec.geometry.camera import cropped, to_camera, to_clip, to_pixels, toward_camera
from ostec.geometry.raster import interpolate
from ostec.geometry.sampling import pixels_inside, warp
from ostec.interfaces import Rasteriser
from ostec.texture.eyes import painted_eyes
from ostec.texture.fill import push_pull
from ostec.texture.unwrap import TRUSTED, skin_at
from ostec.types import Camera, Face, FacePart, Fragments, Texels, Topology, UVTexture

TEETH = torch.tensor([0.84, 0.80, 0.72])
GUMS = torch.tensor([0.66, 0.38, 0.36])
MOUTH = torch.tensor([0.50, 0.24, 0.22])
"""sRGB colours by eye under the light in which light skin has the luminance `SKIN`; no one's data."""
SKIN = 0.62
_SOCKET_TINT = torch.tensor([0.98, 0.84, 0.82])
"""The wet rims of the lids against the skin around them."""
_INTO_THE_DARK_M = 0.05
"""Distance from the lips at which the mouth's inside is down to a third of its light."""
_WINDOW_PX = 448
_LIP_GAP_M = 0.002
_TOLERANCE_M = 0.003
_EDGE_PX = 0.9
"""Width of the edge between lid and eyeball, lip and teeth, in pixels of the photo, where both colours mix."""
_CARRIED_M = 0.003
_SEARCHED = (FacePart.RIGHT_EYE, FacePart.LEFT_EYE, FacePart.MOUTH)
_LEAST_SEEN = 30


_GROUPS = torch.arange(len(FacePart))
_GROUPS[[int(FacePart.GUMS), int(FacePart.TEETH)]] = int(FacePart.MOUTH)
"""What may lie side by side in the photo without a lid or lip between."""


@dataclass(frozen=True)
class _Layout:
    """Which texels show parts other than skin."""

    painted: Tensor
    """[Hu, Wu] bool: skin or any other part."""
    texels: Tensor
    """[N] flat indices of those that are not skin."""
    part: Tensor
    """[N]: values of `FacePart`."""


def chart_of_parts(texels: Texels, topology: Topology) -> Tensor:
    """[Hu, Wu] bool: texels that have a colour, be it skin or another part."""
    return texels.inside if topology.parts is None else _layout(topology, texels.inside, texels.triangle).painted


def feature_texture(face: Face, seen: UVTexture, rasterise: Rasteriser) -> UVTexture | None:
    """The texture of all parts but skin, 0 elsewhere; None where the face model has none.

    Confidence is 1 where the photo shows the part, else -1. `seen` is the skin in the photo, whose colour goes on into
    the lids' rims.
    """
    topology = face.reconstruction.topology
    if topology.parts is None:
        return None
    layout = _layout(topology, face.texels.inside, face.texels.triangle)
    points, normals = (values.reshape(-1, 3)[layout.texels] for values in (face.texels.points, face.texels.normals))
    colours, visible = _photographed(face, points, normals, layout.part, rasterise)
    skin = _skin_colour(seen)
    light = float(skin.mean()) / SKIN
    rgb = torch.zeros_like(colours)
    eyes = [layout.part == int(part) for part in (FacePart.RIGHT_EYE, FacePart.LEFT_EYE)]
    balls = [face.reconstruction.vertices[topology.faces[topology.parts == int(k)].unique()] for k in _SEARCHED[:2]]
    at, have, sure = ([values[eye] for eye in eyes] for values in (points, colours, visible))
    for eye, painted in zip(eyes, painted_eyes(balls, at, have, sure, light), strict=True):
        rgb[eye] = painted
    rgb[(layout.part == int(FacePart.RIGHT_SOCKET)) | (layout.part == int(FacePart.LEFT_SOCKET))] = skin * _SOCKET_TINT
    if _lip_gap_m(face) < _LIP_GAP_M:
        visible = torch.where(_GROUPS[layout.part] == int(FacePart.MOUTH), 0.0, visible)
    for part in (FacePart.TEETH, FacePart.GUMS, FacePart.MOUTH):
        own = layout.part == int(part)
        plain = _plain(face, part, points[own], colours[own], visible[own], light)
        rgb[own] = torch.lerp(plain, colours[own], visible[own][:, None])
    return _laid_out(layout, rgb.clamp(0, 1), visible, seen)


def with_features(skin: UVTexture, face: Face) -> UVTexture:
    """`skin` with the face's other parts laid beside it."""
    if face.features is None:
        return skin
    other = chart_of_parts(face.texels, face.reconstruction.topology) & ~face.texels.inside
    rgb = torch.where(other, face.features.rgb, skin.rgb)
    return replace(skin, rgb=rgb, confidence=torch.where(other, face.features.confidence, skin.confidence))


@lru_cache(maxsize=2)  # tensors are hashed by identity: all faces of one model share their chart
def _layout(topology: Topology, inside: Tensor, triangle: Tensor) -> _Layout:
    assert topology.parts is not None
    part = torch.where(triangle >= 0, topology.parts[triangle.clamp(min=0)], int(FacePart.SKIN))
    other = part != FacePart.SKIN
    flat = other.flatten().nonzero()[:, 0]
    return _Layout(inside | other, flat, part.flatten()[flat])


def _laid_out(layout: _Layout, rgb: Tensor, visible: Tensor, seen: UVTexture) -> UVTexture:
    plane = torch.zeros_like(seen.rgb).flatten(1)
    plane[:, layout.texels] = rgb.T
    confidence = torch.full_like(seen.confidence, -1.0).flatten()
    confidence[layout.texels] = torch.where(visible > 0.5, 1.0, -1.0)
    return UVTexture(plane.view_as(seen.rgb), confidence.view_as(seen.confidence))


def _photographed(
    face: Face, points: Tensor, normals: Tensor, part: Tensor, rasterise: Rasteriser
) -> tuple[Tensor, Tensor]:
    """([N, 3], [N] 0..1): what the photo has at the points [N, 3], and how much to trust it.

    Colours are taken from within lids and lips, not from their edges, and carried on a little way under them.
    """
    window, fragments = _window(face, points, rasterise)
    reconstruction, topology = face.reconstruction, face.reconstruction.topology
    assert topology.parts is not None
    rgb = warp(face.photo.rgb, window.crop, window.camera.size)
    inside = pixels_inside(window.crop, face.photo.size, window.camera.size)
    at = to_camera(points, window.camera)
    pixels = to_pixels(points, window.camera)
    column, row = pixels.long().clamp(0, _WINDOW_PX - 1).unbind(dim=1)
    camera_z = interpolate(fragments, to_camera(reconstruction.vertices, window.camera)[:, 2:], topology.faces)[..., 0]
    shown = torch.where(fragments.triangle >= 0, topology.parts[fragments.triangle.clamp(min=0)], int(FacePart.SKIN))
    covered = (fragments.triangle >= 0) & inside
    colours, trust = torch.zeros_like(points), torch.zeros(len(points))
    for index in _SEARCHED:
        here = covered & (_GROUPS[shown] == int(index))
        if not bool(here.any()):
            continue
        clear, near = _within(here, window.scale, window.metre_px)
        own = _GROUPS[part] == int(index)
        filled = push_pull(rgb, clear)
        colours[own] = filled[:, row[own], column[own]].T
        behind = here[row, column] & ((at[:, 2] - camera_z[row, column]) > _TOLERANCE_M)
        trust[own] = torch.where(behind, 0.0, near[row, column])[own]
    facing = (normals * toward_camera(points, reconstruction.camera)).sum(dim=1) > 0
    return colours, trust * facing * skin_at(face.skin, to_pixels(points, reconstruction.camera))


@dataclass(frozen=True)
class _Window:
    """The part of the photo that holds eyes and mouth, enlarged."""

    camera: Camera
    crop: Tensor
    """[2, 3] affine from the photo."""
    scale: float
    """Its pixels for one of the photo's."""
    metre_px: float
    """Its pixels for a metre."""


def _window(face: Face, points: Tensor, rasterise: Rasteriser) -> tuple[_Window, Fragments]:
    reconstruction = face.reconstruction
    pixels = to_pixels(points, reconstruction.camera)
    low, high = pixels.amin(dim=0), pixels.amax(dim=0)
    scale = (_WINDOW_PX - 4) / float((high - low).max())
    crop = torch.cat([scale * torch.eye(2), (_WINDOW_PX / 2 - scale * (low + high) / 2)[:, None]], dim=1)
    camera = cropped(reconstruction.camera, crop, (_WINDOW_PX, _WINDOW_PX))
    clip = to_clip(reconstruction.vertices, camera)
    fragments = rasterise(clip, reconstruction.topology.faces, camera.size)
    return _Window(camera, crop, scale, float(camera.K[0, 0] / clip[:, 3].mean())), fragments


def _within(here: Tensor, scale: float, metre_px: float) -> tuple[Tensor, Tensor]:
    """([S, S], [S, S]): 1 where a part shows and not its edge; 1 where it shows, falling to 0 around there."""
    depth = torch.from_numpy(distance_transform_edt(here.numpy())).float()
    clear = (depth > min(_EDGE_PX * scale, 0.5 * float(depth.max()))).float()
    beyond = torch.from_numpy(distance_transform_edt(~here.numpy())).float() / metre_px
    return clear, torch.exp(-((beyond / _CARRIED_M) ** 2))


def _plain(face: Face, part: FacePart, points: Tensor, colours: Tensor, visible: Tensor, light: float) -> Tensor:
    """[N, 3]: colours of teeth, gums or the mouth's inside in the dark behind the lips."""
    lips = face.reconstruction.vertices[face.reconstruction.topology.landmark_vertices[60:68]]
    darkness = torch.exp(-torch.cdist(points, lips).amin(dim=1) / _INTO_THE_DARK_M)
    colour = {FacePart.TEETH: TEETH, FacePart.GUMS: GUMS, FacePart.MOUTH: MOUTH}[part] * light
    sure = visible > 0.9
    if part == FacePart.TEETH and int(sure.sum()) >= _LEAST_SEEN:
        brightest = colours[sure][colours[sure].mean(dim=1).argsort(descending=True)[: int(sure.sum()) // 2]]
        colour = brightest.median(dim=0).values
    return colour * darkness[:, None]


def _skin_colour(seen: UVTexture) -> Tensor:
    """[3]: the median of the skin that is seen well."""
    return seen.rgb[:, seen.confidence >= TRUSTED].median(dim=1).values


def _lip_gap_m(face: Face) -> float:
    upper, lower = face.reconstruction.vertices[face.reconstruction.topology.landmark_vertices[[62, 66]]]
    return float(upper[1] - lower[1])
