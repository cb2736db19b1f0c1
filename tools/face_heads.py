"""Fit and complete portraits once, so that `tools/face_data.py` can render pictures of them.

python tools/face_heads.py FACES --weights ICT_FOLDER --facemesh facemesh_v2.safetensors --out HEADS [--part test]

FACES holds `index.csv` and portraits; those that descend from StyleGAN2 weights are left out. One file per portrait is
written to HEADS, in an order that is fixed but mixed, so that any number of them is a fair sample; what is there is
not made again. Faces that the network sees askew are left out, with an empty file.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import ostec
from ostec.files.photos import load_photo
from ostec.geometry.align import apply_affine, invert_affine, square_crop
from ostec.geometry.sampling import warp
from ostec.masking.selfie import load_selfie_net, person_mask
from ostec.networks.face import INPUT_PX, FaceNet, load_face_net
from ostec.networks.facemesh_net import FaceMeshNet, landmark_square, load_facemesh_net, mesh_points
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.types import Camera, Photo

LEFT_OUT = "SelfishGene/SFHQ-dataset"
"""Made with StyleGAN2 weights that are not free."""
MESH_POINTS = 468
IRIS_MIRROR = (473, 476, 475, 474, 477, 468, 471, 470, 469, 472)
"""The point of the other eye that each of the ten iris points becomes in a mirrored picture."""
_TEXTURE_PX, _QUALITY = 512, 95
_MOST_YAW_DEG, _LEAST_PRESENCE, _MOST_DISAGREEMENT = 35.0, 0.98, 0.05
"""What is taken: V1 and V2 agree to this share of the distance of the eyes' outer corners, on the median point."""


@dataclass(frozen=True)
class CachedHead:
    """What is kept of a portrait."""

    rgb: NDArray[np.uint8]
    """[H, W, 3], the photo."""
    vertices: NDArray[np.float32]
    """[V, 3], head frame, metres."""
    camera: Camera
    points: NDArray[np.float32]
    """[478, 3]: FaceMesh V2's points, px of the photo."""
    texture: NDArray[np.uint8]
    """[S, S, 3]: completed."""
    skin: NDArray[np.uint8]
    """[M, M]: 255 = surely skin, in a square of the photo."""
    person: NDArray[np.uint8]
    """[M, M]: 255 = this person, hair and clothes included."""
    mask_from_photo: NDArray[np.float32]
    """[2, 3], px."""
    person_in_photo: NDArray[np.uint8]
    """[256, 256]: the same as `person`, of the photo as a whole, stretched to a square."""
    seen: float
    """Share of the texture that the photo shows."""


def listed(faces: Path, part: str) -> list[Path]:
    """The portraits of "train" or "test" that may be used, in mixed order."""
    with (faces / "index.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith(part + "/")]
    names = [row["file"] for row in rows if row["source_repo"] != LEFT_OUT]
    return [faces / name for name in sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())]


def points_in(net: FaceNet, rgb: Tensor, square: tuple[Tensor, float, float], mirror: Tensor) -> tuple[Tensor, float]:
    """Points [P, 3] in px of the photo `rgb` [3, H, W] and the presence logit: means of what the network sees in a crop
    and in its mirror picture.

    `square`: centre [2], side and roll in degrees of the crop. `mirror` [P]: what each point becomes in a mirror
    picture.
    """
    crop_from_photo, side_px = square_crop(*square, INPUT_PX), square[1]
    crop = warp(rgb, crop_from_photo, (INPUT_PX, INPUT_PX))
    with torch.inference_mode():
        points, logits = net(torch.stack([crop, crop.flip(-1)]))
    mirrored = points[1, mirror]
    mirrored[:, 0] = INPUT_PX - mirrored[:, 0]
    mean = (points[0] + mirrored) / 2
    xy = apply_affine(invert_affine(crop_from_photo), mean[:, :2])
    return torch.cat([xy, mean[:, 2:] * (side_px / INPUT_PX)], dim=1), float(logits.mean())


def mirror_map(first: FaceMeshNet) -> Tensor:
    """[478] int64."""
    return torch.cat([first.mirror, torch.tensor(IRIS_MIRROR)])


