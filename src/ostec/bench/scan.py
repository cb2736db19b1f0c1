"""Scan: render a scanned head from known directions, run the whole tool on each picture, compare with the scan.

Each trusted texel was read from a pixel, and the point of the scan that this pixel shows is known: these pairs align
the fitted head with the scan. A texel's truth is the scan's colour at the nearest point, under the picture's light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from ostec.bench.gallery import Gallery, Setup
from ostec.bench.record import Score
from ostec.bench.scores import picture_figures, texel_figures
from ostec.errors import BadGeometry, OstecError
from ostec.files.meshes import read_mesh
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import rotation, to_clip, to_pixels
from ostec.geometry.raster import interpolate
from ostec.geometry.render import over_background, render
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Parts
from ostec.pipeline import complete_face, find_faces
from ostec.texture.unwrap import TRUSTED
from ostec.types import Camera, Photo, Reconstruction, Result, Shape, Texels

YAWS_DEG = (0.0, 15.0, 30.0, 45.0, 60.0, 75.0)
POSES_DEG = (*((yaw, 0.0) for yaw in YAWS_DEG), (0.0, 15.0), (0.0, -15.0), (45.0, 15.0), (45.0, -15.0))
"""(yaw, pitch)."""
LIGHTS = {"flat": (0.0, 0.0, 0.0), "left light": (-0.35, 0.1, 0.1), "right light": (0.35, 0.1, 0.1)}
"""Name -> gradient of the log colour along the normal, head frame."""
_UNIT_M = 0.055
_PICTURE_PX, _PICTURE_M, _DISTANCE_M = 640, 0.36, 1.0
_BEHIND_NOSE_M = 0.09
_SAMPLES_PX = 512
_TOO_FAR_M = 0.008
_ALIGNMENT_ROUNDS, _ALIGNMENT_SHARE = 5, 0.8
_ALIGNMENT_LEAST, _ALIGNMENT_POINTS = 100, 20_000


@dataclass(frozen=True)
class Scan:
    """A head with a colour map, in the head frame, metres; the nose tip is its frontmost vertex."""

    head: Shape
    rgb: Tensor
    """[3, H, W]."""

    def lit(self, light: tuple[float, float, float], parts: Parts) -> Tensor:
        """[3, S, S]: the colour map under a light, a gradient of the log colour along the normal."""
        normals = self.samples(parts).normals
        size = normals.shape[:2]
        rgb = F.interpolate(self.rgb[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
        return (rgb * (normals @ torch.tensor(light)).exp()).clamp(0, 1)

    def samples(self, parts: Parts) -> Texels:
        """The 3D points of the colour map's texels."""
        return bake_texels(self.head, (_SAMPLES_PX, _SAMPLES_PX), parts.rasterise)

    def pictured(self, camera: Camera, parts: Parts) -> tuple[Tensor, Tensor]:
        """([3, H, W] the point of the head that each pixel shows, [H, W] bool whether it shows one)."""
        faces = self.head.topology.faces
        fragments = parts.rasterise(to_clip(self.head.vertices, camera), faces, camera.size)
        return interpolate(fragments, self.head.vertices, faces).movedim(-1, 0), fragments.triangle >= 0

    def camera(self, yaw_deg: float, pitch_deg: float) -> Camera:
        """A perspective camera in front of the turned head."""
        nose = self.head.vertices[self.head.vertices[:, 2].argmax()]
        R = rotation(pitch_deg, yaw_deg, 0.0)
        t = torch.tensor([0.0, 0.0, _DISTANCE_M]) - R @ (nose - torch.tensor([0.0, 0.0, _BEHIND_NOSE_M]))
        focal_px = _PICTURE_PX * _DISTANCE_M / _PICTURE_M
        K = torch.tensor([[focal_px, 0, _PICTURE_PX / 2], [0, focal_px, _PICTURE_PX / 2], [0, 0, 1]])
        return Camera(K, R, t, (_PICTURE_PX, _PICTURE_PX))


def load_scan(path: Path) -> Scan:
    """A head in a binary glTF file with one base-colour texture, glTF axes, 5.5 cm to the unit.

    Raises `BadGeometry` where it holds no such mesh, `BadPhoto` where its texture cannot be read.
    """
    mesh = read_mesh(path, needs_texture=True)
    assert mesh.rgb is not None
    return Scan(replace(mesh.shape, vertices=mesh.shape.vertices * _UNIT_M), mesh.rgb)


def score_scan(scan: Scan, setup: Setup) -> Iterator[Score]:
    """Each method under each light at each pose: its texture, and a view from the side that was not photographed."""
    parts = setup.parts
    for light_name, light in LIGHTS.items():
        lit = scan.lit(light, parts)
        for yaw_deg, pitch_deg in POSES_DEG:
            camera = scan.camera(yaw_deg, pitch_deg)
            picture = Photo(over_background(*render(scan.head, lit, camera, parts.rasterise), grey=0.6), "scan")
            row = f"{light_name} {yaw_deg:.0f} {pitch_deg:.0f}"
            gallery = setup.gallery if light_name == "flat" and not pitch_deg else Gallery(0)
            gallery.show(row, f"scan at {yaw_deg:.0f} deg", picture.rgb)
            for name, method in setup.methods.items():
                score = Score("scan", name, f"scan, {light_name}", yaw_deg, pitch_deg, light_name)
                unseen = replace(score, variant=f"{light_name}, unseen view")
                try:
                    face = find_faces(picture, parts)[0]
                    result = complete_face(picture, face, replace(parts, completer=method), setup.settings)
                    head, texture, hidden = _compared(scan, lit, camera, result, setup)
                    other = _other_side(scan, lit, head, torch.cat([result.texture.rgb, hidden]), yaw_deg, setup)
                except OstecError:
                    yield from (score, unseen)
                    continue
                yield replace(score, **texture)
                yield replace(unseen, **other[0])
                tiles = result.texture.rgb, *other[1:]
                for caption, tile in zip((name, f"{name}, other side", "scan, other side"), tiles, strict=True):
                    gallery.show(row, caption, tile)


