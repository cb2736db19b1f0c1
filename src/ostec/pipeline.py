"""One photo of a face to a complete texture: the whole method, top to bottom. The parts arrive as arguments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ostec._version import __version__
from ostec.errors import Cancelled, NoFace
from ostec.geometry.camera import clip_matrix
from ostec.geometry.render import over_background, portrait_camera, render
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Parts, Progress
from ostec.settings import Settings
from ostec.texture.features import chart_of_parts, feature_texture, with_features
from ostec.texture.fill import bleed
from ostec.texture.unwrap import TRUSTED, unwrap, without_islands
from ostec.texture.views import PHOTO_PRIORITY, choose_mode, plan_views, shoot
from ostec.types import Atlas, Completion, Detection, Face, Photo, Result, Shape, UVTexture

_SHEET_VIEW_PX = 256


def find_faces(photo: Photo, parts: Parts) -> list[Detection]:
    """The faces of a photo, largest first. Raises `NoFace` where there is none."""
    detections = parts.detector(photo)
    if not detections:
        raise NoFace(f"{photo.name}: no face found. Use a photo in which the face is larger, upright and unobstructed.")
    return detections


@torch.no_grad()
def complete_face(
    photo: Photo, detection: Detection, parts: Parts, settings: Settings, progress: Progress | None = None
) -> Result:
    """Complete the texture of one detected face.

    Raises `NoFace` if it turns out to be none, and `Cancelled` as soon as `progress` returns False.
    """
    watch = _Stopwatch(photo.name, progress)

    with watch("fit", 0.05):  # its 3D shape, and the camera that took the photo
        reconstruction = parts.reconstructor(photo, detection)
    with watch("segment", 0.15):  # what hides it
        skin = parts.segmenter(photo, reconstruction)
    with watch("bake", 0.25):  # where each texel lies in 3D
        size = (settings.texture_size, settings.texture_size)
        texels = bake_texels(reconstruction, size, parts.rasterise)
    with watch("unwrap", 0.3):  # what the photo shows, and how well
        seen = unwrap(photo.rgb, reconstruction.camera, reconstruction, texels, parts.rasterise, skin)
        seen = without_islands(seen)
        if int((seen.confidence >= TRUSTED).sum()) < 0.01 * seen.confidence.numel():
            raise NoFace(f"{photo.name}: hardly any skin is visible on this face. Use a photo that shows more of it.")
    with watch("complete", 0.4):  # what it does not show
        mode = choose_mode(settings.mode, reconstruction.yaw_deg)
        face = Face(photo, reconstruction, skin, texels, mode)
        face = replace(face, features=feature_texture(face, seen, parts.rasterise))
        atlas = Atlas().add("photo", seen, PHOTO_PRIORITY[mode], "photo")
        completed = parts.completer(face, atlas, settings, watch.within(0.4, 0.75))
    with watch("finish", 0.75):  # the other parts of the head, and colours beyond the border of the chart
        seen, texture = with_features(seen, face), with_features(completed.texture, face)
        topology = reconstruction.topology
        painted = topology.parts is not None or bool(topology.paintable.all())
        bleed_px = size[0] // 64 if painted else 2 * size[0]
        texture = replace(texture, rgb=bleed(texture.rgb, chart_of_parts(texels, topology), bleed_px))
    with watch("frontalise", 0.8):  # the face from the front
        frontal = completed.frontal
        if frontal is None and settings.frontalize:
            frontal = frontal_portrait(reconstruction, texture.rgb, settings.frontal_size, parts)
    with watch("views", 0.9):  # what the contact sheet shows of each view
        completions = completed.completions or picture_views(face, seen, texture, parts)
    report = _report(face, settings, parts, watch.seconds, completed.notes)
    return Result(photo, reconstruction, seen, texture, frontal, completions, report, parts.writer)


def frontal_portrait(shape: Shape, rgb: Tensor, size_px: int, parts: Parts) -> Tensor:
    """[3, R, R]: the face from the front in the FFHQ frame, feathered into a plain background."""
    camera = portrait_camera(shape, 0.0, 0.0, 0.0, size_px)
    return over_background(*render(shape, rgb, camera, parts.rasterise))


def picture_views(face: Face, seen: UVTexture, texture: UVTexture, parts: Parts) -> tuple[Completion, ...]:
    """Each planned view before and after, for completers that work in the texture itself."""
    known = (seen.confidence >= TRUSTED).float()
    shown = seen.rgb * (seen.confidence > -1)
    completions = []
    for view in plan_views(face.mode):
        shot = shoot(face.reconstruction, shown, known, view, _SHEET_VIEW_PX, parts.rasterise)
        after = render(face.reconstruction, texture.rgb, shot.camera, parts.rasterise)
        completions.append(Completion(shot, over_background(*after)))
    return tuple(completions)


@dataclass
class _Stopwatch:
    """Measures the seconds of each stage, reports progress to the caller, and stops when the caller asks for it."""

    name: str
    progress: Progress | None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str, done: float):
        self.report(stage, done)
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 4)

    def report(self, stage: str, done: float) -> None:
        if self.progress is not None and self.progress(stage, done) is False:
            raise Cancelled(f"{self.name}: stopped before {stage!r} because the progress callback returned False.")

    def within(self, low: float, high: float) -> Callable[[str, float], None]:
        """A progress callback for a stage that covers this span of 0..1."""
        return lambda stage, done: self.report(stage, low + (high - low) * done)


def _report(
    face: Face, settings: Settings, parts: Parts, seconds: dict[str, float], notes: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of `NAME.json`."""
    fit, camera = face.reconstruction, face.reconstruction.camera
    return {
        "version": __version__,
        "photo": face.photo.name,
        "sha256": face.photo.sha256,
        "settings": asdict(settings),
        "mode": face.mode,
        "components": dict(parts.names),
        "licences": dict(parts.licences),
        "device": parts.device,
        "weights": dict(parts.weights),
        "camera": {
            **{name: getattr(camera, name).tolist() for name in ("K", "R", "t")},
            "size": list(camera.size),
            "model": camera.model,
        },
        "glb_to_photo": clip_matrix(camera).tolist(),
        **{name: round(getattr(fit, name), 3) for name in ("yaw_deg", "pitch_deg", "roll_deg")},
        "seconds": seconds,
        "loss_terms": notes.get("loss_terms", {}),
        "loss_history": notes.get("loss_history", {}),
        "warnings": list(notes.get("warnings", [])),
    }
