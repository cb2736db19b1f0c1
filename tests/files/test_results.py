"""Files out: whole or not at all, the report last, and nothing in them that another program could not read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image, ImageSequence
from synthetic import head, paint, photograph

from ostec.errors import BadSettings, CannotWrite
from ostec.files import photos, results
from ostec.files.photos import encode_sheet, remove_leftovers, to_8_bit, write_atomically
from ostec.settings import FORMATS
from ostec.types import Completion, Result, Shot, UVTexture, View

SHEET = [[("photo", torch.rand(3, 64, 64)), ("40° right", torch.rand(3, 64, 48))], [("wide", torch.rand(3, 20, 200))]]


def make_result(frontal: bool = False, **report: Any) -> Result:
    """A painted head with two completed views, of which one came from a search."""
    face, texture = head(size=64), paint(64)
    seen = UVTexture(texture, torch.linspace(-1, 1, 64 * 64).view(64, 64))
    completions = tuple(
        Completion(
            Shot(View(name, 0, yaw, 0, 1), paint(32), torch.rand(32, 32), torch.zeros(68, 2), face.camera),
            paint(32, symmetric=True),
            latent,
            history,
        )
        for name, yaw, latent, history in (("left", -40, None, ()), ("right", 40, torch.rand(18, 512), (3.0, 2.0)))
    )
    return Result(
        photograph(face, texture),
        face,
        seen,
        UVTexture(texture, seen.confidence.clamp(min=0)),
        paint(48) if frontal else None,
        completions,
        {"sha256": "00", "settings": {"keep_intermediate": False}, **report},
        results.FileWriter(lambda result: SHEET),
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["photo", "two words", "Größe 写真 #1.jpg"])
def test_everything_lies_where_it_is_said_to(tmp_path: Path, name: str) -> None:
    result = make_result(frontal=True)
    files = result.save(tmp_path / "new" / "folder", name)
    endings = {
        "png": ".png",
        "obj": ".obj",
        "mtl": ".mtl",
        "glb": ".glb",
        "frontal": "_frontal.png",
        "sheet": "_sheet.jpg",
        "json": ".json",
    }
    assert {kind: path.name for kind, path in files.items()} == {kind: name + end for kind, end in endings.items()}
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {path.name for path in files.values()}
    assert np.array_equal(np.asarray(Image.open(files["png"])), to_8_bit(result.texture.rgb))
    assert Image.open(files["frontal"]).size == (48, 48)
    for kind in ("obj", "glb"):
        mesh = trimesh.load(files[kind], force="mesh")
        assert isinstance(mesh, trimesh.Trimesh)
        visual: Any = mesh.visual
        image = visual.material.image if kind == "obj" else visual.material.baseColorTexture
        assert np.array_equal(np.asarray(image.convert("RGB")), to_8_bit(result.texture.rgb))
        assert np.allclose(mesh.bounds, [c.tolist() for c in result.reconstruction.vertices.aminmax(dim=0)], atol=1e-6)


def test_only_the_formats_asked_for(tmp_path: Path) -> None:
    result = make_result()
    assert set(result.save(tmp_path, "a", ("png",))) == {"png", "sheet", "json"}
    assert set(result.save(tmp_path, "b", ("glb",))) == {"glb", "sheet", "json"}
    assert set(result.save(tmp_path, "c", ("obj",))) == {"png", "obj", "mtl", "sheet", "json"}
    with pytest.raises(BadSettings, match="'usd'; there is png, obj, glb"):
        result.save(tmp_path, "d", ("png", "usd"))
    assert not list(tmp_path.glob("d*"))


def test_the_name_defaults_to_the_photo_s(tmp_path: Path) -> None:
    assert make_result().save(str(tmp_path))["json"] == tmp_path / "synthetic.json"


def test_encoding_needs_no_folder_and_gives_what_saving_writes(tmp_path: Path) -> None:
    result = make_result(frontal=True, settings={"keep_intermediate": True})
    encoded = result.encode("a")
    assert list(encoded)[-1] == "a.json" and not list(tmp_path.iterdir())
    result.save(tmp_path, "a")
    assert encoded == contents(tmp_path)
    assert set(result.encode(formats=("glb",))) >= {"synthetic.glb", "synthetic.json"}
    assert "synthetic.png" not in result.encode(formats=("glb",))
    with pytest.raises(BadSettings, match="'usd'"):
        result.encode("a", ("usd",))


@pytest.mark.parametrize("name", ["..", "a/b", "../a", "a\\b", "a\nb", "a\0b"])
def test_names_that_are_no_file_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotWrite, match="cannot be used as a file name"):
        make_result().save(tmp_path / "out", name)
    assert not list(tmp_path.iterdir())


def test_the_report_is_strict_json_in_ascii(tmp_path: Path) -> None:
    result = make_result(
        photo="Größe \udcff.jpg",
        loss=[float("nan"), 1.5, -float("inf")],
        camera={"K": torch.eye(2), "size": (4, np.int64(5))},
        path=Path("x"),
        licences={"weights": "MIT"},
    )
    report = json.loads(result.save(tmp_path, "x")["json"].read_bytes().decode("ascii"), parse_constant=pytest.fail)
    assert report["photo"] == "Größe \udcff.jpg"
    assert report["loss"] == [None, 1.5, None]
    assert report["camera"] == {"K": [[1, 0], [0, 1]], "size": [4, 5]}
    assert report["path"] == "x"
    assert report["files"] == {kind: f"x{end}" for kind, end in zip(FORMATS, (".png", ".obj", ".glb"), strict=True)} | {
        "mtl": "x.mtl",
        "sheet": "x_sheet.jpg",
    }


def test_intermediate_data_need_no_pickle(tmp_path: Path) -> None:
    result = make_result(settings={"keep_intermediate": True})
    with np.load(result.save(tmp_path, "x")["npz"], allow_pickle=False) as kept:
        arrays = dict(kept)
    assert arrays["views"].tolist() == ["left", "right"]
    assert np.array_equal(arrays["seen_confidence"], result.seen.confidence)
    assert np.array_equal(arrays["confidence"], result.texture.confidence)
    assert "left_latent" not in arrays
    latent = result.completions[1].latent
    assert latent is not None and np.array_equal(arrays["right_latent"], latent)
    assert arrays["right_loss"].tolist() == [3, 2]
    assert np.array_equal(arrays["right_completed"], to_8_bit(result.completions[1].image))
    assert arrays["left_mask"].shape == (32, 32)
    assert np.array_equal(arrays["left_K"], result.reconstruction.camera.K)


def test_a_film_shows_what_was_known_beside_what_was_found(tmp_path: Path) -> None:
    result = make_result()
    frames = torch.stack([torch.full((3, 32, 32), shade, dtype=torch.uint8) for shade in (40, 120, 200)])
    left, right = result.completions
    result = replace(result, completions=(left, replace(right, film=frames)))
    with Image.open(result.save(tmp_path, "x")["film"]) as film:
        shown = [np.asarray(frame.convert("RGB"))[:, 32:].astype(int) for frame in ImageSequence.all_frames(film)]
        assert film.size == (64, 32)
    for frame, shade in zip(shown, (40, 120, 200), strict=True):
        assert abs(frame - shade).max() <= 12


def test_each_picture_is_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = []
    monkeypatch.setattr(results, "encode_png", lambda rgb: count.append(1) or photos.encode_png(rgb))
    make_result(frontal=True).save(tmp_path, "x", FORMATS)
    assert len(count) == 2


def test_a_report_stands_for_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write fails, there is no report, neither the new one nor the old."""
    result = make_result(frontal=True)
    files = [path.name for path in result.save(tmp_path, "x").values()]
    assert files[-1] == "x.json"
    for number, file in enumerate(files):
        result.save(tmp_path, "x")

        def write(path: Path, data: bytes, failing: str = file) -> None:
            if path.name == failing:
                raise CannotWrite("full")
            write_atomically(path, data)

        monkeypatch.setattr(results, "write_atomically", write)
        with pytest.raises(CannotWrite):
            result.save(tmp_path, "x")
        assert not (tmp_path / "x.json").exists()
        assert len(contents(tmp_path)) == len(files) - 1, number
        monkeypatch.undo()


