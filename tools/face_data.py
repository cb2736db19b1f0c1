"""Pictures of heads with exact labels, to train the face network on.

python tools/face_data.py HEADS --weights ICT_FOLDER --out SHARDS --shards 40 [--pictures 250] [--seed 0]
python tools/face_data.py HEADS --weights ICT_FOLDER --sheet FILE.png

HEADS is what `tools/face_heads.py` wrote. Shard k is always made of the same random numbers, so the work goes on where
it stopped; a shard that is there is not made again. The arrays of a shard: `pictures` and `parts` (JPEG and PNG files
one after the other, with `picture_ends` and `parts_ends`), `points` [N, P, 3], `seen` [N, P],
`K`, `R`, `t`, `present` [N] and `kind` [N].
"""

from __future__ import annotations

import argparse
import functools
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from face_geometry import Array, FaceShape, Placed, load_shape
from face_heads import MESH_POINTS, CachedHead, read_head
from face_occluders import Layer, clothes, face_mask, glasses, hair, hair_colour, hand, hat, strands, thing
from face_scene import (
    IGNORE,
    PICTURE_PX,
    VISIBLE,
    Canvas,
    Labelled,
    background,
    frame,
    head_layer,
    labelled,
    random_light,
)
from face_sheet import continued_background, sheet_of
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ostec.geometry.camera import angles_deg, rotation

KINDS = ("turned photo", "head", "no face")
SHARES = (0.42, 0.54, 0.04)
MOST_DEG = (40.0, 92.0, 45.0)
"""Largest pitch, yaw and roll."""
DISTANCES_M = (0.35, 2.5)
"""From the camera to the head."""
CHANCES = {"glasses": 0.3, "mask": 0.12, "hat": 0.16, "hand": 0.14, "thing": 0.12, "strands": 0.28}
"""Of what lies over a head, where anything does."""
MOST_TURN_DEG = 65.0
"""A photo that is turned further shows too much that it does not know."""
_TONES = (0.0, 0.36, 0.48, 0.58, 1.01)
"""Bins of mean brightness of the face, drawn from evenly."""
_QUALITY, _FACING = 92, np.diag([1.0, -1.0, -1.0])
_TONE_POINTS = (50, 280, 6, 151)
_COLOURS = np.array(
    [[40, 40, 40], [230, 190, 160], [230, 60, 60], [150, 110, 220], [255, 90, 140], [250, 250, 250]]
    + [[120, 70, 30], [240, 190, 40], [60, 200, 230], [70, 220, 90]]
)


@dataclass(frozen=True)
class Library:
    """The heads that pictures are made of, by tone."""

    shape: FaceShape
    files: tuple[tuple[Path, ...], ...]

    def draw(self, draw: Generator) -> CachedHead:
        """One of them; tones come evenly."""
        tone = [files for files in self.files if files]
        files = tone[draw.integers(len(tone))]
        head = read_head(files[draw.integers(len(files))])
        assert head is not None
        return head


def load_library(heads: Path, shape: FaceShape) -> Library:
    """What is in the folder now, but for the names in its `covered.txt`: faces with glasses or the like, which the
    labels would call skin."""
    listed = heads / "covered.txt"
    covered = set(listed.read_text().split()) if listed.exists() else set[str]()
    bins: list[list[Path]] = [[] for _ in _TONES[1:]]
    for path in sorted(heads.glob("*.npz")):
        tone = None if path.stem in covered else _tone_in(path)
        if tone is not None:
            bins[int(np.searchsorted(_TONES, tone, side="right")) - 1].append(path)
    if not any(bins):
        raise SystemExit(f"{heads} holds no heads; make some with tools/face_heads.py.")
    return Library(shape, tuple(tuple(files) for files in bins))


@functools.cache
def _tone_in(path: Path) -> float | None:
    head = read_head(path)
    return None if head is None else tone_of(head)


def fitted_yaw_deg(head: CachedHead) -> float:
    """Of the head in its photo."""
    return angles_deg(head.camera.R)[1]


def tone_of(head: CachedHead) -> float:
    """Mean brightness of cheeks, nose and forehead in the photo, 0..1."""
    size = np.array(head.rgb.shape[1::-1])
    x, y = head.points[list(_TONE_POINTS), :2].astype(np.int64).clip(3, size - 4).T
    patches = [head.rgb[b - 3 : b + 4, a - 3 : a + 4].mean() for a, b in zip(x, y, strict=True)]
    return float(np.median(patches)) / 255


