"""What lies over a head in the pictures for training: hair, strands, cloth, glasses, masks, hats, hands, things held.

All are triangles in the head frame, metres, drawn as `Layer`s. Shapes and colours are random; a `numpy` generator says
which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from face_geometry import Array, FaceShape, Index, Placed
from numpy.random import Generator
from scipy.spatial import KDTree

from ostec.geometry.mesh import vertex_normals
from ostec.networks.face import PARTS

Paint = Callable[[Array], Array]
"""Points [N, 3] in the head frame -> colours [N, 3], 0..1."""

_HAIR = np.array(
    [[22, 18, 16], [45, 30, 22], [84, 56, 36], [140, 98, 60], [196, 160, 108], [150, 70, 40], [160, 158, 155]]
)
_HAIRLINE = np.array(
    [[-0.09, -0.05], [-0.03, -0.035], [0.0, 0.0], [0.02, 0.03], [0.05, 0.065], [0.085, 0.085], [0.13, 0.09]]
)
"""z and y of the edge of the hair."""
_FRAMES = np.array(
    [[20, 20, 22], [60, 40, 25], [120, 90, 60], [150, 150, 155], [190, 160, 90], [150, 30, 40], [235, 235, 235]]
)
_MASKS = np.array([[150, 195, 220], [235, 238, 240], [30, 30, 34], [120, 160, 130], [200, 140, 150], [60, 80, 140]])
_SKINS = np.array([[235, 200, 178], [215, 170, 140], [180, 130, 100], [130, 88, 64], [84, 56, 42]])


@dataclass(frozen=True)
class Layer:
    """Triangles of one kind."""

    vertices: Array
    faces: Index
    paint: Paint
    label: str | None
    """One of `PARTS`; None leaves the label of what lies behind, as clear glass does."""
    cut: Array | None = None
    """[V]: nothing is drawn where this, interpolated, is negative."""
    opacity: float = 1.0
    shiny: float = 0.0
    """0..1: how much it mirrors the light."""


def noise(draw: Generator, low: float, high: float, terms: int = 12, flat: float = 1.0) -> Callable[[Array], Array]:
    """A random function of points [N, 3] -> about -1..1, of wave numbers `low` to `high` in rad/m; along y they are
    `flat` times as large."""
    k = draw.normal(size=(terms, 3))
    k *= (np.exp(draw.uniform(np.log(low), np.log(high), terms)) / np.linalg.norm(k, axis=1))[:, None]
    k[:, 1] *= flat
    phase = draw.uniform(0, 2 * np.pi, terms)
    wave, shift = k.T.astype(np.float32), phase.astype(np.float32)
    return lambda points: np.sin(points.astype(np.float32) @ wave + shift).sum(axis=1) * np.sqrt(2 / terms) / 1.6


def plain(draw: Generator, colour: Array, spread: float = 0.06) -> Paint:
    """A colour that varies softly."""
    vary = noise(draw, 20, 200)
    return lambda points: np.clip(colour * (1 + spread * vary(points)[:, None]), 0, 1)


def patterned(draw: Generator, colour: Array) -> Paint:
    """Cloth: plain, striped, checked or blotched."""
    other, kind = np.clip(draw.uniform(0, 1, 3), 0, 1), draw.integers(4)
    k, vary = draw.normal(size=3) * draw.uniform(150, 900), noise(draw, 60, 400)
    across = np.cross(k, draw.normal(size=3))
    waves: dict[int, Callable[[Array], Array]] = {
        0: lambda p: np.zeros(len(p)),
        1: lambda p: (np.sin(p @ k) > 0).astype(float),
        2: lambda p: ((np.sin(p @ k) > 0) ^ (np.sin(p @ across) > 0)).astype(float),
        3: lambda p: (vary(p) > 0.2).astype(float),
    }
    mix, soft = waves[int(kind)], plain(draw, np.ones(3))
    return lambda p: np.clip((colour + (other - colour) * 0.8 * mix(p)[:, None]) * soft(p), 0, 1)


def hair_paint(draw: Generator, colour: Array) -> Paint:
    """Streaks that run down."""
    fine, broad = noise(draw, 300, 3000, 14, 0.12), noise(draw, 30, 200, 8, 0.3)
    return lambda p: np.clip(colour * (1 + 0.35 * fine(p) + 0.3 * broad(p))[:, None], 0, 1)


def hair_colour(draw: Generator) -> Array:
    """[3]."""
    if draw.random() < 0.03:
        return draw.uniform(0.1, 0.9, 3)
    a, b = _HAIR[draw.integers(len(_HAIR), size=2)] / 255
    return (a + (b - a) * draw.uniform(0, 0.6)) * draw.uniform(0.7, 1.3)


def shell(shape: FaceShape, head: Placed, thickness: Array, cut: Array, paint: Paint, label: str) -> Layer:
    """The skin lifted by `thickness` [V] metres, where `cut` [V] is positive."""
    skin = shape.faces[shape.face_parts == 0]
    faces = skin[(cut[skin] > 0).any(axis=1)]
    vertices = torch.from_numpy(head.vertices)
    normals = vertex_normals(vertices, torch.from_numpy(skin)).numpy()
    return Layer(head.vertices + normals * thickness[:, None], faces, paint, label, cut)


def hair(shape: FaceShape, head: Placed, draw: Generator, colour: Array, kind: str = "full") -> Layer:
    """A head of hair, short or long; of the kind "back" it ends behind the temples, "flat" fits under a hat."""
    x, y, z = shape.mean.T
    line = np.interp(z, *_HAIRLINE.T) + draw.normal(0, 0.006)
    long = draw.random() < 0.4
    if long:
        low = draw.uniform(-0.17, -0.04)
        line = np.where(z < draw.uniform(-0.01, 0.03), np.minimum(line, low), line)
    wave = noise(draw, 20, 120)(shape.mean)
    cut = y - line + 0.008 * wave
    if kind == "back":
        cut = np.minimum(cut, draw.uniform(0.03, 0.07) - z + 0.005 * wave)
    if not long:
        cut = np.where(shape.labels_of_vertices == PARTS.index("ear"), -0.01, cut)
    most = draw.uniform(0.002, {"full": 0.03, "back": 0.008, "flat": 0.004}[kind])
    thickness = (most * np.clip(cut / 0.025, 0.1, 1) * (1 + 0.5 * noise(draw, 30, 150)(shape.mean))).clip(0.001)
    return shell(shape, head, thickness, cut, hair_paint(draw, colour), "hair")


def clothes(shape: FaceShape, head: Placed, draw: Generator) -> Layer:
    """A collar or higher; its label is that of the background."""
    _, y, z = shape.mean.T
    top = draw.uniform(-0.17, -0.105) if draw.random() < 0.85 else draw.uniform(-0.1, -0.075)
    cut = top + draw.uniform(-0.5, 0.1) * (z + 0.03).clip(0) + 0.004 * noise(draw, 20, 80)(shape.mean) - y
    thickness = np.full(len(y), draw.uniform(0.003, 0.02))
    return shell(shape, head, thickness, cut, patterned(draw, draw.uniform(0, 1, 3)), "background")


def face_mask(shape: FaceShape, head: Placed, draw: Generator) -> list[Layer]:
    """Over nose, mouth and chin, or under the nose, with straps to the ears."""
    x, y, z = shape.mean.T
    top = draw.uniform(-0.005, 0.02) if draw.random() < 0.85 else draw.uniform(-0.035, -0.015)
    edge = draw.uniform(0.5, 1.0)
    cut = np.minimum(top - edge * x**2 / 0.06 - y, z - draw.uniform(0.0, 0.035))
    cut = np.minimum(cut, y + draw.uniform(0.088, 0.105) + 0.2 * np.abs(x))
    colour = _MASKS[draw.integers(len(_MASKS))] / 255 if draw.random() < 0.8 else draw.uniform(0, 1, 3)
    paint = plain(draw, colour) if draw.random() < 0.7 else patterned(draw, colour)
    cover = shell(shape, head, np.full(len(x), draw.uniform(0.003, 0.01)), cut, paint, "occluder")
    layers = [_closed(_smoothed(cover, rounds=25))]
    for side in (-1.0, 1.0):
        for height in (draw.uniform(-0.01, 0.01), draw.uniform(-0.065, -0.05)):
            path = np.linspace([side * 0.064, height, draw.uniform(0.02, 0.04)], [side * 0.083, 0.01, -0.01], 6)
            layers.append(tube(_onto(shape, head, path, 0.003), 0.0012, plain(draw, colour), "occluder"))
    return layers


def _closed(layer: Layer) -> Layer:
    """Without the hole at the mouth: a fan over the edges that only one triangle has, near the middle of the mouth."""
    faces = layer.faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    _, index, count = np.unique(np.sort(edges, axis=1), axis=0, return_index=True, return_counts=True)
    rim = edges[index[count == 1]]
    at = layer.vertices[rim].mean(axis=1)
    rim = rim[(np.abs(at[:, 0]) < 0.045) & (at[:, 1] < -0.005) & (at[:, 1] > -0.075) & (at[:, 2] > 0.07)]
    if not len(rim):
        return layer
    vertices = np.concatenate([layer.vertices, layer.vertices[rim].mean(axis=(0, 1), keepdims=True)[0]])
    fan = np.c_[rim[:, ::-1], np.full(len(rim), len(vertices) - 1)]
    cut = None if layer.cut is None else np.append(layer.cut, layer.cut[rim].mean())
    return Layer(vertices, np.concatenate([faces, fan]), layer.paint, layer.label, cut)


def _smoothed(layer: Layer, rounds: int) -> Layer:
    """Cloth does not follow nostrils and lips: vertices move to the mean of their neighbours, never inwards."""
    faces, vertices = layer.faces, layer.vertices.copy()
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    count = np.maximum(np.bincount(pairs[:, 0], minlength=len(vertices)), 1)[:, None]
    for _ in range(rounds):
        mean = (
            np.stack([np.bincount(pairs[:, 0], vertices[pairs[:, 1], k], len(vertices)) for k in range(3)], 1) / count
        )
        mean[:, 2] = np.maximum(mean[:, 2], layer.vertices[:, 2])
        vertices[np.unique(faces)] = mean[np.unique(faces)]
    return Layer(vertices, faces, layer.paint, layer.label, layer.cut)


def hat(shape: FaceShape, head: Placed, draw: Generator) -> list[Layer]:
    """Cap, beanie, brimmed hat or headscarf."""
    x, y, z = shape.mean.T
    paint = patterned(draw, draw.uniform(0, 1, 3))
    kind = draw.choice(["beanie", "cap", "brim", "scarf"], p=[0.25, 0.3, 0.2, 0.25])
    if kind == "scarf":
        line = np.interp(z, [-0.1, 0.0, 0.045, 0.07, 0.1, 0.13], [-0.3, -0.3, -0.085, 0.06, 0.085, 0.09])
        around = np.maximum(y - line - 0.01 * draw.normal(), -0.09 - 0.35 * z.clip(0) - y)
        return [shell(shape, head, np.full(len(x), draw.uniform(0.006, 0.016)), around, paint, "occluder")]
    low = draw.uniform(0.045, 0.085)
    slope = draw.uniform(0.0, 0.35)
    cut = y - low - slope * z + 0.002 * noise(draw, 20, 60)(shape.mean)
    thickness = draw.uniform(0.006, 0.02) + draw.uniform(0, 0.35) * (cut - 0.03).clip(0)
    layers = [shell(shape, head, thickness, cut, paint, "occluder")]
    if kind in ("cap", "brim"):
        angles = np.linspace(-1.25, 1.25, 24) if kind == "cap" else np.linspace(-np.pi, np.pi, 48)
        reach, droop = draw.uniform(0.055, 0.1), draw.uniform(-0.1, 0.5)
        rings = []
        for share in (0.0, 0.5, 1.0):
            out = reach * share * (np.cos(angles / 1.25 * 1.4).clip(0.05) if kind == "cap" else 1.0)
            ring = np.c_[(0.07 + out) * np.sin(angles), 0 * angles, (0.1 + out) * np.cos(angles) + 0.005]
            ring[:, 1] = low + 0.008 + slope * ring[:, 2] - droop * out
            rings.append(ring)
        layers.append(_lofted(np.stack(rings), paint, "occluder"))
    return layers


def glasses(shape: FaceShape, head: Placed, draw: Generator) -> list[Layer]:
    """Frames that rest on the nose and reach the ears, with clear or dark lenses."""
    eyes = [head.vertices[eye].mean(axis=0) for eye in shape.eyes]
    middle, half = (eyes[0] + eyes[1]) / 2, np.linalg.norm(eyes[1] - eyes[0]) / 2
    front = head.points[[6, 168], 2].mean() + draw.uniform(0.002, 0.008)
    width, height = draw.uniform(0.021, 0.031), draw.uniform(0.014, 0.027)
    drop, power = draw.uniform(-0.004, 0.006), draw.choice([2.0, 2.5, 4.0])
    colour = _FRAMES[draw.integers(len(_FRAMES))] / 255
    radius, paint = np.exp(draw.uniform(np.log(0.0006), np.log(0.003))), plain(draw, colour)
    rimless, dark = draw.random() < 0.12, draw.random() < 0.35
    lens = plain(draw, draw.uniform(0, 0.25, 3) if dark else draw.uniform(0.6, 1, 3), 0.25)
    opacity = draw.uniform(0.75, 1.0) if dark else draw.uniform(0.03, 0.2)
    angle = np.linspace(0, 2 * np.pi, 41)
    oval = np.c_[np.cos(angle), np.sin(angle), 0 * angle]
    oval[:, :2] = np.sign(oval[:, :2]) * np.abs(oval[:, :2]) ** (2 / power)
    wrap = draw.uniform(2, 6)
    layers = []
    for side in (-1.0, 1.0):
        centre = np.array([middle[0] + side * max(half, width + 0.008), middle[1] - drop, front])
        rim = centre + oval * [width, height, 0]
        rim[:, 2] -= wrap * (rim[:, 0] - middle[0]) ** 2
        disc = np.concatenate([rim[:-1], rim.mean(axis=0, keepdims=True)])
        fan = np.array([[k, (k + 1) % 40, 40] for k in range(40)])
        layers.append(Layer(disc, fan, lens, "glasses" if dark else None, None, opacity, draw.uniform(0, 0.6)))
        if not rimless:
            layers.append(tube(rim, radius, paint, "glasses", shiny=0.3))
        hinge = rim[[np.abs(rim[:, 0] - middle[0]).argmax()]][0] + [0, draw.uniform(0, 0.8) * height, 0]
        ear = np.array([side * 0.08, 0.042, -0.005]) + draw.normal(0, 0.002, 3)
        corner = np.array([side * max(abs(hinge[0]), 0.069), hinge[1], hinge[2] - 0.01])
        temple = np.concatenate([[hinge], np.linspace(corner, ear, 8), [ear + [0, -0.02, -0.02]]])
        layers.append(tube(_onto(shape, head, temple, radius, 1), radius, paint, "glasses", shiny=0.2))
    inner = [middle[0] + side * (max(half, width + 0.008) - width) for side in (-1, 1)]
    height_bridge = middle[1] - drop + draw.uniform(-0.2, 0.6) * height
    bridge = np.c_[
        np.linspace(inner[0], inner[1], 9), height_bridge + 0.004 * np.sin(np.linspace(0, np.pi, 9)), np.full(9, front)
    ]
    return [*layers, tube(bridge, radius, paint, "glasses", shiny=0.3)]


def hand(head: Placed, draw: Generator) -> list[Layer]:
    """Fingers side by side, and the palm they come from, of any person's skin."""
    paint = plain(draw, _SKINS[draw.integers(len(_SKINS))] / 255 * draw.uniform(0.8, 1.1))
    tip = head.points[draw.integers(468)] + [0, 0, draw.uniform(0.01, 0.03)]
    way = draw.normal(size=3) * [1, 1, 0.35] + [0, -0.8, 0]
    way /= np.linalg.norm(way)
    beside = np.cross(way, [0, 0, 1.0])
    beside /= max(np.linalg.norm(beside), 1e-6)
    layers = []
    for k in range(draw.integers(1, 5)):
        length, bend = draw.uniform(0.06, 0.085), draw.normal(0, 0.008)
        steps = np.linspace(0, 1, 9)[:, None]
        path = tip + k * 0.0175 * beside + steps * length * way + np.sin(np.pi * steps) * bend * np.array([0, 0, 1.0])
        path = path + draw.normal(0, 0.004, 3)
        layers.append(tube(path, np.r_[0.005, np.full(8, draw.uniform(0.0075, 0.0095))], paint, "occluder"))
    palm = tip + 0.12 * way + 0.026 * beside
    return [*layers, ellipsoid(palm, np.array([0.045, 0.055, 0.02]), paint, "occluder")]


