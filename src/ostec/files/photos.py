"""Photos in, files out: the only place that knows of EXIF, colour profiles, pixel formats and temporary files."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO
from uuid import uuid4

import numpy as np
import torch
from PIL import Image, ImageCms, ImageDraw, ImageFont, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ostec.errors import BadPhoto, CannotWrite
from ostec.types import Photo

MIN_SIDE_PX = 32
MAX_PIXELS = 178_956_970
"""Pillow's own limit, twice the size at which it warns; takes 3 GB of memory at the peak."""

PHOTO_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".ppm")
    + (".pgm", ".jp2", ".avif", ".heic", ".heif")
)
"""Suffixes of photos in a folder; HEIC is among them so that such files are reported and not skipped silently."""
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Pillow's names; its other formats run programs (EPS) or are not photos. HEIF needs a plug-in of Pillow."""

_EXIF_ORIENTATION = 0x0112
_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STRIP_ROWS = 256
_PNG_LEVEL = 2
_FRAME_MS = 80

_WRITE_REMEDIES = {
    errno.ENOSPC: "Free some disk space or choose another folder.",
    errno.EACCES: "Allow writing there or choose another folder.",
    errno.EPERM: "Allow writing there or choose another folder.",
    errno.EEXIST: "A file is where a folder should be: move it or choose another folder.",
    errno.ENOTDIR: "A file is where a folder should be: move it or choose another folder.",
    errno.EISDIR: "A folder has the file's name: move it or choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
}


def load_photo(source: str | os.PathLike[str] | Image.Image | np.ndarray | Photo) -> Photo:
    """Read a photo, upright and in sRGB.

    A path, a PIL image, a uint8 array [H, W, 3] RGB, or a `Photo`, which is only checked. EXIF orientation is applied
    and an embedded colour profile converted to sRGB. Transparent parts become mid-grey: at soft edges that tints skin
    less than white or black would. Of several frames the first is taken, of a PIL image the current one. 16-bit grey
    is scaled by 65535; 32-bit float by 1, 255 or 65535, whichever its largest value fits.

    Raises `BadPhoto` where there is no such picture, or one that is damaged, under 32 px or over `MAX_PIXELS`.
    """
    if isinstance(source, Photo):
        return _checked(source)
    if isinstance(source, np.ndarray):
        return _photo_from_array(source)
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "")) or "image"
        rgb = _decode(lambda: source, name)
        return Photo(rgb, name, hashlib.sha256(to_8_bit(rgb).data).hexdigest())
    if isinstance(source, str | os.PathLike):
        return _photo_from_file(Path(source))
    raise BadPhoto(
        f"a {type(source).__name__} is not a photo. Give a path, a PIL image, a uint8 array [H, W, 3] RGB or a Photo."
    )


def find_photos(source: Path, recursive: bool = False) -> list[Path]:
    """The photos of a folder, sorted, by suffix in any case; hidden files and folders and linked folders are skipped.

    A `source` that is a file counts as a photo whatever its suffix. Raises `BadPhoto` where nothing is there, or a
    folder cannot be listed.
    """
    if not os.path.isdir(source):
        if os.path.lexists(source):
            return [source]
        raise BadPhoto(f"{source}: no such file or folder. Check the spelling.")

    def complain(error: OSError) -> None:
        raise BadPhoto(
            f"{error.filename}: this folder cannot be listed ({error.strerror}). Allow reading it or move it elsewhere."
        ) from error

    photos: list[Path] = []
    for folder, subfolders, files in os.walk(source, onerror=complain):
        subfolders[:] = [name for name in subfolders if recursive and not name.startswith(".")]
        visible = (Path(folder, name) for name in files if not name.startswith("."))
        photos += [path for path in visible if path.suffix.lower() in PHOTO_SUFFIXES]
    return sorted(photos)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is never left half written, even if the program is killed; makes its folder if needed.

    Raises `CannotWrite`, in which case no temporary file is left and an existing file is unchanged.
    """
    temporary = path.with_name(f".ostec-{_this_machine()}-{os.getpid()}-{uuid4().hex[:12]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


def remove(path: Path) -> None:
    """Delete a file, if there is one. Raises `CannotWrite`."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """The error to raise from `error`, with the file, the reason and the remedy."""
    remedy = _WRITE_REMEDIES.get(error.errno or 0, "Choose another folder.")
    return CannotWrite(f"{path}: cannot be written: {error.strerror or error}. {remedy}")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of `write_atomically` that killed programs left in `folder`."""
    for path in folder.glob(".ostec-*-*-*.tmp"):
        with suppress(OSError, ValueError):
            _, machine, process, _ = path.name.split("-")
            orphaned = machine == _this_machine() and not _is_running(int(process))
            if orphaned or time.time() - path.stat().st_mtime > 3600:
                path.unlink()


