"""A shard of pictures for training, as small as can be."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ostec.geometry.camera import rotation

PICTURE_PX = 320
COUNT, POINTS = 3, 478


def write_small_shard(path: Path, seed: int = 0) -> None:
    """Grey pictures; where points 33 and 263 are, the part map has class 1 and 2 and the picture is red and green."""
    draw = np.random.default_rng(seed)
    points = draw.uniform(90, 230, (COUNT, POINTS, 3)).astype(np.float32)
    points[:, 33, :2], points[:, 263, :2] = draw.uniform(110, 140, (COUNT, 2)), draw.uniform(180, 210, (COUNT, 2))
    y, x = np.mgrid[:PICTURE_PX, :PICTURE_PX] + 0.5
    pictures, parts = [], []
    for n in range(COUNT):
        rgb, label = np.full((PICTURE_PX, PICTURE_PX, 3), 90, np.uint8), np.zeros((PICTURE_PX, PICTURE_PX), np.uint8)
        for k, (point, colour) in enumerate(((33, (250, 0, 0)), (263, (0, 250, 0)))):
            near = np.hypot(x - points[n, point, 0], y - points[n, point, 1]) < 6
            rgb[near], label[near] = colour, k + 1
        for image, files in ((rgb, pictures), (label, parts)):
            stream = io.BytesIO()
            Image.fromarray(image).save(stream, "PNG")
            files.append(stream.getvalue())
    R = torch.stack([rotation(5.0, 20.0 * n, 30.0) for n in range(COUNT)]).numpy()
    np.savez(
        path,
        pictures=np.frombuffer(b"".join(pictures), np.uint8),
        picture_ends=np.cumsum([len(file) for file in pictures]),
        parts=np.frombuffer(b"".join(parts), np.uint8),
        parts_ends=np.cumsum([len(file) for file in parts]),
        points=points,
        seen=np.full((COUNT, POINTS), 2, np.uint8),
        R=R,
        present=np.array([True, True, False]),
    )