def thing(head: Placed, draw: Generator) -> list[Layer]:
    """A microphone, a phone, a cup, or a card in front of the face."""
    place = head.points[draw.integers(468)] * [1, 1, 1] + [0, draw.uniform(-0.04, 0.0), draw.uniform(0.015, 0.06)]
    dark, light = plain(draw, draw.uniform(0, 0.2, 3)), patterned(draw, draw.uniform(0, 1, 3))
    kind = draw.choice(["microphone", "phone", "cup", "card"])
    if kind == "microphone":
        way = draw.normal(size=3) * [1, 0.5, 0.6] + [0, -1.2, 0.6]
        stem = place + np.linspace(0, 0.2, 6)[:, None] * way / np.linalg.norm(way)
        size = draw.uniform(0.016, 0.03)
        return [ellipsoid(place, np.full(3, size), dark, "occluder"), tube(stem, 0.55 * size, dark, "occluder", 0.3)]
    if kind == "cup":
        up = np.linspace(-0.05, 0.05, 5)[:, None] * np.array([0, 1.0, 0.3])
        return [tube(place + [0, -0.03, 0.03] + up, draw.uniform(0.03, 0.045), light, "occluder", shiny=0.3)]
    size = np.array([0.036, 0.075, 0.005]) if kind == "phone" else np.r_[draw.uniform(0.02, 0.1, 2), 0.001]
    turn = np.linalg.qr(draw.normal(size=(3, 3)) * 0.5 + np.eye(3))[0]
    return [box(place, size, turn, dark if kind == "phone" else light, "occluder")]