def to_8_bit(rgb: Tensor) -> np.ndarray:
    """[3, H, W] 0..1 -> uint8 [H, W, 3], rounded to nearest; values outside the range are clipped."""
    return rgb.detach().cpu().clamp(0, 1).mul_(255).add_(0.5).byte().permute(1, 2, 0).contiguous().numpy()


def encode_png(rgb: Tensor) -> bytes:
    """[3, H, W] sRGB 0..1 -> an 8-bit PNG file marked as sRGB."""
    marks = PngInfo()
    marks.add(b"sRGB", b"\0")
    file = BytesIO()
    Image.fromarray(to_8_bit(rgb)).save(file, "PNG", compress_level=_PNG_LEVEL, pnginfo=marks)
    return file.getvalue()


def encode_gif(frames: Iterable[Tensor]) -> bytes:
    """[3, H, W] 0..1 each -> a GIF file in an endless loop. Raises `ValueError` where there is no frame."""
    first, *others = (Image.fromarray(to_8_bit(frame)).quantize(256) for frame in frames)
    file = BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=_FRAME_MS, loop=0)
    return file.getvalue()


def encode_sheet(rows: Sequence[Sequence[tuple[str, Tensor]]]) -> bytes:
    """Rows of (caption, [3, h, w] 0..1) -> a JPEG file with each picture under its caption."""
    gap_px, caption_px, paper, ink = 8, 22, (255, 255, 255), (32, 32, 32)
    widths = [sum(tile.shape[2] + gap_px for _, tile in row) for row in rows]
    heights = [max((tile.shape[1] for _, tile in row), default=0) + caption_px + gap_px for row in rows]
    sheet = Image.new("RGB", (max(widths, default=0) + gap_px, sum(heights) + gap_px), paper)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for row, top in zip(rows, np.cumsum([gap_px, *heights[:-1]]).tolist(), strict=True):
        left = gap_px
        for caption, tile in row:
            draw.text((left, top), caption, ink, font)
            sheet.paste(Image.fromarray(to_8_bit(tile)), (left, top + caption_px))
            left += tile.shape[2] + gap_px
    file = BytesIO()
    sheet.save(file, "JPEG", quality=90)
    return file.getvalue()


def _checked(photo: Photo) -> Photo:
    rgb = photo.rgb
    if rgb.ndim != 3 or rgb.shape[0] != 3 or rgb.dtype != torch.float32:
        raise BadPhoto(f"{photo.name}: rgb is {rgb.dtype} {list(rgb.shape)}. Give float32 [3, H, W], sRGB 0..1.")
    _check_size((rgb.shape[2], rgb.shape[1]), photo.name)
    low, high = (value.item() for value in rgb.aminmax())
    if not (low >= 0 and high <= 1):
        raise BadPhoto(f"{photo.name}: rgb has values from {low:g} to {high:g}. Give float32 [3, H, W], sRGB 0..1.")
    return photo


def _photo_from_array(array: np.ndarray) -> Photo:
    if array.dtype != np.uint8:
        hint = " Values 0..1 become that by (array * 255).round()." if array.dtype.kind == "f" else ""
        raise BadPhoto(f"array: its values are {array.dtype}. Give uint8, 0..255.{hint}")
    if array.ndim != 3 or array.shape[2] != 3:
        raise BadPhoto(f"array: its shape is {list(array.shape)}. Give [height, width, 3], red first.")
    height, width = array.shape[:2]
    _check_size((width, height), "array")
    rgb = _planes((width, height), lambda top, bottom: array[top:bottom].copy(), 255)
    return Photo(rgb, "array", hashlib.sha256(np.ascontiguousarray(array).data).hexdigest())


def _photo_from_file(path: Path) -> Photo:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadPhoto(f"{path}: a folder or device, not a picture file. Name a JPEG or PNG file.")
        if status.st_size == 0:
            raise BadPhoto(f"{path}: the file is empty. Copy it again from where it came from.")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Photo(_decode(lambda: _open_image(file), str(path)), str(path), digest)
    except FileNotFoundError as error:
        raise BadPhoto(f"{path}: no such file. Check the spelling.") from error
    except PermissionError as error:
        raise BadPhoto(f"{path}: no permission to read it. Change the file's permissions.") from error
    except (OSError, ValueError) as error:
        raise BadPhoto(f"{path}: cannot be read: {error}. Check the file name and the disk.") from error


def _open_image(file: IO[bytes]) -> Image.Image:
    for register_formats in (Image.preinit, Image.init):
        register_formats()
        with suppress(UnidentifiedImageError):
            return Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
    raise UnidentifiedImageError


