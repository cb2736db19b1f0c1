"""Photos in: every kind of picture file comes out the same; whatever is none is refused by name, with a remedy."""

from __future__ import annotations

import hashlib
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ostec.errors import BadPhoto
from ostec.files.photos import MAX_PIXELS, encode_png, load_photo, to_8_bit
from ostec.types import Photo

HEIGHT, WIDTH = 40, 56


def picture() -> np.ndarray:
    """uint8 [40, 56, 3]: smooth, coloured, no two corners alike."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH]).reshape(2, 1, 1)
    return np.stack([40 + 190 * x, 220 - 170 * y, 60 + 150 * x * y], axis=-1).round().astype(np.uint8)


PICTURE = picture()
IMAGE = Image.fromarray(PICTURE)
GREY = IMAGE.convert("L")
ALPHA = Image.fromarray(np.linspace(0, 255, WIDTH).round().astype(np.uint8)[None].repeat(HEIGHT, 0))
DEEP = np.linspace(0, 65535, HEIGHT * WIDTH).round().astype(np.uint16).reshape(HEIGHT, WIDTH)


def unit(pixels: Any) -> np.ndarray:
    """8-bit pixels as [H, W, 3], 0..1."""
    values = np.asarray(pixels, np.float64) / 255
    return values if values.ndim == 3 else values[..., None].repeat(3, -1)


def over_grey(pixels: Any, alpha: Any) -> np.ndarray:
    opacity = np.asarray(alpha, np.float64)[..., None] / 255
    return unit(pixels) * opacity + 0.5 * (1 - opacity)


def saved(image: Image.Image, **how: Any) -> Callable[[Path], None]:
    return lambda path: image.save(path, **how)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, rows: bytes) -> bytes:
    """An RGB PNG, written by hand."""
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def deep_rgb(path: Path) -> None:
    """The picture in 16 bits per channel."""
    rows = (PICTURE.astype(np.uint16) * 257).astype(">u2")
    path.write_bytes(png(WIDTH, HEIGHT, 16, b"".join(b"\0" + row.tobytes() for row in rows)))


def swapped_profile() -> bytes:
    """sRGB's profile with the names of red and green exchanged."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")
    return profile.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))


def ycck_jpeg(path: Path) -> None:
    """As Photoshop writes CMYK: inverted, no black, and the rest as the YCbCr of its complement."""
    ycc = Image.fromarray(255 - PICTURE).convert("YCbCr").point(lambda value: 255 - value)
    Image.merge("CMYK", [*ycc.split(), Image.new("L", IMAGE.size)]).save(path, quality=97)
    data = bytearray(path.read_bytes())
    data[data.index(b"Adobe") + 11] = 2  # the marker's colour transform: YCCK
    path.write_bytes(data)


def transparent_palette() -> tuple[Image.Image, np.ndarray]:
    """A palette picture whose colour 3 is invisible, and what it looks like over grey."""
    image = IMAGE.quantize(16)
    opaque = (np.asarray(image) != 3) * 255
    return image, over_grey(image.convert("RGB"), opaque)


def frames(**how: Any) -> Callable[[Path], None]:
    others = [Image.new("RGB", IMAGE.size, colour) for colour in ("red", "blue")]
    return saved(IMAGE, save_all=True, append_images=others, **how)


CMYK = Image.merge("CMYK", [*Image.fromarray(255 - PICTURE).split(), Image.new("L", IMAGE.size)])
KEYED = Image.fromarray(np.where(np.arange(WIDTH)[None, :, None] < 10, [1, 2, 3], PICTURE).astype(np.uint8))
KEYED_ALPHA = (np.arange(WIDTH) >= 10)[None].repeat(HEIGHT, 0) * 255
FLOAT = DEEP.astype(np.float32) / 65535
PALETTE, PALETTE_SEEN = transparent_palette()