def strands(shape: FaceShape, head: Placed, draw: Generator, colour: Array) -> list[Layer]:
    """A fringe or loose strands that fall from the hairline over forehead and cheeks."""
    count, spread = int(draw.integers(3, 40)), draw.uniform(0.003, 0.05)
    x0 = draw.uniform(-0.055, 0.055)
    length, sway = draw.uniform(0.02, 0.13), draw.normal(0, 0.25)
    paint, layers = hair_paint(draw, colour), []
    for _ in range(count):
        x = x0 + draw.normal(0, spread)
        top = np.array([np.clip(x, -0.07, 0.07), 0.1 - 8 * x**2 + draw.normal(0, 0.004), 0.0])
        own, bend = length * draw.uniform(0.5, 1.2), sway + draw.normal(0, 0.12)
        s = np.linspace(0, 1, 12)[:, None]
        path = top + s * own * np.array([bend, -1.0, 0]) + s**2 * own * np.array([0.4 * bend, 0, 0])
        path = _onto(shape, head, path, draw.uniform(0.003, 0.009), axis=2)
        width = draw.uniform(0.0003, 0.0018) * np.linspace(1, 0.3, 12)
        layers.append(tube(path, width, paint, "hair", sides=4))
    return [_joined(layers)]


def _joined(layers: list[Layer]) -> Layer:
    """One layer of several of the same look."""
    starts = np.cumsum([0, *(len(layer.vertices) for layer in layers)])
    faces = np.concatenate([layer.faces + start for layer, start in zip(layers, starts, strict=False)])
    return Layer(np.concatenate([layer.vertices for layer in layers]), faces, layers[0].paint, layers[0].label)


