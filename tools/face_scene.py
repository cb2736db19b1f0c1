"""A head, what lies over it and what is behind it, drawn as one picture with exact labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from face_geometry import Array, FaceShape, Index, Placed
from face_heads import MESH_POINTS
from face_occluders import Layer
from numba import njit
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from ostec.geometry.camera import rotation, to_clip
from ostec.geometry.mesh import vertex_normals
from ostec.geometry.raster import rasterise
from ostec.networks.face import PARTS
from ostec.types import Camera

PICTURE_PX, NET_PX = 320, 240
"""Side of a picture, and how much of it a crop of the network's usual kind shows."""
IGNORE = 255
"""Label of pixels of which nobody knows what they show."""
HIDDEN, COVERED, VISIBLE, UNKNOWN = 0, 1, 2, 3
"""Of a point: the head itself hides it; something else does; it can be seen; nobody knows where it is."""
_MIDDLE_M = np.array([0.0, 0.0, 0.05])
"""About the middle of a head, which is turned about it."""
_CROP_PER_BOX, _SAMPLES = 1.5, 2
_TOLERANCE_M, _IRIS_TOLERANCE_M = 0.004, 0.0015


@dataclass(frozen=True)
class Textured:
    """Triangles with a picture on them."""

    vertices: Array
    faces: Index
    uv: Array
    """[T, 2]: px of the texture, centres at +0.5."""
    uv_faces: Index
    texture: Array
    """[H, W, 3], 0..1."""
    labels: NDArray[np.uint8]
    """[F], or [H, W] a picture like the texture."""
    cut: Array | None = None


@dataclass(frozen=True)
class Labelled:
    """A picture and what is known of it."""

    rgb: Array
    """[S, S, 3], 0..1."""
    parts: NDArray[np.uint8]
    """[S, S]: index into `PARTS`, or `IGNORE`."""
    points: Array
    """[P, 3]: px; z on the same scale, smaller is nearer, 0 on average over FaceMesh's 468 as in its own output."""
    seen: NDArray[np.uint8]
    """[P]: `HIDDEN`, `COVERED` or `VISIBLE`."""
    camera: Camera


Light = Callable[[Array], Array]
"""Unit normals [N, 3], head frame -> factors [N, 3]."""


def random_light(draw: Generator) -> Light:
    """Soft light of second order, or a lamp from one side; about 1 on average over the face."""
    front = np.array([0.0, 0.0, 1.0])
    if draw.random() < 0.25:
        return lambda normals: np.ones_like(normals)
    towards = front + draw.normal(size=3) * [1.2, 0.8, 0.4]
    towards /= np.linalg.norm(towards)
    strength, tint = draw.uniform(0.1, 0.95), 1 + draw.normal(0, 0.12, 3)
    bend = draw.normal(0, 0.12, (3, 3))
    hard = draw.random() < 0.6

    def light(normals: Array) -> Array:
        cosine = normals @ towards
        lamp = np.maximum(cosine, 0) * 1.5 if hard else (0.5 + 0.5 * cosine) ** 2 * 1.6
        soft = 1 + _dot(normals @ bend, normals)[:, 0]
        return np.maximum((1 - strength) * soft[:, None] + strength * lamp[:, None] * tint, 0.02)

    return light