def make(library: Library, draw: Generator, kind: str | None = None) -> tuple[Labelled, str]:
    """One picture, and of which of `KINDS` it is."""
    kind = kind or str(draw.choice(KINDS, p=SHARES))
    photo, head = kind == "turned photo", library.draw(draw)
    shape, placed = library.shape, library.shape.aligned(head)
    if not photo:
        gaze = rotation(*draw.normal(0, [7, 13, 0])).double().numpy() @ _FACING
        placed = shape.moved(placed, _new_shape(shape, draw), gaze)
    pitch_deg, yaw_deg, roll_deg = angles(draw)
    if photo and abs(yaw_deg - fitted_yaw_deg(head)) > MOST_TURN_DEG:
        yaw_deg *= 0.5
    distance_m = float(np.exp(draw.uniform(*np.log(DISTANCES_M))))
    camera = frame(placed.points, (pitch_deg, yaw_deg, roll_deg), distance_m, draw)
    own = photo and draw.random() < 0.6
    behind = background(draw, continued_background(head if own else library.draw(draw)))
    canvas = Canvas(camera, behind, random_light(draw))
    if kind == "no face":
        return _without_face(canvas, placed, draw), kind
    canvas.draw(head_layer(shape, placed, _texture(head, draw, photo)))
    bare, worn = canvas.depth.copy(), chosen(draw)
    colour = hair_colour(draw)
    if photo:
        sheet, own_colour = sheet_of(shape, head, placed, draw)
        if own_colour is not None:
            colour = own_colour
            canvas.draw(hair(shape, placed, draw, colour, "back"))
        canvas.draw(sheet)
    else:
        canvas.draw(clothes(shape, placed, draw))
        if draw.random() < 0.85:
            canvas.draw(hair(shape, placed, draw, colour, "flat" if "hat" in worn else "full"))
    for layer in occluders(shape, placed, draw, colour, worn):
        canvas.draw(layer)
    made = labelled(canvas, placed, bare)
    return Labelled(damaged(made.rgb, draw), made.parts, made.points, made.seen, made.camera), kind


def chosen(draw: Generator) -> list[str]:
    """What lies over a head: nothing in two of five pictures."""
    if draw.random() < 0.4:
        return []
    worn = [name for name, chance in CHANCES.items() if draw.random() < chance]
    return [name for name in worn if name != "strands" or "hat" not in worn]


def occluders(shape: FaceShape, head: Placed, draw: Generator, colour: Array, worn: list[str]) -> list[Layer]:
    """The layers of what is `worn`, clear lenses last: through them one sees the rest. `colour`: of hair."""
    makers = {
        "glasses": lambda: glasses(shape, head, draw),
        "mask": lambda: face_mask(shape, head, draw),
        "hat": lambda: hat(shape, head, draw),
        "hand": lambda: hand(head, draw),
        "thing": lambda: thing(head, draw),
        "strands": lambda: strands(shape, head, draw, colour),
    }
    layers = [layer for name in worn for layer in makers[name]()]
    return sorted(layers, key=lambda layer: layer.label is None)


def angles(draw: Generator) -> tuple[float, float, float]:
    """Pitch, yaw and roll in degrees: one in five near the front, else all yaws alike."""
    pitch = float(np.clip(draw.normal(0, 15), -MOST_DEG[0], MOST_DEG[0]))
    yaw = float(draw.normal(0, 12)) if draw.random() < 0.2 else float(draw.uniform(-MOST_DEG[1], MOST_DEG[1]))
    roll = float(np.clip(draw.normal(0, 16), -MOST_DEG[2], MOST_DEG[2]))
    return pitch, yaw, roll


def damaged(rgb: Array, draw: Generator) -> Array:
    """As bad cameras and files make it: exposure, colour, blur, few pixels, noise, JPEG."""
    gain = np.exp(draw.normal(0, 0.18)) * np.exp(draw.normal(0, 0.05, 3))
    rgb = np.clip(rgb * gain, 0, 1) ** np.exp(draw.normal(0, 0.15))
    if draw.random() < 0.06:
        rgb = np.repeat(rgb.mean(axis=2, keepdims=True), 3, axis=2)
    if draw.random() < 0.4:
        rgb = ndimage.gaussian_filter(rgb, [*draw.uniform(0, 2.2, 2), 0])
    if draw.random() < 0.35:
        few = int(np.exp(draw.uniform(np.log(50), np.log(PICTURE_PX))))
        image = Image.fromarray((rgb * 255).astype(np.uint8)).resize((few, few), Image.Resampling.BOX)
        rgb = np.asarray(image.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)) / 255.0
    if draw.random() < 0.5:
        rgb = rgb + draw.normal(0, draw.uniform(0, 0.05), rgb.shape)
    image = Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))
    if draw.random() < 0.6:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(draw.integers(20, 95)))
        image = Image.open(stream)
    return np.asarray(image) / 255.0


def _new_shape(shape: FaceShape, draw: Generator) -> Array:
    """[C] to add to a head's own coefficients: another identity, a few expressions."""
    names = shape.model.names
    change = np.zeros(len(shape.basis))
    change[: shape.identities] = draw.normal(0, draw.uniform(0.0, 0.8), shape.identities)
    for k in draw.choice(len(names), size=int(draw.integers(0, 7)), replace=False):
        if not names[k].startswith("eyeLook"):
            change[shape.identities + k] = draw.uniform(0, 0.7)
    if draw.random() < 0.12:
        both = [k for k, name in enumerate(names) if name.startswith("eyeBlink")]
        change[[shape.identities + k for k in both]] = draw.uniform(0.3, 1.0)
    return change


