"""The face of a mesh: it is rendered from several sides, and FaceMesh finds its points in the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ostec.errors import NoFace
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import rotation, to_clip, to_pixels
from ostec.geometry.mesh import vertex_normals
from ostec.geometry.raster import interpolate, rasterise
from ostec.geometry.render import render
from ostec.interfaces import Detector, Reconstructor
from ostec.types import Camera, Detection, Mesh, Photo, Reconstruction

POINTS = 468
"""Vertices of a FaceMesh head that the network finds; the others are derived from them."""
_FIRST_PX, _PICTURE_PX = 320, 512
_FAR, _CLOSE = 0.45, 1.3
"""Half the picture's width, in units of the mesh's radius and of the face's; the face's is about its mean point."""
_BLAZE_POINTS = (33, 133), (263, 362), (4,), (13, 14), (234,), (454,)
"""FaceMesh's points about eyes, nose tip, mouth and ears, in BlazeFace's order."""
_YAWS_DEG = (0.0, -25.0, 25.0)
_SURE = 0.9
_BACKGROUND, _SKIN = 0.45, (0.80, 0.62, 0.53)
_LEAST_COSINE, _ENOUGH = 0.25, 100
_OUTLIER = 3.0
_REMEDY = "Give a mesh with a face, or points that are the same on both meshes (--landmarks)."


@dataclass(frozen=True)
class FacePoints:
    """FaceMesh's points on a mesh."""

    points: Tensor
    """[468, 3] float64, in the mesh's frame and unit."""
    weights: Tensor
    """[468] float64: how well a point was visible, 0 where not at all."""
    shape: Tensor
    """[468, 3] float64, head frame, metres: the face as the network fitted it."""


@dataclass(frozen=True)
class _Look:
    """A picture of the mesh in which FaceMesh found a face."""

    camera: Camera
    fit: Reconstruction

    @property
    def turn(self) -> Tensor:
        """[3, 3] rotation from the mesh's frame to the head frame."""
        return self.fit.camera.R.T @ self.camera.R


def find_points(mesh: Mesh, detect: Detector, reconstruct: Reconstructor) -> FacePoints:
    """Renders the mesh along each axis until a face is found, then the face alone from three sides.

    `reconstruct` gives FaceMesh heads. Raises `NoFace` where none is found.
    """
    first = _first_look(mesh, detect, reconstruct)
    points, weights = _on_surface(mesh, first)
    centre = (points * weights[:, None]).sum(dim=0) / weights.sum()
    radius = float((((points - centre) ** 2).sum(dim=1) * weights).sum().div(weights.sum()).sqrt())
    total, mass, shape = torch.zeros(POINTS, 3).double(), torch.zeros(POINTS).double(), None
    for yaw_deg in _YAWS_DEG:
        R = rotation(0.0, yaw_deg, 0.0) @ first.turn
        camera = _camera(R, centre.float(), radius * _CLOSE, _PICTURE_PX)
        there = _detection(to_pixels(points.float(), camera), first.fit.landmarks.score)
        look = _look(mesh, camera, lambda photo, at=there: [at], reconstruct)
        if look is None:
            continue
        seen, weights = _on_surface(mesh, look)
        total, mass = total + seen * weights[:, None], mass + weights
        shape = _shape(look) if shape is None else shape
    if shape is None or int((mass > 0).sum()) < _ENOUGH:
        raise NoFace(f"{mesh.name}: a face was found from afar, but not in closer pictures. {_REMEDY}")
    return FacePoints(total / mass.clamp(min=1e-9)[:, None], mass, shape)


def _first_look(mesh: Mesh, detect: Detector, reconstruct: Reconstructor) -> _Look:
    vertices = mesh.shape.vertices[mesh.shape.topology.faces.flatten()]
    low, high = vertices.amin(dim=0), vertices.amax(dim=0)
    radius = float((high - low).norm()) / 2
    best = None
    for turn in _turns():
        R = rotation(0.0, 0.0, 0.0) @ turn
        look = _look(mesh, _camera(R, (low + high) / 2, radius, _FIRST_PX), detect, reconstruct)
        if look is not None and (best is None or look.fit.landmarks.score > best.fit.landmarks.score):
            best = look
            if look.fit.landmarks.score >= _SURE:
                break
    if best is None:
        raise NoFace(f"{mesh.name}: no face was found on it from the front, the back or the sides. {_REMEDY}")
    return best