class Canvas:
    """A picture with a z-buffer and a label for each pixel, twice as fine as what comes out."""

    def __init__(self, camera: Camera, background: Array, light: Light) -> None:
        """`background`: [S, S, 3] at the canvas's own size."""
        self.camera, self.light = camera, light
        self.rgb = background.copy()
        self.label = np.zeros(camera.size, dtype=np.uint8)
        self.depth = np.full(camera.size, np.inf)
        self._eye = (-camera.R.T @ camera.t).double().numpy()

    def draw(self, layer: Layer | Textured) -> None:
        """What is nearer than what is there."""
        vertices, faces = torch.from_numpy(layer.vertices), torch.from_numpy(layer.faces)
        clip = to_clip(vertices.float(), self.camera)
        x0, y0, x1, y1 = self._box(clip[faces.unique()])
        if x1 <= x0 or y1 <= y0:
            return
        clip[:, 0] -= x0 * clip[:, 3]
        clip[:, 1] -= y0 * clip[:, 3]
        fragments = rasterise(clip, faces, (y1 - y0, x1 - x0))
        triangle, depth = fragments.triangle.numpy(), fragments.depth.numpy()
        at = np.nonzero((triangle >= 0) & (depth < self.depth[y0:y1, x0:x1]))
        shares, triangle, depth = fragments.barycentrics.numpy()[at].astype(np.float64), triangle[at], depth[at]
        corners = layer.faces[triangle]
        if layer.cut is not None:
            kept = _mix(layer.cut[:, None], corners, shares)[:, 0] >= 0
            at, shares, triangle, corners = (at[0][kept], at[1][kept]), shares[kept], triangle[kept], corners[kept]
            depth = depth[kept]
        at = (at[0] + y0, at[1] + x0)
        points = _mix(layer.vertices, corners, shares)
        normals = _unit(_mix(vertex_normals(vertices, faces).numpy(), corners, shares))
        outward = _unit(self._eye - points)
        normals *= np.where(_dot(normals, outward) < 0, -1.0, 1.0)
        if isinstance(layer, Textured):
            uv = _mix(layer.uv, layer.uv_faces[triangle], shares)
            colour, opacity = sampled(layer.texture, uv), 1.0
            label = layer.labels[triangle] if layer.labels.ndim == 1 else _nearest(layer.labels, uv)
        else:
            colour, opacity = layer.paint(points), layer.opacity
            label = PARTS.index(layer.label) if layer.label else None
            if layer.shiny:
                mirrored = 2 * _dot(normals, outward) * normals - outward
                colour = colour + layer.shiny * self.light(mirrored) ** 6 * 0.3
        colour = np.minimum(colour * self.light(normals), 1)
        self.rgb[at] = opacity * colour + (1 - opacity) * self.rgb[at]
        if label is not None:
            self.label[at] = label
            self.depth[at] = depth

    def _box(self, clip: torch.Tensor) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the pixels that triangles with these corners [N, 4] can cover."""
        if len(clip) == 0 or bool((clip[:, 3] <= 0).any()):
            return 0, 0, self.camera.size[1], self.camera.size[0]
        px = clip[:, :2] / clip[:, 3:]
        low, high = px.amin(dim=0).floor().long().clamp(min=0).tolist(), px.amax(dim=0).ceil().long().tolist()
        return low[0], low[1], min(high[0], self.camera.size[1]), min(high[1], self.camera.size[0])

    def small(self) -> tuple[Array, NDArray[np.uint8]]:
        """(Picture, labels) at the size that comes out."""
        height, width = (n // _SAMPLES for n in self.camera.size)
        rgb = self.rgb.reshape(height, _SAMPLES, width, _SAMPLES, 3).mean(axis=(1, 3))
        return rgb, self.label[::_SAMPLES, ::_SAMPLES].copy()


def frame(points: Array, angles_deg: tuple[float, float, float], distance_m: float, draw: Generator) -> Camera:
    """The camera that sees a head at these (pitch, yaw, roll) so that its points [P, 3] fill the picture as usual."""
    R = rotation(*angles_deg).double().numpy()
    t = np.array([0.0, 0.0, distance_m]) - R @ _MIDDLE_M
    at = points[:MESH_POINTS] @ R.T + t
    flat = at[:, :2] / at[:, 2:]
    low, high = flat.min(axis=0), flat.max(axis=0)
    side = _CROP_PER_BOX * float((high - low).max())
    size = PICTURE_PX * _SAMPLES
    focal = NET_PX * _SAMPLES / side
    centre = size / 2 - focal * ((low + high) / 2 + draw.normal(0, 0.01, 2) * side)
    K = torch.tensor([[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]])
    return Camera(K, torch.from_numpy(R).float(), torch.from_numpy(t).float(), (size, size))


def head_layer(shape: FaceShape, head: Placed, texture: Array) -> Textured:
    """The head itself under its texture [S, S, 3]."""
    topology = shape.model.topology
    uv = topology.uv.double().numpy() * [texture.shape[1], texture.shape[0]]
    return Textured(head.vertices, shape.faces, uv, topology.uv_faces.numpy(), texture, shape.labels)


def labelled(canvas: Canvas, head: Placed, bare: Array) -> Labelled:
    """What the canvas shows; `bare` is its depth with nothing but the head."""
    rgb, parts = canvas.small()
    camera = canvas.camera
    K, R, t = (part.double().numpy() for part in (camera.K, camera.R, camera.t))
    at = head.points @ R.T + t
    px = at[:, :2] / at[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    reference = float(at[:MESH_POINTS, 2].mean())
    z = (at[:, 2] - reference) * K[0, 0] / reference
    tolerance = np.full(len(px), _TOLERANCE_M)
    tolerance[MESH_POINTS : MESH_POINTS + 10] = _IRIS_TOLERANCE_M
    seen = np.full(len(px), VISIBLE, dtype=np.uint8)
    inside = ((px >= 0) & (px < camera.size[0])).all(axis=1)
    column, row = px.astype(np.int64).clip(0, camera.size[0] - 1).T
    for depth, state in ((canvas.depth, COVERED), (bare, HIDDEN)):
        nearest = 1 / np.maximum(1 - depth[row, column], 1e-9)
        nearest = np.where(np.isfinite(depth[row, column]), nearest, np.inf)
        seen[at[:, 2] > nearest + tolerance] = state
    seen[~inside] = COVERED
    K = camera.K.clone()
    K[:2] /= _SAMPLES
    small = Camera(K, camera.R, camera.t, (PICTURE_PX, PICTURE_PX))
    return Labelled(rgb, parts, np.c_[px, z] / _SAMPLES, seen, small)


def background(draw: Generator, photo: NDArray[np.uint8]) -> Array:
    """[S, S, 3] for a canvas: a photo out of focus, a gradient, or shapes. The photo should show no face."""
    size = PICTURE_PX * _SAMPLES
    kind = draw.random()
    if kind < 0.45:
        side = int(min(photo.shape[:2]) * draw.uniform(0.4, 1.0))
        y, x = (int(draw.integers(n - side + 1)) for n in photo.shape[:2])
        image = Image.fromarray(photo[y : y + side, x : x + side])
        few = int(np.exp(draw.uniform(np.log(12), np.log(side))))
        return _enlarged(image.resize((few, few), Image.Resampling.BOX), size)
    coarse = draw.uniform(0, 1, 3) + draw.normal(0, draw.uniform(0.02, 0.25), (6, 6, 3))
    picture = _enlarged(Image.fromarray((np.clip(coarse, 0, 1) * 255).astype(np.uint8)), size)
    if kind > 0.7:
        fine = size // 4
        y, x = np.mgrid[:fine, :fine]
        small = picture[::4, ::4].copy()
        for _ in range(draw.integers(2, 12)):
            a, b = draw.uniform(-1, 1, 2)
            edge = a * x + b * y - draw.uniform(-0.2, 0.8) * fine
            small[(edge > 0) & (edge < draw.uniform(1, fine / 3))] = draw.uniform(0, 1, 3)
        small = ndimage.gaussian_filter(small, [*[draw.uniform(0.1, 2)] * 2, 0])
        picture = _enlarged(Image.fromarray((np.clip(small, 0, 1) * 255).astype(np.uint8)), size)
    return picture


def _enlarged(image: Image.Image, size: int) -> Array:
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float64) / 255.0


@njit(cache=True)
def sampled(texture, uv):
    """[N, 3]: a picture [H, W, 3] read at px [N, 2] (x, y), bilinear; its border goes on beyond it."""
    height, width, channels = texture.shape
    found = np.empty((len(uv), channels))
    for n in range(len(uv)):
        x = min(max(uv[n, 0] - 0.5, 0.0), width - 1.001)
        y = min(max(uv[n, 1] - 0.5, 0.0), height - 1.001)
        i, j = int(y), int(x)
        v, u = y - i, x - j
        for k in range(channels):
            top = texture[i, j, k] * (1 - u) + texture[i, j + 1, k] * u
            low = texture[i + 1, j, k] * (1 - u) + texture[i + 1, j + 1, k] * u
            found[n, k] = top * (1 - v) + low * v
    return found


def _nearest(picture: NDArray[np.uint8], uv: Array) -> NDArray[np.uint8]:
    x, y = uv.astype(np.int64).T
    return picture[y.clip(0, picture.shape[0] - 1), x.clip(0, picture.shape[1] - 1)]


@njit(cache=True)
def _mix(carried, corners, shares):
    """[N, C]: what vertices carry, [V, C], at places given by corners and shares [N, 3]."""
    found = np.empty((len(corners), carried.shape[1]))
    for n in range(len(corners)):
        a, b, c = corners[n]
        for k in range(carried.shape[1]):
            found[n, k] = shares[n, 0] * carried[a, k] + shares[n, 1] * carried[b, k] + shares[n, 2] * carried[c, k]
    return found


def _dot(a: Array, b: Array) -> Array:
    """[N, 1] of vectors [N, 3]."""
    return np.einsum("nk,nk->n", a, b)[:, None]


def _unit(vectors: Array) -> Array:
    return vectors / np.maximum(np.sqrt(_dot(vectors, vectors)), 1e-9)