def _decode(open_image: Callable[[], Image.Image], name: str) -> Tensor:
    """[3, H, W], upright, sRGB 0..1. Whatever the decoder raises becomes `BadPhoto`.

    Pillow's warnings and libtiff's messages on stderr pass through: only changes that concern the whole process, and
    so every other thread, could silence them.
    """
    try:
        image = open_image()
        _check_size(image.size, name)
        image.load()
        image = _upright(image)
        return _planes(image.size, *_strip_reader(image))
    except BadPhoto:
        raise
    except UnidentifiedImageError as error:
        raise BadPhoto(
            f"{name}: not a picture in a format that can be read here, or its beginning is damaged. "
            "Save it as JPEG or PNG in the program that opens it."
        ) from error
    except Image.DecompressionBombError as error:
        raise BadPhoto(f"{name}: more than {MAX_PIXELS / 1e6:.0f} megapixels. Scale it down.") from error
    except Exception as error:
        raise BadPhoto(
            f"{name}: damaged or incomplete ({error}). Copy it again from where it came from, or save it anew."
        ) from error


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if min(size) < MIN_SIDE_PX:
        raise BadPhoto(f"{name}: {width} x {height} px. A photo needs at least {MIN_SIDE_PX} px on each side.")
    if width * height > MAX_PIXELS:
        raise BadPhoto(f"{name}: {width} x {height} px is more than {MAX_PIXELS / 1e6:.0f} megapixels. Scale it down.")


def _upright(image: Image.Image) -> Image.Image:
    turn = None
    with suppress(Exception):  # a damaged EXIF block raises anything
        turn = _TURN_UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _planes(size: tuple[int, int], read: Callable[[int, int], np.ndarray], white: float) -> Tensor:
    """[3, H, W] from strips `read(top, bottom)`, [rows, W, 1 or 3] with values 0..white; strips save memory."""
    width, height = size
    planes = torch.empty(3, height, width)
    for top in range(0, height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, height)
        planes[:, top:bottom].copy_(torch.from_numpy(read(top, bottom)).permute(2, 0, 1)).div_(white)
    return planes


def _strip_reader(image: Image.Image) -> tuple[Callable[[int, int], np.ndarray], float]:
    """Arguments of `_planes`: a function that gives rows of the image, [rows, W, 1 or 3], and the value of white."""

    def crop(top: int, bottom: int) -> Image.Image:
        return image.crop((0, top, image.width, bottom))

    if image.mode[0] in "IF":
        white = _white_level(image)

        def read_deep(top: int, bottom: int) -> np.ndarray:
            values = np.asarray(crop(top, bottom)).astype(np.float32)
            return np.nan_to_num(values, nan=0.0).clip(0, white)[..., None]

        return read_deep, white

    transparent = image.has_transparency_data
    mode = "RGBA" if transparent else image.mode if image.mode in ("L", "CMYK") else "RGB"
    to_srgb = _srgb_transform(image.info.get("icc_profile"), mode)

    def read(top: int, bottom: int) -> np.ndarray:
        strip = crop(top, bottom).convert(mode)
        if to_srgb is not None:
            strip = ImageCms.applyTransform(strip, to_srgb)
            assert strip is not None
        if not transparent:
            return np.array(strip.convert("RGB"))
        pixels = np.asarray(strip)
        alpha = pixels[..., 3:] / np.float32(255)
        return pixels[..., :3] * alpha + np.float32(127.5) * (1 - alpha)

    return read, 255.0


def _white_level(image: Image.Image) -> float:
    """The value of white in a picture of 16-bit integers, 32-bit integers or 32-bit floats."""
    if image.mode.startswith("I;16"):
        return 65535.0
    values = np.asarray(image)
    peak = float(np.max(values, where=np.isfinite(values), initial=0))
    if image.mode == "I":
        return 65535.0 if peak <= 65535 else 2.0**31 - 1
    return 1.0 if peak <= 2 else 255.0 if peak <= 255 else max(peak, 65535.0)


def _srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From the colours of an ICC profile to sRGB; None where the profile is sRGB or unusable."""
    if not profile:
        return None
    with suppress(ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError):
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "sRGB" not in ImageCms.getProfileDescription(source):
            srgb = ImageCms.createProfile("sRGB")
            result = "RGBA" if mode == "RGBA" else "RGB"
            flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
            return ImageCms.buildTransform(source, srgb, mode, result, ImageCms.Intent.RELATIVE_COLORIMETRIC, flags)
    return None


def _this_machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "here"


def _is_running(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process; a file in use cannot be removed anyway
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