def _turns() -> Iterator[Tensor]:
    """Rotations from the mesh's frame to the head frame: y up and z out first, as glTF has them, then others' axes."""
    x, y, z = torch.eye(3)
    upright = [(y, z), (z, -y), (y, -z), (y, x), (y, -x), (z, y), (z, x), (z, -x)]
    for up, out in [*upright, (-y, -z), (-y, z)]:
        yield torch.stack([torch.linalg.cross(up, out), up, out])


def _camera(R: Tensor, centre: Tensor, radius: float, size_px: int) -> Camera:
    """Orthographic, before the point `centre`."""
    scale = size_px * _FAR / radius
    K = torch.tensor([[scale, 0, size_px / 2], [0, scale, size_px / 2], [0, 0, 1]])
    return Camera(K, R, torch.tensor([0.0, 0.0, 2 * radius]) - R @ centre, (size_px, size_px), "orthographic")


def _look(mesh: Mesh, camera: Camera, detect: Detector, reconstruct: Reconstructor) -> _Look | None:
    photo = Photo(_picture(mesh, camera), mesh.name)
    for detection in detect(photo):
        try:
            return _Look(camera, reconstruct(photo, detection))
        except NoFace:
            continue
    return None


def _detection(points_px: Tensor, score: float) -> Detection:
    """What a detector would give for a face with the points [468, 2]."""
    box = torch.cat([points_px.amin(dim=0), points_px.amax(dim=0)])
    six = torch.stack([points_px[list(index)].mean(dim=0) for index in _BLAZE_POINTS])
    return Detection(box, six, score)


def _picture(mesh: Mesh, camera: Camera) -> Tensor:
    """[3, P, P]: with its texture, or without one in the colour of skin, lit from the camera."""
    shape = mesh.shape
    if mesh.rgb is not None:
        image, covered = render(shape, mesh.rgb, camera, rasterise)
        return image + _BACKGROUND * ~covered
    fragments = rasterise(to_clip(shape.vertices, camera), shape.topology.faces, camera.size)
    normals = vertex_normals(shape.vertices, shape.topology.faces)
    facing = (interpolate(fragments, normals, shape.topology.faces) @ camera.R[2]).abs()
    covered = fragments.triangle >= 0
    skin = torch.tensor(_SKIN)[:, None, None] * (0.25 + 0.75 * facing)
    return torch.where(covered, skin, _BACKGROUND)


def _on_surface(mesh: Mesh, look: _Look) -> tuple[Tensor, Tensor]:
    """([468, 3] points on the mesh, [468] weights): the surface points in the pixels at which the network found its
    points."""
    shape, camera = mesh.shape, look.camera
    fragments = rasterise(to_clip(shape.vertices, camera), shape.topology.faces, camera.size)
    normals = vertex_normals(shape.vertices, shape.topology.faces)
    carried = interpolate(fragments, torch.cat([shape.vertices, normals], dim=1), shape.topology.faces)
    x, y = to_pixels(look.fit.vertices[:POINTS], look.fit.camera).floor().long().unbind(dim=1)
    last = camera.size[0] - 1
    inside = (x >= 0) & (y >= 0) & (x <= last) & (y <= last)
    at = carried[y.clamp(0, last), x.clamp(0, last)].double()
    cosine = (at[:, 3:] @ camera.R[2].double()).abs()
    weights = (cosine - _LEAST_COSINE).clamp(min=0) * inside
    return at[:, :3], weights * _inliers(at[:, :3], _shape(look), weights)


def _inliers(points: Tensor, shape: Tensor, weights: Tensor) -> Tensor:
    """[468] bool: the point fits the network's face, so it lies on the face and not on something behind it."""
    if int((weights > 0).sum()) < _ENOUGH:
        return torch.zeros_like(weights, dtype=torch.bool)
    scale, R, shift = fit_similarity_3d(shape, points, weights)
    off = (scale * shape @ R.T + shift - points).norm(dim=1)
    return off <= _OUTLIER * off[weights > 0].median()


def _shape(look: _Look) -> Tensor:
    return look.fit.vertices[:POINTS].double()