GOOD: dict[str, tuple[str, Callable[[Path], None], np.ndarray, float]] = {
    "jpeg": ("a.jpg", saved(IMAGE, quality=95), unit(PICTURE), 0.03),
    "suffix in capitals": ("A.PNG", saved(IMAGE, format="PNG"), unit(PICTURE), 0),
    "unicode name": ("Größe 写真.png", saved(IMAGE), unit(PICTURE), 0),
    "wrong suffix": ("a.jpg", saved(IMAGE, format="PNG"), unit(PICTURE), 0),
    "bmp": ("a.bmp", saved(IMAGE), unit(PICTURE), 0),
    "ppm": ("a.ppm", saved(IMAGE), unit(PICTURE), 0),
    "webp": ("a.webp", saved(IMAGE, lossless=True), unit(PICTURE), 0),
    "mpo": ("a.mpo", frames(quality=95), unit(PICTURE), 0.03),
    "animated gif": ("a.gif", frames(), unit(PICTURE), 0.12),
    "animated webp": ("a.webp", frames(lossless=True), unit(PICTURE), 0),
    "animated png": ("a.png", frames(), unit(PICTURE), 0),
    "grey": ("a.png", saved(GREY), unit(GREY), 0),
    "grey jpeg": ("a.jpg", saved(GREY, quality=95), unit(GREY), 0.03),
    "black and white": ("a.png", saved(GREY.convert("1")), unit(GREY.convert("1").convert("L")), 0),
    "grey and alpha": ("a.png", saved(Image.merge("LA", (GREY, ALPHA))), over_grey(unit(GREY) * 255, ALPHA), 0.002),
    "alpha": ("a.png", saved(Image.merge("RGBA", (*IMAGE.split(), ALPHA))), over_grey(PICTURE, ALPHA), 1e-6),
    "alpha webp": (
        "a.webp",
        saved(Image.merge("RGBA", (*IMAGE.split(), ALPHA)), lossless=True, exact=True),
        over_grey(PICTURE, ALPHA),
        1e-6,
    ),
    "colour key": ("a.png", saved(KEYED, transparency=(1, 2, 3)), over_grey(KEYED, KEYED_ALPHA), 0.002),
    "palette": ("a.png", saved(PALETTE), unit(PALETTE.convert("RGB")), 0),
    "palette, one colour invisible": ("a.png", saved(PALETTE, transparency=3), PALETTE_SEEN, 0.002),
    "cmyk jpeg, inverted as Adobe does": ("a.jpg", saved(CMYK, quality=95), unit(PICTURE), 0.03),
    "ycck jpeg": ("a.jpg", ycck_jpeg, unit(PICTURE), 0.04),
    "cmyk tiff, not inverted": ("a.tif", saved(CMYK), unit(PICTURE), 0.005),
    "ycbcr tiff": ("a.tif", saved(IMAGE, compression="jpeg", quality=95), unit(PICTURE), 0.03),
    "lzw tiff": ("a.TIFF", saved(IMAGE, format="TIFF", compression="tiff_lzw"), unit(PICTURE), 0),
    "16-bit grey": ("a.png", saved(Image.fromarray(DEEP)), unit(FLOAT * 255), 1e-6),
    "16-bit grey tiff": ("a.tif", saved(Image.fromarray(DEEP)), unit(FLOAT * 255), 1e-6),
    "16-bit colour": ("a.png", deep_rgb, unit(PICTURE), 1e-6),
    "32-bit integers": ("a.tif", saved(Image.fromarray(DEEP.astype(np.int32))), unit(FLOAT * 255), 1e-6),
    "float 0..1": ("a.tif", saved(Image.fromarray(FLOAT)), unit(FLOAT * 255), 1e-6),
    "float 0..255": ("a.tif", saved(Image.fromarray(FLOAT * 255)), unit(FLOAT * 255), 1e-6),
    "float 0..65535": ("a.tif", saved(Image.fromarray(FLOAT * 65535)), unit(FLOAT * 255), 1e-6),
    "own colour profile": ("a.png", saved(IMAGE, icc_profile=swapped_profile()), unit(PICTURE[..., [1, 0, 2]]), 0.01),
    "own profile and alpha": (
        "a.png",
        saved(Image.merge("RGBA", (*IMAGE.split(), ALPHA)), icc_profile=swapped_profile()),
        over_grey(PICTURE[..., [1, 0, 2]], ALPHA),
        0.01,
    ),
    "srgb profile": (
        "a.png",
        saved(IMAGE, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        unit(PICTURE),
        0,
    ),
    "colour profile on a grey picture": ("a.png", saved(GREY, icc_profile=swapped_profile()), unit(GREY), 0),
    "damaged colour profile": ("a.png", saved(IMAGE, icc_profile=b"not a profile"), unit(PICTURE), 0),
    "damaged EXIF": ("a.png", saved(IMAGE, exif=b"Exif\0\0MM\0*\0\0\xff\xffgarbage"), unit(PICTURE), 0),
}


@pytest.mark.parametrize("case", GOOD)
def test_every_kind_of_picture(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    name, save, expected, tolerance = GOOD[case]
    path = tmp_path / name
    save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        photo = load_photo(path)
    assert photo.rgb.dtype == torch.float32 and photo.rgb.is_contiguous()
    assert photo.size == (HEIGHT, WIDTH)
    assert np.abs(photo.rgb.permute(1, 2, 0).numpy() - expected).max() <= tolerance + 1e-7
    assert photo.name == str(path)
    assert photo.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert capfd.readouterr() == ("", "")


TURNED = {
    1: PICTURE,
    2: PICTURE[:, ::-1],
    3: PICTURE[::-1, ::-1],
    4: PICTURE[::-1],
    5: PICTURE.swapaxes(0, 1),
    6: PICTURE.swapaxes(0, 1)[::-1],
    7: PICTURE.swapaxes(0, 1)[::-1, ::-1],
    8: PICTURE.swapaxes(0, 1)[:, ::-1],
}
"""EXIF: where the first row and the first column of what is stored belong in the upright picture."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_photos_come_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    how: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "jpg": {"quality": 97, "subsampling": 0}}
    stored.save(tmp_path / f"x.{suffix}", exif=exif, **how.get(suffix, {}))
    photo = load_photo(tmp_path / f"x.{suffix}")
    assert photo.size == (HEIGHT, WIDTH)
    assert np.abs(photo.rgb.permute(1, 2, 0).numpy() - unit(PICTURE)).max() < (0.02 if suffix == "jpg" else 1e-6)


def test_a_path_an_image_and_an_array_give_the_same(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "x.png")
    from_file = load_photo(str(tmp_path / "x.png"))
    from_image, from_array = load_photo(IMAGE), load_photo(PICTURE)
    for photo in (from_image, from_array, load_photo(Image.open(tmp_path / "x.png"))):
        assert torch.equal(photo.rgb, from_file.rgb)
        assert photo.sha256 == hashlib.sha256(PICTURE.tobytes()).hexdigest()
    assert load_photo(from_file) is from_file
    assert Path(load_photo(Image.open(tmp_path / "x.png")).name).stem == "x"


def test_an_array_may_be_a_read_only_view() -> None:
    view = PICTURE[::-1, ::-1]
    view.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(load_photo(view).rgb, load_photo(PICTURE).rgb.flip(1, 2))
    assert np.array_equal(PICTURE, picture())


def test_an_image_is_left_as_it_was(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    IMAGE.save(tmp_path / "x.png", exif=exif)
    image = Image.open(tmp_path / "x.png")
    assert load_photo(image).size == (WIDTH, HEIGHT)
    assert image.size == (WIDTH, HEIGHT) and image.getexif()[0x0112] == 6


def test_pictures_above_the_decoders_warning_level_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    IMAGE.save(tmp_path / "x.png")
    assert load_photo(tmp_path / "x.png").size == (HEIGHT, WIDTH)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_png_and_8_bit_are_inverse(grey: float) -> None:
    every_value = np.arange(256, dtype=np.uint8).repeat(64 * 3).reshape(128, 128, 3)
    rgb = torch.from_numpy(every_value).permute(2, 0, 1) / 255
    read = Image.open(BytesIO(encode_png(rgb)))
    assert np.array_equal(np.asarray(read), every_value)
    assert read.info["srgb"] == 0
    assert (to_8_bit(torch.full((3, 4, 4), grey)) == int(grey * 255 + 0.5)).all()
    assert to_8_bit(torch.tensor([[[-0.1]], [[1.4999 / 255]], [[1.1]]])).tolist() == [[[0, 1, 255]]]


def bytes_of(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def damaged_tiff() -> bytes:
    """One that makes libtiff speak up."""
    data = bytearray(bytes_of(IMAGE.resize((512, 512)), "TIFF", compression="tiff_lzw"))
    data[len(data) // 2 : len(data) // 2 + 50] = bytes(50)
    return bytes(data)


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("a.jpg", b"", "empty"),
    "text": ("a.jpg", b"Dear Sir or Madam,\n" * 20, "not a picture"),
    "noise": ("a.png", NOISE.tobytes(), "not a picture"),
    "only a signature": ("a.png", b"\x89PNG\r\n\x1a\n", "not a picture"),
    "heic": ("a.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "JPEG or PNG"),
    "postscript": ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n", "not a picture"),
    "truncated jpeg": ("a.jpg", bytes_of(IMAGE, "JPEG", quality=95)[:-300], "damaged or incomplete"),
    "truncated png": ("a.png", bytes_of(Image.fromarray(NOISE), "PNG")[:-3000], "damaged or incomplete"),
    "truncated gif": ("a.gif", bytes_of(IMAGE, "GIF")[:-900], "damaged or incomplete"),
    "truncated webp": ("a.webp", bytes_of(Image.fromarray(NOISE), "WEBP")[:-900], "damaged or incomplete"),
    "truncated tiff": ("a.tif", bytes_of(IMAGE, "TIFF")[:2000], "a.tif"),
    "damaged tiff": ("a.tif", damaged_tiff(), "damaged or incomplete"),
    "huge": ("a.png", png(60000, 60000, 8, b"\0"), "megapixels"),
    "too many pixels": ("a.png", png(MAX_PIXELS // 100 + 1, 100, 8, b"\0"), "megapixels"),
    "tiny": ("a.png", bytes_of(IMAGE.resize((31, 400)), "PNG"), "31 x 400 px"),
}


def check_refused(source: Any, name: str, about: str) -> None:
    with pytest.raises(BadPhoto) as caught:
        load_photo(source)
    message = str(caught.value)
    assert message.startswith(name) and about in message
    assert message.endswith(".") and message.count(". ") >= 1, "what is wrong. What to do."


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_photo_is_refused(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]) -> None:
    name, data, about = BAD[case]
    (tmp_path / name).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_refused(tmp_path / name, f"{tmp_path / name}: ", about)
    assert capfd.readouterr().out == ""


def odd_tiff() -> bytes:
    """A good picture with a tag that Pillow warns of: it claims more data than the file has."""
    data = bytearray(bytes_of(IMAGE, "TIFF", tiffinfo={305: "a program's name"}))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry) == (305,):
            struct.pack_into("<I", data, entry + 4, 1 << 20)
    return bytes(data)


def test_threads_that_decode_tiffs_leave_stderr_and_warnings_as_they_were(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "damaged.tif").write_bytes(damaged_tiff())
    (tmp_path / "odd.tif").write_bytes(odd_tiff())
    filters, stderr = list(warnings.filters), os.fstat(2)

    def load(name: str) -> str:
        try:
            return str(load_photo(tmp_path / name).size)
        except BadPhoto as error:
            return str(error)

    names = ["odd.tif", "damaged.tif"] * 200
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(load, names))
    assert set(answers[::2]) == {str((HEIGHT, WIDTH))}
    assert all("damaged or incomplete" in answer for answer in answers[1::2])
    assert os.path.samestat(os.fstat(2), stderr)
    os.write(2, b"still heard")
    assert capfd.readouterr().err.endswith("still heard")
    assert list(warnings.filters) == filters


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    check_refused(tmp_path / "no" / "such.jpg", str(tmp_path / "no" / "such.jpg"), "no such file")
    check_refused(tmp_path, str(tmp_path), "folder")
    check_refused("", ".", "folder")
    check_refused("a\0b.jpg", "a\0b.jpg", "cannot be read")
    check_refused("x" * 5000 + ".jpg", "xxx", "cannot be read")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    check_refused(tmp_path / "loop.jpg", str(tmp_path / "loop.jpg"), "cannot be read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    check_refused(tmp_path / "x.jpg", str(tmp_path / "x.jpg"), "device")


needs_permissions = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user"
)


@needs_permissions
def test_without_permission(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "x.png")
    (tmp_path / "x.png").chmod(0)
    check_refused(tmp_path / "x.png", str(tmp_path / "x.png"), "permission")


@pytest.mark.parametrize(
    ("source", "about"),
    [
        (PICTURE / 255.0, "uint8, 0..255. Values 0..1 become"),
        (PICTURE.astype(np.int64), "Give uint8"),
        (PICTURE[..., 0], "[40, 56]"),
        (PICTURE.transpose(2, 0, 1), "[height, width, 3]"),
        (np.zeros((50, 50, 4), np.uint8), "[50, 50, 4]"),
        (np.zeros((0, 50, 3), np.uint8), "50 x 0 px"),
        (None, "NoneType"),
        (b"\xff\xd8", "bytes"),
        (torch.zeros(3, 50, 50), "Tensor"),
        (Photo(torch.zeros(50, 50, 3), "mine"), "[3, H, W]"),
        (Photo(torch.full((3, 50, 50), 255.0), "mine"), "0..1"),
        (Photo(torch.full((3, 50, 50), float("nan")), "mine"), "0..1"),
        (Photo(torch.zeros(3, 50, 50, dtype=torch.uint8), "mine"), "float32"),
        (Photo(torch.zeros(3, 50, 5), "mine"), "5 x 50 px"),
        (Image.new("RGB", (10, 10)), "10 x 10 px"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_values_are_refused(source: Any, about: str) -> None:
    check_refused(source, "", about)
