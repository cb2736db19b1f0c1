"""Scan: photograph a scanned head from known directions, run the whole tool on each picture, compare with the scan.

What a fitted texel was read from is a pixel, and what that pixel shows is known: so the fitted head is brought onto
the scan. Each texel's truth is the scan's colour at the nearest point, under the picture's light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from scipy.spatial import KDTree
from torch import Tensor
from torch.nn import functional as F

from ostec.bench.gallery import Gallery
from ostec.bench.judge import Judges
from ostec.bench.record import Score
from ostec.bench.scores import delta_e2000, psnr_db, seam_ratio, ssim, within_2_std
from ostec.errors import BadGeometry, OstecError
from ostec.files.mesh_readers import read_mesh
from ostec.geometry.align import similarity
from ostec.geometry.camera import rotation, to_clip, to_pixels
from ostec.geometry.raster import interpolate
from ostec.geometry.render import render
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Completer, Parts
from ostec.pipeline import complete_face, find_faces, over_background
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.types import Camera, Photo, Reconstruction, Result, Texels

ATTRIBUTION = "Infinite, 3D Head Scan by Lee Perry-Smith (www.ir-ltd.net), CC BY 3.0"
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
_PLACING_ROUNDS, _PLACING_SHARE = 5, 0.8
_PLACING_LEAST, _PLACING_POINTS = 100, 20_000
_TILE_PX = 224


@dataclass(frozen=True)
class Scan:
    """A head with a colour map, in the head frame, metres; its nose tip is the foremost vertex."""

    head: Reconstruction
    rgb: Tensor
    """[3, H, W]."""

    def lit(self, light: tuple[float, float, float], parts: Parts) -> Tensor:
        """[3, S, S]: the colour map under a light."""
        normals = self.samples(parts).normals
        size = normals.shape[:2]
        rgb = F.interpolate(self.rgb[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
        return (rgb * (normals @ torch.tensor(light)).exp()).clamp(0, 1)

    def samples(self, parts: Parts) -> Texels:
        """Where the texels of the colour map lie."""
        return bake_texels(self.head, (_SAMPLES_PX, _SAMPLES_PX), parts.rasterise)

    def pictured(self, camera: Camera, parts: Parts) -> tuple[Tensor, Tensor]:
        """([3, H, W] which point of the head each pixel shows, [H, W] bool whether it shows one)."""
        faces = self.head.topology.faces
        fragments = parts.rasterise(to_clip(self.head.vertices, camera), faces, camera.size)
        return interpolate(fragments, self.head.vertices, faces), fragments.triangle >= 0

    def camera(self, yaw_deg: float, pitch_deg: float) -> Camera:
        """A perspective camera before the turned head."""
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
    return Scan(replace(mesh.head, vertices=mesh.head.vertices * _UNIT_M), mesh.rgb)


def score_scan(
    scan: Scan, methods: Mapping[str, Completer], parts: Parts, judges: Judges, settings: Settings, gallery: Gallery
) -> Iterator[Score]:
    """Each method under each light at each pose, its texture and a view from the side that was not photographed."""
    for light_name, light in LIGHTS.items():
        lit = scan.lit(light, parts)
        for yaw_deg, pitch_deg in POSES_DEG:
            camera = scan.camera(yaw_deg, pitch_deg)
            picture = Photo(over_background(*render(scan.head, lit, camera, parts.rasterise), grey=0.6), "scan")
            row = f"{light_name} {yaw_deg:.0f} {pitch_deg:.0f}"
            tiles = _shower(gallery if light_name == "flat" and not pitch_deg else Gallery(0), row)
            tiles(f"scan at {yaw_deg:.0f} deg", picture.rgb)
            for name, method in methods.items():
                score = Score("scan", name, f"scan, {light_name}", yaw_deg, pitch_deg, light_name)
                unseen = replace(score, variant=f"{light_name}, unseen view")
                try:
                    face = find_faces(picture, parts)[0]
                    result = complete_face(picture, face, replace(parts, completer=method), settings)
                    scores = [*_compared(scan, lit, camera, result, score, unseen, parts, judges, tiles)]
                except OstecError:
                    scores = [score, unseen]
                yield from scores


def _compared(
    scan: Scan,
    lit: Tensor,
    camera: Camera,
    result: Result,
    score: Score,
    unseen: Score,
    parts: Parts,
    judges: Judges,
    show: Callable[[str, Tensor], None],
) -> Iterator[Score]:
    samples = scan.samples(parts)
    surface = KDTree(samples.points[samples.inside].numpy())
    size = (result.texture.rgb.shape[1], result.texture.rgb.shape[2])
    texels = bake_texels(result.reconstruction, size, parts.rasterise)
    seen = texels.inside & (result.seen.confidence >= TRUSTED)
    shown = texels.points[seen]
    shown = shown[:: max(1, len(shown) // _PLACING_POINTS)]
    place = placement(result.reconstruction.camera, shown, *scan.pictured(camera, parts))
    truth, known = true_colours(place(texels.points), surface, lit[:, samples.inside])
    hidden = texels.inside & ~seen & known
    show(score.method, result.texture.rgb)
    yield replace(
        score,
        **texture_figures(result, truth, hidden),
        lpips=judges.lpips_between(torch.where(hidden, result.texture.rgb, truth), truth),
        seam=seam_ratio(result.texture.rgb, texels.inside, seen),
        seconds=float(result.report["seconds"]["complete"]),
    )
    head = replace(result.reconstruction, vertices=place(result.reconstruction.vertices))
    away = scan.camera(-score.yaw_deg or 45.0, 0.0)
    ours, covered = render(head, torch.cat([result.texture.rgb, hidden[None].float()]), away, parts.rasterise)
    theirs, there = render(scan.head, lit, away, parts.rasterise)
    region = covered & there & (ours[3] > 0.5)
    show(f"{score.method}, other side", ours[:3])
    show("scan, other side", theirs)
    yield replace(
        unseen, **picture_figures(ours[:3], theirs, region), identity=_identity(scan, lit, head, result, parts, judges)
    )


def texture_figures(result: Result, truth: Tensor, hidden: Tensor) -> dict[str, float | None]:
    """PSNR, SSIM, colour error and calibration over the hidden texels; empty where there are none."""
    if not bool(hidden.any()):
        return {}
    rgb, std = result.texture.rgb, result.texture.std
    figures: dict[str, float | None] = {**picture_figures(torch.where(hidden, rgb, truth), truth, hidden)}
    return figures | {"within_2_std": within_2_std(rgb, std, truth, hidden)}


def picture_figures(picture: Tensor, truth: Tensor, region: Tensor) -> dict[str, float]:
    """PSNR, SSIM and colour error over a region; empty where that is."""
    if not bool(region.any()):
        return {}
    measures = {"psnr_db": psnr_db, "ssim": ssim, "delta_e": delta_e2000}
    return {name: measure(picture, truth, region) for name, measure in measures.items()}


def placement(fit: Camera, shown: Tensor, pictured: Tensor, covered: Tensor) -> Callable[[Tensor], Tensor]:
    """A map from the fitted head's frame [..., 3] into the scan's: the similarity that best brings the points [N, 3]
    which the fit saw to those [3, H, W] that the picture shows at their pixels, where it is `covered` [H, W].

    Raises `BadGeometry` where the fit is off the head.
    """
    height, width = covered.shape
    x, y = to_pixels(shown, fit).floor().long().unbind(dim=1)
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    hit = covered[y, x]
    if int(hit.sum()) < _PLACING_LEAST:
        raise BadGeometry("The fit lies beside the head in the picture.")
    source, target = shown[hit].double(), pictured[:, y[hit], x[hit]].T.double()
    trust = torch.ones(len(source), dtype=torch.float64)
    for _ in range(_PLACING_ROUNDS):
        scale, R, t = similarity(source, target, trust)
        distance = (scale * source @ R.T + t - target).norm(dim=1)
        trust = (distance <= distance.quantile(_PLACING_SHARE)).double()
    return lambda points: (scale * points.double() @ R.T + t).float()


def true_colours(points: Tensor, surface: KDTree, colours: Tensor) -> tuple[Tensor, Tensor]:
    """([3, H, W] the colour [3, N] of the nearest of the surface's N points, [H, W] bool whether it is near enough)."""
    distance, index = surface.query(points.reshape(-1, 3).numpy())
    near = torch.from_numpy(distance < _TOO_FAR_M).view(points.shape[:2])
    return colours[:, torch.from_numpy(index)].view(3, *points.shape[:2]) * near, near


def _identity(
    scan: Scan, lit: Tensor, head: Reconstruction, result: Result, parts: Parts, judges: Judges
) -> float | None:
    """Cosine between our head and the scan, both from the front."""
    if judges.identity is None:
        return None
    front = scan.camera(0.0, 0.0)
    landmarks_px = to_pixels(head.vertices[head.topology.landmark_vertices], front)
    ours, theirs = (render(*pair, front, parts.rasterise)[0] for pair in ((head, result.texture.rgb), (scan.head, lit)))
    return judges.identity(ours, theirs, landmarks_px, landmarks_px)


def _shower(gallery: Gallery, row: str) -> Callable[[str, Tensor], None]:
    def show(caption: str, picture: Tensor) -> None:
        gallery.show(row, caption, F.interpolate(picture[None], (_TILE_PX, _TILE_PX), mode="area")[0].clamp(0, 1))

    return show