class HeadMaker:
    """Fits, completes, and gives the arrays of `CachedHead`."""

    def __init__(self, weights: Path, facemesh: Path) -> None:
        self.parts = ostec.load_parts(completer="prior", reconstructor="ict", device="cpu", weights_dir=weights)
        self.first, self.second = load_facemesh_net(), load_face_net(facemesh)
        self.selfie, self.mirror = load_selfie_net(), mirror_map(self.first)

    def __call__(self, path: Path) -> dict[str, NDArray] | None:
        """None where the portrait is of no use here."""
        photo = load_photo(path)
        try:
            result = ostec.complete(photo, self.parts, Settings(texture_size=_TEXTURE_PX, frontalize=False))
            points = self._points(photo, abs(result.reconstruction.yaw_deg), result.reconstruction.landmarks.score)
        except ostec.OstecError:
            return None
        if points is None:
            return None
        head, size = result.reconstruction, photo.size
        skin = self.parts.segmenter(photo, head)
        assert skin.person is not None
        return {
            "photo": _jpeg(photo.rgb),
            "vertices": head.vertices.numpy().astype(np.float32),
            "K": head.camera.K.numpy(),
            "R": head.camera.R.numpy(),
            "t": head.camera.t.numpy(),
            "size": np.array(size),
            "points": points.numpy().astype(np.float32),
            "texture": _jpeg(result.texture.rgb),
            "skin": _bytes(skin.alpha),
            "person": _bytes(skin.person),
            "mask_from_photo": skin.mask_from_photo.numpy().astype(np.float32),
            "person_in_photo": _bytes(person_mask(self.selfie, photo.rgb)),
            "seen": np.array(float((result.seen.confidence >= TRUSTED).float().mean())),
        }

    def _points(self, photo: Photo, yaw_deg: float, presence: float) -> Tensor | None:
        detection = self.parts.detector(photo)[0]
        first, _ = mesh_points(self.first, photo, detection)
        second, _ = points_in(self.second, photo.rgb, landmark_square(first), self.mirror)
        second, _ = points_in(self.second, photo.rgb, landmark_square(second), self.mirror)
        unit = (first[33, :2] - first[263, :2]).norm()
        apart = (first[:, :2] - second[:MESH_POINTS, :2]).norm(dim=1).median() / unit
        good = yaw_deg <= _MOST_YAW_DEG and presence >= _LEAST_PRESENCE and float(apart) <= _MOST_DISAGREEMENT
        return second if good else None


def read_head(path: Path) -> CachedHead | None:
    """What `HeadMaker` made; None where it left the portrait out."""
    with np.load(path, allow_pickle=False) as file:
        if not file.files:
            return None
        a = {name: file[name] for name in file.files}
    size = (int(a["size"][0]), int(a["size"][1]))
    camera = Camera(*(torch.from_numpy(a[name]) for name in ("K", "R", "t")), size)
    pictures = (np.asarray(Image.open(io.BytesIO(a[name].tobytes()))) for name in ("photo", "texture"))
    rgb, texture = pictures
    return CachedHead(
        rgb=rgb,
        vertices=a["vertices"],
        camera=camera,
        points=a["points"],
        texture=texture,
        skin=a["skin"],
        person=a["person"],
        mask_from_photo=a["mask_from_photo"],
        person_in_photo=a["person_in_photo"],
        seen=float(a["seen"]),
    )


def _bytes(values: Tensor) -> NDArray[np.uint8]:
    return (values * 255).round().clamp(0, 255).byte().numpy()


def _jpeg(rgb: Tensor) -> NDArray[np.uint8]:
    stream = io.BytesIO()
    Image.fromarray(_bytes(rgb.movedim(0, -1))).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return np.frombuffer(stream.getvalue(), np.uint8)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="folder with ict_face_model.npz")
    parser.add_argument("--facemesh", type=Path, required=True, help="what tools/convert_face_landmarker.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("train", "test"), default="train")
    parser.add_argument("--most", type=int, default=None, help="portraits looked at")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    make = HeadMaker(options.weights, options.facemesh)
    for path in listed(options.faces, options.part)[: options.most]:
        target = options.out / f"{path.stem}.npz"
        if not target.exists():
            partial = target.with_suffix(".partial")
            with partial.open("wb") as file:
                np.savez(file, **(make(path) or {}))
            os.replace(partial, target)
    print(f"{sum(1 for _ in options.out.glob('*.npz'))} files in {options.out}")


if __name__ == "__main__":
    main()