def _texture(head: CachedHead, draw: Generator, photo: bool) -> Array:
    """[S, S, 3]: the head's own; in another tone where the picture is not of its photo."""
    texture = head.texture / 255.0
    if photo:
        return texture
    return np.clip(texture * np.exp(draw.normal(0, 0.25)) * np.exp(draw.normal(0, 0.06, 3)), 0, 1)


def _without_face(canvas: Canvas, head: Placed, draw: Generator) -> Labelled:
    """Background, perhaps with a hand or a thing before it."""
    for layer in [*hand(head, draw), *thing(head, draw)] if draw.random() < 0.5 else []:
        canvas.draw(layer)
    made = labelled(canvas, head, canvas.depth)
    return Labelled(damaged(made.rgb, draw), made.parts, made.points, np.zeros_like(made.seen), made.camera)


def write_shard(path: Path, library: Library, seed: int, pictures: int) -> None:
    """Make one shard; it appears whole or not at all."""
    draw = np.random.default_rng(seed)
    made = [make(library, draw) for _ in range(pictures)]
    jpegs = [_encoded(Image.fromarray(_to_bytes(one.rgb)), "JPEG") for one, _ in made]
    pngs = [_encoded(Image.fromarray(one.parts), "PNG") for one, _ in made]
    cameras = [one.camera for one, _ in made]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(
            file,
            pictures=np.frombuffer(b"".join(jpegs), np.uint8),
            picture_ends=np.cumsum([len(data) for data in jpegs]),
            parts=np.frombuffer(b"".join(pngs), np.uint8),
            parts_ends=np.cumsum([len(data) for data in pngs]),
            points=np.stack([one.points for one, _ in made]).astype(np.float32),
            seen=np.stack([one.seen for one, _ in made]),
            K=torch.stack([camera.K for camera in cameras]).numpy(),
            R=torch.stack([camera.R for camera in cameras]).numpy(),
            t=torch.stack([camera.t for camera in cameras]).numpy(),
            present=np.array([kind != "no face" for _, kind in made]),
            kind=np.array([KINDS.index(kind) for _, kind in made], dtype=np.uint8),
        )
    os.replace(partial, path)


def read_shard(path: Path) -> dict[str, NDArray]:
    """The arrays of a shard; `pictures` [N, S, S, 3] and `parts` [N, S, S] uint8, unpacked."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for name, ends in (("pictures", "picture_ends"), ("parts", "parts_ends")):
        files = np.split(arrays[name], arrays.pop(ends)[:-1])
        arrays[name] = np.stack([np.asarray(Image.open(io.BytesIO(data.tobytes()))) for data in files])
    return arrays


def contact_sheet(library: Library, count: int, seed: int, across: int = 6) -> Image.Image:
    """Pictures beside their labels."""
    draw = np.random.default_rng(seed)
    down = -(-count // across)
    sheet = Image.new("RGB", (across * PICTURE_PX, down * 2 * PICTURE_PX))
    for k in range(count):
        made, _ = make(library, draw)
        image = Image.fromarray(_to_bytes(made.rgb))
        colours = np.concatenate([_COLOURS, np.full((IGNORE + 1 - len(_COLOURS), 3), 128)]).astype(np.uint8)
        labels = Image.blend(image, Image.fromarray(colours[made.parts]), 0.6)
        pen = ImageDraw.Draw(labels)
        for n, ((x, y), seen) in enumerate(zip(made.points[:, :2].tolist(), made.seen.tolist(), strict=True)):
            fill = ("#ff00ff", "#ffa000", "#00ff00" if n < MESH_POINTS else "#ffff00")[seen]
            if seen == VISIBLE or n % 4 == 0:
                pen.ellipse((x - 1, y - 1, x + 1, y + 1), fill=fill)
        place = (k % across * PICTURE_PX, k // across * 2 * PICTURE_PX)
        sheet.paste(image, place)
        sheet.paste(labels, (place[0], place[1] + PICTURE_PX))
    return sheet


def _encoded(image: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **({"quality": _QUALITY} if form == "JPEG" else {}))
    return stream.getvalue()


def _to_bytes(rgb: Array) -> NDArray[np.uint8]:
    return (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("heads", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder with ict_face_model.npz")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=250, help="in each shard")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, default=None, help="write a contact sheet instead")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    shape = load_shape(options.weights)
    if options.sheet:
        contact_sheet(load_library(options.heads, shape), 18, options.seed).save(options.sheet)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for k in range(options.shards):
        path = options.out / f"{options.seed:03d}_{k:04d}.npz"
        if not path.exists():
            library = load_library(options.heads, shape)
            write_shard(path, library, options.seed * 100_003 + k, options.pictures)
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
