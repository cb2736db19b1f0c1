"""Files of face crops, and sheets of them to look at.

A file is an ordinary archive of JPEG pictures with `faces.csv`, which names each one's origin and licence.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

_LIST = "faces.csv"
_COLUMNS = ("file", "licence", "source_repo", "commit", "source_path")
_QUALITY = 93


def read_faces(path: Path, size_px: int) -> Tensor:
    """[N, 3, S, S] uint8, in the order of the file's list. Raises `ValueError` unless S divides their side."""
    faces = []
    with zipfile.ZipFile(path) as archive:
        for row in _rows(archive):
            picture = Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB")
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
            planes = pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)
            faces.append(shrunk(planes, size_px))
    return torch.stack(faces)


def listed(path: Path) -> list[dict[str, str]]:
    """The rows of the file's list: the columns of `index.csv` that name origin and licence."""
    with zipfile.ZipFile(path) as archive:
        return list(_rows(archive))


def _rows(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(archive.read(_LIST).decode()))


def shrunk(picture: Tensor, size_px: int) -> Tensor:
    """[3, R, R] uint8 to [3, S, S] by means over squares."""
    factor, rest = divmod(picture.shape[-1], size_px)
    if factor < 1 or rest:
        raise ValueError(f"pictures of {picture.shape[-1]} px cannot be brought to {size_px} px")
    return picture if factor == 1 else F.avg_pool2d(picture.float()[None], factor)[0].round().byte()


def write_faces(path: Path, faces: Sequence[tuple[Mapping[str, str], Tensor]]) -> None:
    """An archive of pictures [3, S, S], 0..1, each with its row for the list."""
    table = io.StringIO()
    writer = csv.DictWriter(table, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for row, picture in faces:
            name = f"{Path(row['file']).stem}.jpg"
            writer.writerow({**{column: row[column] for column in _COLUMNS}, "file": name})
            coded = io.BytesIO()
            to_image(picture).save(coded, "JPEG", quality=_QUALITY, subsampling=0)
            archive.writestr(zipfile.ZipInfo(name), coded.getvalue())
        archive.writestr(zipfile.ZipInfo(_LIST), table.getvalue())


def to_image(picture: Tensor) -> Image.Image:
    """[3, H, W], 0..1."""
    pixels = (picture.clamp(0, 1) * 255).round().byte().movedim(0, -1).contiguous()
    return Image.fromarray(pixels.numpy())


def sheet(pictures: Sequence[Tensor], columns: int) -> Image.Image:
    """Pictures [3, S, S], 0..1, side by side."""
    rows = [torch.cat(list(pictures[i : i + columns]), dim=2) for i in range(0, len(pictures), columns)]
    width = rows[0].shape[2]
    return to_image(torch.cat([F.pad(row, (0, width - row.shape[2])) for row in rows], dim=1))
