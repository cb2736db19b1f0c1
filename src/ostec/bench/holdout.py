"""Hold-out: hide the texels of a frontal photo that a turn of the head would hide, complete them, and compare.

Only texels that the photo shows and the turned head does not are scored. The completer gets the same input as from a
photo of the turned head: texture, camera, angles, and a picture of what is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ostec.bench.gallery import TILE_PX, Setup
from ostec.bench.record import Score
from ostec.bench.scores import blurred, texel_figures
from ostec.geometry.camera import angles_deg, rotation, to_pixels, toward_camera
from ostec.geometry.render import over_background, portrait_camera, render
from ostec.geometry.sampling import sample
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Parts, Rasteriser
from ostec.texture.fill import push_pull
from ostec.texture.unwrap import TRUSTED, unwrap, visibility, without_islands
from ostec.texture.views import PHOTO_PRIORITY
from ostec.types import Atlas, Camera, Detection, Face, Photo, Reconstruction, SkinMask, Texels, UVTexture

YAWS_DEG = (15.0, 30.0, 45.0, 60.0, 75.0)
_PICTURED_YAW_DEG = 45.0
FRONTAL_BELOW_DEG = 8.0
LEAST_SEEN = 0.5
"""Share of the texels that an uncovered face would show at this pose."""
SIDE_LIT_ABOVE = 0.2
"""Mean difference in log brightness between the two sides."""
_JITTER_SHARE = 0.006
"""RMS displacement in the variant "jittered", over the texture's side."""


@dataclass(frozen=True)
class Known:
    """A frontal photo, whose texture is known nearly everywhere."""

    photo: Photo
    reconstruction: Reconstruction
    texels: Texels
    truth: UVTexture
    side_lit: bool


