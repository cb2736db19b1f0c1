"""How well a face network finds the points of a scanned head that is turned away, by yaw.

python tools/face_measure.py SCAN.glb NET.safetensors [--weights ICT_FOLDER] [--pitch -30 0 30] [--json FILE]

The truth: what the network sees in the picture from the front lies on the scan, and where that is in every other
picture follows from the camera. The network starts from the true box of the points and goes on from its own points.
Printed by yaw: rotation error in degrees, of the points against the scan's; error of the points that can be seen, in
% of the distance of the eyes' outer corners; presence. With `--weights` also how far the ICT head that is fitted to the
points is turned from how it is fitted from the front, against the truth.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from face_heads import MESH_POINTS, mirror_map, points_in
from torch import Tensor

from ostec.bench.scan import LIGHTS, Scan, load_scan
from ostec.geometry.align import fit_similarity_3d
from ostec.geometry.camera import angles_deg, to_clip, to_pixels
from ostec.geometry.render import render
from ostec.heads.facemesh import load_facemesh_model
from ostec.heads.ict import ICTModel, fit_head, read_ict_model
from ostec.interfaces import Parts
from ostec.networks.face import FaceNet, load_face_net
from ostec.networks.facemesh_net import CROP_PER_BOX, EYE_CORNERS, load_facemesh_net, mesh_points
from ostec.pipeline import find_faces
from ostec.types import Camera, Photo

YAWS_DEG = tuple(float(yaw) for yaw in range(-90, 91, 15))
GREYS = {"flat": 0.6, "left light": 0.15}
"""Light -> background."""
_HIDDEN_M = 0.004
_ROUNDS = 2


@dataclass(frozen=True)
class Seen:
    """What the network made of one picture."""

    yaw_deg: float
    pitch_deg: float
    light: str
    rotation_error_deg: float
    yaw_error_deg: float
    error_percent: float
    presence: float
    fit_error_deg: float = math.nan
    fit_yaw_error_deg: float = math.nan


def look(net: FaceNet, rgb: Tensor, start: Tensor, mirror: Tensor) -> tuple[Tensor, float]:
    """Points [P, 3] in px of the picture and the presence logit, from a crop about points `start` [N, 2]: its own
    about the next, and the mean over a crop and its mirror picture. The picture's upright counts, so roll is 0."""
    points, logit = start, 0.0
    for _ in range(_ROUNDS):
        low, high = points[:MESH_POINTS, :2].amin(dim=0), points[:MESH_POINTS, :2].amax(dim=0)
        square = (low + high) / 2, CROP_PER_BOX * float((high - low).max()), 0.0
        points, logit = points_in(net, rgb, square, mirror)
    return points, logit


def picture(scan: Scan, camera: Camera, light: str, parts: Parts) -> Tensor:
    """[3, H, W]: the scan under a light before a plain background."""
    image, covered = render(scan.head, scan.lit(LIGHTS[light], parts), camera, parts.rasterise)
    return torch.where(covered, image, torch.tensor(GREYS[light]))


def on_scan(scan: Scan, points_px: Tensor, camera: Camera, parts: Parts) -> Tensor:
    """[N, 3]: what of the head is seen at points [N, 2]; NaN beside it."""
    where, covered = scan.pictured(camera, parts)
    x, y = points_px.floor().long().T
    x, y = x.clamp(0, camera.size[1] - 1), y.clamp(0, camera.size[0] - 1)
    return torch.where(covered[y, x], where[:, y, x], torch.nan).T


def visible(points: Tensor, scan: Scan, camera: Camera, parts: Parts) -> Tensor:
    """[N] bool: nothing of the head hides these points of it."""
    shown = on_scan(scan, to_pixels(points, camera), camera, parts)
    depth, nearest = to_clip(points, camera)[:, 3], to_clip(shown, camera)[:, 3]
    return ~(depth > nearest + _HIDDEN_M)