def _onto(shape: FaceShape, head: Placed, path: Array, gap: float, axis: int | None = None) -> Array:
    """The path pushed out of the skin: to `gap` metres over the nearest vertices; with `axis` 2 the path is laid onto
    the front of the head from z = infinity, with 1 only points inside are moved sideways."""
    skin = head.vertices[shape.skin]
    if axis == 2:
        front = skin[skin[:, 2] > 0.0]
        distance, index = KDTree(front[:, :2]).query(path[:, :2], k=6)
        z = front[index, 2].max(axis=1) - 0.4 * np.maximum(distance[:, 0] - 0.006, 0)
        return np.c_[path[:, :2], z + gap]
    moved = path.copy()
    _, index = KDTree(skin).query(path, k=4)
    near = skin[index].mean(axis=1)
    if axis == 1:
        side = np.sign(path[:, 0])
        moved[1:, 0] = (side * np.maximum(np.abs(path[:, 0]), np.abs(near[:, 0]) + gap))[1:]
        return moved
    outward = near / np.linalg.norm(near, axis=1, keepdims=True)
    return near + outward * gap


def tube(path: Array, radius: float | Array, paint: Paint, label: str, shiny: float = 0.0, sides: int = 8) -> Layer:
    """A round tube along a path [N, 3]."""
    along = np.gradient(path, axis=0)
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    helper = np.where(np.abs(along[:, :1]) < 0.8, [[1.0, 0, 0]], [[0, 1.0, 0]])
    a = np.cross(along, helper)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = np.cross(along, a)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * a[:, None] + np.sin(angle)[None, :, None] * b[:, None]
    rings = path[:, None] + ring * np.broadcast_to(np.asarray(radius), len(path))[:, None, None]
    return _lofted(np.concatenate([rings, rings[:, :1]], axis=1), paint, label, shiny)