def known_texture(photo: Photo, detection: Detection, parts: Parts, size_px: int) -> Known | None:
    """The photo's texture, or None where it is not frontal or too much of the face is covered."""
    face = parts.reconstructor(photo, detection)
    if abs(face.yaw_deg) >= FRONTAL_BELOW_DEG:
        return None
    texels = bake_texels(face, (size_px, size_px), parts.rasterise)
    bare = shown_from(face, face.camera, texels, parts.rasterise) >= TRUSTED
    skin = parts.segmenter(photo, face)
    seen = without_islands(unwrap(photo.rgb, face.camera, face, texels, parts.rasterise, skin))
    trusted = seen.confidence >= TRUSTED
    if float((trusted & bare).sum()) < LEAST_SEEN * float(bare.sum()):
        return None
    both = trusted & trusted.flip(1)
    grey = seen.rgb.mean(dim=0).clamp(min=0.02).log()
    half = both[:, : both.shape[1] // 2]
    tilt = float((grey - grey.flip(1))[:, : half.shape[1]][half].mean())
    return Known(photo, face, texels, seen, abs(tilt) > SIDE_LIT_ABOVE)


def shown_from(face: Reconstruction, camera: Camera, texels: Texels, rasterise: Rasteriser) -> Tensor:
    """[Hu, Wu]: cosine of each texel that the uncovered face shows to a camera, -1 where the face hides it."""
    points, inside = texels.points[texels.inside], texels.inside
    cosine = (texels.normals[inside] * toward_camera(points, camera)).sum(dim=-1)
    shown = torch.full(inside.shape, -1.0)
    visible = visibility(points, cosine, camera, face, rasterise)
    shown[inside] = torch.where(cosine > 0, cosine * visible, -1.0)
    return shown


def turned(face: Reconstruction, yaw_deg: float) -> Reconstruction:
    """The same head turned to this yaw, seen by the same camera at the same distance."""
    R = rotation(0.0, yaw_deg, 0.0)
    centre = face.vertices.mean(dim=0)
    camera = face.camera
    camera = replace(camera, R=R, t=camera.R @ centre + camera.t - R @ centre)
    pitch, yaw, roll = angles_deg(R)
    landmarks_px = to_pixels(face.vertices[face.topology.landmark_vertices], camera)
    landmarks = replace(face.landmarks, points_px=landmarks_px)
    return replace(face, camera=camera, landmarks=landmarks, pitch_deg=pitch, yaw_deg=yaw, roll_deg=roll)


def hide(known: Known, yaw_deg: float, variant: str, parts: Parts) -> tuple[Face, Atlas]:
    """The input that a completer would get from a photo of the head at this yaw.

    Variants: "plain"; "degraded", with what is left only as sharp as the turned picture; "jittered", with what is left
    displaced as after an error of the landmarks.
    """
    reconstruction = turned(known.reconstruction, yaw_deg)
    shown = shown_from(reconstruction, reconstruction.camera, known.texels, parts.rasterise)
    left = torch.where(shown >= TRUSTED, torch.minimum(shown, known.truth.confidence), -1.0)
    seen = UVTexture(known.truth.rgb * (left > 0), torch.where(left > 0, left, -1.0))
    picture, _ = render(reconstruction, seen.rgb, reconstruction.camera, parts.rasterise)
    if variant == "degraded":
        filled = push_pull(seen.rgb, (left > 0).float())  # otherwise black would leak in at the border
        complete, _ = render(reconstruction, filled, reconstruction.camera, parts.rasterise)
        again = unwrap(complete, reconstruction.camera, reconstruction, known.texels, parts.rasterise)
        seen = replace(seen, rgb=torch.where(again.confidence > -1, again.rgb, seen.rgb))
    elif variant == "jittered":
        seen = displaced(seen, known.photo.name)
    seen = replace(seen, rgb=seen.rgb * (seen.confidence > -1))
    photo = Photo(picture, known.photo.name, known.photo.sha256)
    everywhere = SkinMask(torch.ones(8, 8), torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    face = Face(photo, reconstruction, everywhere, known.texels, "soft")
    return face, Atlas().add("photo", seen, PHOTO_PRIORITY["soft"], "photo")


def displaced(seen: UVTexture, name: str) -> UVTexture:
    """The texture displaced by a smooth random field that depends on the name."""
    height, width = seen.confidence.shape
    noise = torch.randn(2, height, width, generator=torch.Generator().manual_seed(sum(name.encode())))
    field = blurred(noise, width / 16)
    field = field / field.square().mean().sqrt() * _JITTER_SHARE * 2
    y, x = (torch.linspace(-1 + 1 / n, 1 - 1 / n, n) for n in (height, width))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1) + field.movedim(0, -1)
    moved = sample(seen.rgb, grid)
    known = F.grid_sample((seen.confidence > -1).float()[None, None], grid[None], align_corners=False)[0, 0]
    return UVTexture(moved, torch.where(known > 0.99, seen.confidence, -1.0))


def score_hold_out(known: Known, setup: Setup) -> Iterator[Score]:
    """Each method at each yaw, and in the harder variants at 45°; or only the plain case, at `setup.yaws_deg`. The
    photo's name decides the sign.

    The gallery gets a row for 45°: what is left, each method's texture and head, and the truth.
    """
    parts, gallery, yaws_deg = setup.parts, setup.gallery, setup.yaws_deg
    sign = 1 - 2 * (sum(known.photo.name.encode()) % 2)
    cases = [(yaw, "plain", sign) for yaw in yaws_deg or YAWS_DEG]
    if not yaws_deg:
        cases += [(45.0, variant, sign) for variant in ("degraded", "jittered")] + [(45.0, "other side", -sign)]
        cases += [(45.0, "side-lit", sign)] if known.side_lit else []
    for yaw_deg, variant, side in cases:
        face, atlas = hide(known, yaw_deg * side, variant, parts)
        pictured = variant == "plain" and yaw_deg == _PICTURED_YAW_DEG
        seen, truth = atlas.photo, known.truth
        if pictured:
            gallery.show(known.photo.name, f"left at {yaw_deg * side:.0f} deg", seen.rgb)
        for name, method in setup.methods.items():
            start = time.perf_counter()
            done = method(face, atlas, setup.settings, lambda *_: None).texture
            seconds = time.perf_counter() - start
            score = Score("hold-out", name, known.photo.name, yaw_deg, variant=variant, seconds=seconds)
            yield replace(score, **_figures(known, seen, done, setup))
            if pictured:
                _show(setup, known, name, done.rgb, -side)
        if pictured:
            _show(setup, known, "truth", truth.rgb * (truth.confidence >= TRUSTED), -side)


def _figures(known: Known, seen: UVTexture, done: UVTexture, setup: Setup) -> dict[str, float | None]:
    """The figures of a completion, by the names that `Score` has for them."""
    truth, inside = known.truth, known.texels.inside
    left = seen.confidence > -1
    hidden = (truth.confidence >= TRUSTED) & ~left
    complete = torch.where(truth.confidence >= TRUSTED, truth.rgb, done.rgb)
    picture = torch.where(hidden, done.rgb, complete)
    return {
        **texel_figures(done, complete, hidden, left, inside),
        "lpips": setup.networks.lpips_between(picture * inside, complete * inside),
        "identity": setup.networks.identity_between(known.reconstruction, picture, complete, setup.parts),
    }


def _show(setup: Setup, known: Known, caption: str, rgb: Tensor, side: int) -> None:
    """A texture, and the head that wears it turned to `side`."""
    camera = portrait_camera(known.reconstruction, 0.0, _PICTURED_YAW_DEG * side, 0.0, TILE_PX)
    setup.gallery.show(known.photo.name, caption, rgb)
    head = over_background(*render(known.reconstruction, rgb, camera, setup.parts.rasterise))
    setup.gallery.show(known.photo.name, "", head)