class Ruler:
    """A scan and where on it the points are that a network sees from the front."""

    def __init__(self, scan: Scan, net: FaceNet, parts: Parts, model: ICTModel | None) -> None:
        self.scan, self.net, self.parts, self.model = scan, net, parts, model
        self.mirror, front = full_mirror(net), scan.camera(0.0, 0.0)
        photo = Photo(picture(scan, front, "flat", parts), "the scan from the front")
        start, _ = mesh_points(load_facemesh_net(), photo, find_faces(photo, parts)[0])
        found, _ = look(net, photo.rgb, start[:, :2], self.mirror)
        truth = on_scan(scan, found[:MESH_POINTS, :2], front, parts)
        self.there = truth.isfinite().all(dim=1)
        self.truth = truth.nan_to_num()
        self.weights = load_facemesh_model().pose_weights.double() * self.there
        self.unit_m = float((truth[EYE_CORNERS[0]] - truth[EYE_CORNERS[1]]).norm())
        self.front_fit = self._fit(found, front)

    def seen(self, yaw_deg: float, pitch_deg: float, light: str) -> Seen:
        """What the network makes of one picture."""
        camera = self.scan.camera(yaw_deg, pitch_deg)
        rgb = picture(self.scan, camera, light, self.parts)
        true_px = to_pixels(self.truth, camera)
        points, logit = look(self.net, rgb, true_px[self.there], self.mirror)
        shown = self.there & visible(self.truth, self.scan, camera, self.parts)
        miss_px = (points[:MESH_POINTS, :2] - true_px)[shown].norm(dim=1)
        px_per_m = float(camera.K[0, 0] / camera.t[2])
        _, R, _ = fit_similarity_3d(self.truth.double(), points[:MESH_POINTS].double(), self.weights)
        miss = 100 * float(miss_px.mean()) / (self.unit_m * px_per_m)
        found = Seen(yaw_deg, pitch_deg, light, *rotation_error_deg(R, camera.R), miss, logit)
        if self.model is None:
            return found
        front = self.scan.camera(0.0, 0.0).R
        error, yaw_error = rotation_error_deg(self._fit(points, camera) @ self.front_fit.T @ front, camera.R)
        return replace(found, fit_error_deg=error, fit_yaw_error_deg=yaw_error)

    def _fit(self, points: Tensor, camera: Camera) -> Tensor:
        """[3, 3]: rotation of the ICT head that is fitted to the points."""
        if self.model is None:
            return torch.eye(3)
        return fit_head(self.model, points[:MESH_POINTS], 1.0, camera.size).camera.R


def rotation_error_deg(R: Tensor, truth: Tensor) -> tuple[float, float]:
    """(Angle between two rotations [3, 3], difference of their yaws)."""
    cosine = (float((R.double() @ truth.double().T).trace()) - 1) / 2
    angle = math.degrees(math.acos(max(-1.0, min(1.0, cosine))))
    return angle, angles_deg(R)[1] - angles_deg(truth)[1]


def table(rows: list[Seen]) -> str:
    """Medians by yaw and pitch."""
    lines = ["  yaw pitch  rotation error  yaw error  points  presence  fit: rotation  yaw"]
    for pitch in sorted({row.pitch_deg for row in rows}):
        for yaw in sorted({row.yaw_deg for row in rows}):
            some = [row for row in rows if (row.yaw_deg, row.pitch_deg) == (yaw, pitch)]
            names = [field.name for field in fields(Seen)[3:]]
            a, b, c, d, e, f = (float(np.median([getattr(row, name) for row in some])) for name in names)
            lines.append(f"{yaw:5.0f} {pitch:5.0f}  {a:13.1f}  {b:9.1f}  {c:5.1f}%  {d:8.1f}  {e:13.1f}  {f:4.1f}")
    return "\n".join(lines)


def scan_parts() -> Parts:
    """The rasteriser is all of the parts that pictures of a scan need."""
    import ostec

    return ostec.load_parts(completer="mirror", reconstructor="mediapipe", device="cpu")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("net", type=Path)
    parser.add_argument("--weights", type=Path, default=None, help="folder with ict_face_model.npz")
    parser.add_argument("--pitch", type=float, nargs="+", default=[0.0])
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = read_ict_model(options.weights / "ict_face_model.npz") if options.weights else None
    ruler = Ruler(load_scan(options.scan), load_face_net(options.net), scan_parts(), model)
    rows = [ruler.seen(yaw, pitch, light) for pitch in options.pitch for yaw in YAWS_DEG for light in GREYS]
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))


def full_mirror(net: FaceNet) -> Tensor:
    """[P] int64: `mirror_map`, and the added points, which come in pairs, right before left."""
    known = mirror_map(load_facemesh_net())
    added = torch.arange(len(known), net.points.out_channels // 3)
    return torch.cat([known, len(known) + ((added - len(known)) ^ 1)])


if __name__ == "__main__":
    main()