def _lofted(rings: Array, paint: Paint, label: str, shiny: float = 0.0) -> Layer:
    """The surface between rings [R, N, 3]."""
    r, n = rings.shape[:2]
    i, j = (grid.ravel() for grid in np.meshgrid(np.arange(r - 1), np.arange(n - 1), indexing="ij"))
    a, b, c, d = i * n + j, i * n + j + 1, (i + 1) * n + j, (i + 1) * n + j + 1
    faces = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    return Layer(rings.reshape(-1, 3), faces, paint, label, None, 1.0, shiny)


def ellipsoid(centre: Array, radii: Array, paint: Paint, label: str) -> Layer:
    """About a centre [3], with half axes [3] along x, y, z."""
    theta, phi = np.linspace(0.01, np.pi - 0.01, 13), np.linspace(0, 2 * np.pi, 25)
    ring = np.stack(
        [
            np.outer(np.sin(theta), np.cos(phi)),
            np.outer(np.cos(theta), np.ones(25)),
            np.outer(np.sin(theta), np.sin(phi)),
        ]
    )
    return _lofted(centre + ring.transpose(1, 2, 0) * radii, paint, label)


def box(centre: Array, half: Array, turn: Array, paint: Paint, label: str) -> Layer:
    """With half sides [3], turned by the rotation [3, 3]."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    faces = np.concatenate([quads[:, :3], quads[:, [0, 2, 3]]])
    own = quads.ravel()
    flat = np.concatenate([np.arange(24).reshape(6, 4)[:, :3], np.arange(24).reshape(6, 4)[:, [0, 2, 3]]])
    assert len(faces) == len(flat)
    return Layer(centre + corners[own] @ turn.T, flat, paint, label, None, 1.0, 0.2)