def test_the_sheet_has_every_tile_where_it_belongs() -> None:
    rows = [[("a", torch.full((3, 64, 64), shade)) for shade in (0.1, 0.5)], [("b", torch.full((3, 20, 200), 0.9))]]
    sheet = np.asarray(Image.open(BytesIO(encode_sheet(rows))).convert("L")).astype(int)
    assert sheet.shape == (8 + 22 + 64 + 8 + 22 + 20 + 8, 8 + 200 + 8)
    for top, left, height, width, shade in ((30, 8, 64, 64, 0.1), (30, 80, 64, 64, 0.5), (124, 8, 20, 200, 0.9)):
        inside = sheet[top + 2 : top + height - 2, left + 2 : left + width - 2]
        assert np.abs(inside - shade * 255).max() < 8
    assert (sheet[8:30, 8:40] < 128).any(), "the caption is there"


def fail_with(code: int, after: int = 3) -> Callable[[Path, bytes], int]:
    """A disk that takes a few bytes and no more."""

    def write(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:after])
        raise OSError(code, os.strerror(code), str(path))

    return write


@pytest.mark.parametrize(
    ("code", "remedy"), [(errno.ENOSPC, "Free some disk space"), (errno.EACCES, "Allow writing"), (errno.EIO, "folder")]
)
def test_a_full_disk_costs_nothing_but_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    (tmp_path / "x.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", fail_with(code))
    with pytest.raises(CannotWrite, match=remedy) as caught:
        write_atomically(tmp_path / "x.png", b"new data")
    assert str(tmp_path / "x.png") in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError) and caught.value.__cause__.errno == code
    assert contents(tmp_path) == {"x.png": b"old"}