def _compared(
    scan: Scan, lit: Tensor, camera: Camera, result: Result, setup: Setup
) -> tuple[Reconstruction, dict[str, float | None], Tensor]:
    """The fitted head moved onto the scan, the figures of its texture, and [1, Hu, Wu] which texels are scored."""
    samples, parts = scan.samples(setup.parts), setup.parts
    surface = KDTree(samples.points[samples.inside].numpy())
    size = (result.texture.rgb.shape[1], result.texture.rgb.shape[2])
    texels = bake_texels(result.reconstruction, size, parts.rasterise)
    seen = texels.inside & (result.seen.confidence >= TRUSTED)
    shown = texels.points[seen]
    shown = shown[:: max(1, len(shown) // _ALIGNMENT_POINTS)]
    to_scan = alignment(result.reconstruction.camera, shown, *scan.pictured(camera, parts))
    truth, known = true_colours(to_scan(texels.points), surface, lit[:, samples.inside])
    hidden = texels.inside & ~seen & known
    figures = texel_figures(result.texture, truth, hidden, seen, texels.inside) | {
        "lpips": setup.networks.lpips_between(torch.where(hidden, result.texture.rgb, truth), truth),
        "seconds": float(result.report["seconds"]["complete"]),
    }
    head = replace(result.reconstruction, vertices=to_scan(result.reconstruction.vertices))
    return head, figures, hidden[None].float()


def _other_side(
    scan: Scan, lit: Tensor, head: Reconstruction, texture: Tensor, yaw_deg: float, setup: Setup
) -> tuple[dict[str, float | None], Tensor, Tensor]:
    """The figures of a view from the side that was not photographed, and the head's and the scan's picture there.

    `texture` [4, Hu, Wu]: colours, and 1 for the texels that are scored.
    """
    away = scan.camera(-yaw_deg or 45.0, 0.0)
    ours, covered = render(head, texture, away, setup.parts.rasterise)
    theirs, there = render(scan.head, lit, away, setup.parts.rasterise)
    figures = picture_figures(ours[:3], theirs, covered & there & (ours[3] > 0.5))
    return {**figures, "identity": _identity(scan, lit, head, texture[:3], setup)}, ours[:3], theirs


def alignment(fit: Camera, shown: Tensor, pictured: Tensor, covered: Tensor) -> Callable[[Tensor], Tensor]:
    """The similarity from the fitted head's frame [..., 3] to the scan's.

    It best maps the fit's visible points `shown` [N, 3] to the points `pictured` [3, H, W] at their pixels, where
    `covered` [H, W] bool. Raises `BadGeometry` where the fit is off the head.
    """
    height, width = covered.shape
    x, y = to_pixels(shown, fit).floor().long().unbind(dim=1)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    hit = covered[y, x]
    if int(hit.sum()) < _ALIGNMENT_LEAST:
        raise BadGeometry("The fit does not lie on the head in the picture.")
    source, target = shown[hit].double(), pictured[:, y[hit], x[hit]].T.double()
    trust = torch.ones(len(source), dtype=torch.float64)
    for _ in range(_ALIGNMENT_ROUNDS):
        scale, R, t = fit_similarity_3d(source, target, trust)
        distance = (scale * source @ R.T + t - target).norm(dim=1)
        trust = (distance <= distance.quantile(_ALIGNMENT_SHARE)).double()
    return lambda points: (scale * points.double() @ R.T + t).float()


def true_colours(points: Tensor, surface: KDTree, colours: Tensor) -> tuple[Tensor, Tensor]:
    """([3, H, W] the colour of the nearest surface point, [H, W] bool whether it is near enough), for `points`
    [H, W, 3]; `colours` [3, N] are those of the surface's N points."""
    distance, index = surface.query(points.reshape(-1, 3).numpy())
    near = torch.from_numpy(distance < _TOO_FAR_M).view(points.shape[:2])
    return colours[:, torch.from_numpy(index)].view(3, *points.shape[:2]) * near, near


def _identity(scan: Scan, lit: Tensor, head: Reconstruction, rgb: Tensor, setup: Setup) -> float | None:
    """Cosine of the embeddings of our head and of the scan, both from the front."""
    if setup.networks.identity is None:
        return None
    front = scan.camera(0.0, 0.0)
    landmarks_px = to_pixels(head.vertices[head.topology.landmark_vertices], front)
    pairs = (head, rgb), (scan.head, lit)
    ours, theirs = (render(*pair, front, setup.parts.rasterise)[0] for pair in pairs)
    return setup.networks.identity(ours, theirs, landmarks_px, landmarks_px)