@pytest.mark.parametrize("before", [{}, {"x.png": b"old"}], ids=["new file", "existing file"])
def test_an_interrupt_between_writing_and_replacing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, bytes]
) -> None:
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)

    def interrupt(*paths: Path) -> None:
        assert paths[0].parent == paths[1].parent, "replacing is atomic within one file system only"
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x.png", b"new data")
    assert contents(tmp_path) == before


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    for path, remedy in (
        (tmp_path / "file" / "x.png", "A file is where a folder should be"),
        (tmp_path / "file" / "sub" / "x.png", "A file is where a folder should be"),
        (tmp_path / "folder.png", "A folder has the file's name"),
        (tmp_path / f"{'x' * 300}.png", "shorter name"),
    ):
        with pytest.raises(CannotWrite, match=remedy):
            write_atomically(path, b"data")
    (tmp_path / "x.json").mkdir()
    with pytest.raises(CannotWrite, match=r"x\.json"):
        make_result().save(tmp_path, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png", "x.json"]


def test_written_files_have_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_atomically(tmp_path / "ours", b"data")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary: list[Path] = []
    monkeypatch.setattr(os, "replace", lambda source, target: temporary.append(Path(source)))
    write_atomically(tmp_path / "x", b"data")
    (ours,) = temporary
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead = ours.with_name(ours.name.replace(f"-{os.getpid()}-", f"-{done.pid}-"))
    elsewhere, forgotten = (tmp_path / f".ostec-other-{done.pid}-{i}.tmp" for i in range(2))
    for path in (dead, elsewhere, forgotten, tmp_path / ".ostec-strange-name-of-a.tmp", tmp_path / "x.png"):
        path.touch()
    os.utime(forgotten, (0, time.time() - 7200))
    remove_leftovers(tmp_path)
    kept = {ours.name, elsewhere.name, ".ostec-strange-name-of-a.tmp", "x.png"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    remove_leftovers(tmp_path / "missing")


def test_saving_changes_nothing_in_the_result(tmp_path: Path) -> None:
    result = make_result(frontal=True)
    before = replace(result.texture, rgb=result.texture.rgb.clone())
    result.save(tmp_path, "x")
    assert torch.equal(result.texture.rgb, before.rgb)
    assert "files" not in result.report
