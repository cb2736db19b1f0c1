"""A run of the benchmark: its JSON, its sheet, its exit codes, and what a bad photo costs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fakes import FakeSelection, make_photos
from PIL import Image
from synthetic import head

from ostec import __version__, cli
from ostec.bench.gallery import Setup
from ostec.bench.holdout import YAWS_DEG
from ostec.bench.methods import (
    BASELINES,
    complete_mean_face,
    complete_nearest,
    complete_plain_skin,
    known_methods,
    load_methods,
    telea_completer,
)
from ostec.bench.record import FIGURES, Score
from ostec.bench.run import BenchOptions, run_completion
from ostec.completion.mirror import MirrorCompleter
from ostec.errors import BadSettings, NoFace, UnknownComponent
from ostec.geometry.raster import rasterise
from ostec.geometry.texels import bake_texels
from ostec.interfaces import Completer, Parts
from ostec.light.shading import log_colour
from ostec.registry import components
from ostec.registry.table import rows
from ostec.settings import Settings
from ostec.texture.unwrap import TRUSTED
from ostec.types import Atlas, Face, Photo, SkinMask, UVTexture

SIZE_PX = 64
METHODS = "nearest,plain-skin"


@pytest.fixture(autouse=True)
def _plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSTEC_WEIGHTS", raising=False)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    """The fake parts in place of the real ones."""
    fakes = FakeSelection().load()
    monkeypatch.setattr(components, "load_parts", lambda **_: fakes)
    return fakes


def bench(source: Path, out: Path, *flags: str, protocol: str = "hold-out") -> int:
    places = ("--protocol", protocol, "--source_dir", str(source), "--json", str(out / "scores.json"))
    return cli.main(["bench", "completion", *places, "--methods", METHODS, "--texture_size", str(SIZE_PX), *flags])


def content(out: Path) -> dict[str, Any]:
    def refuse(number: str) -> None:
        raise AssertionError(f"{number} is not JSON")

    return json.loads((out / "scores.json").read_text(), parse_constant=refuse)


def known_face(yaw_deg: float = 0.0) -> tuple[Face, Atlas]:
    """A face of random paint, of which the left half was seen, and a strip that is not trusted beside it."""
    face = head(yaw_deg, size=SIZE_PX)
    texels = bake_texels(face, (SIZE_PX, SIZE_PX), rasterise)
    confidence = torch.full((SIZE_PX, SIZE_PX), -1.0)
    confidence[:, :30], confidence[:, 30:34] = 0.9, TRUSTED / 2
    confidence = torch.where(texels.inside, confidence, -1.0)
    photo = UVTexture((0.3 + 0.4 * torch.rand(3, SIZE_PX, SIZE_PX)) * (confidence > -1), confidence)
    nobody = Photo(torch.zeros(3, SIZE_PX, SIZE_PX), "nobody")
    skin = SkinMask(torch.ones(8, 8), torch.eye(3)[:2])
    return Face(nobody, face, skin, texels, "soft"), Atlas().add("photo", photo, 2.0, "photo")


def complete(method: Completer, yaw_deg: float = 0.0) -> tuple[Face, UVTexture, UVTexture]:
    face, atlas = known_face(yaw_deg)
    done = method(face, atlas, Settings(texture_size=SIZE_PX), lambda *_: None)
    return face, atlas.photo, done.texture


def baselines() -> list[Completer]:
    return [complete_nearest, complete_plain_skin, partial(complete_mean_face, torch.rand(3, 16, 16).log())]


@pytest.mark.parametrize("method", baselines(), ids=["nearest", "plain-skin", "mean-face"])
def test_baselines_keep_what_is_trusted_and_fill_the_chart(method: Completer) -> None:
    face, photo, done = complete(method)
    trusted = photo.confidence >= TRUSTED
    assert torch.equal(done.rgb[:, trusted], photo.rgb[:, trusted])
    assert torch.equal(done.confidence >= TRUSTED, trusted)
    assert bool((done.rgb[:, face.texels.inside].amin(dim=0) > 0).all())
    assert bool((done.rgb[:, ~face.texels.inside] == 0).all())
    assert float(done.rgb.max()) <= 1 and bool(torch.isfinite(done.rgb).all())


def test_nearest_repeats_the_border() -> None:
    face, photo, done = complete(complete_nearest)
    row = SIZE_PX // 2
    assert bool(face.texels.inside[row, 25:40].all())
    assert torch.equal(done.rgb[:, row, 30:40], photo.rgb[:, row, 29:30].expand(3, 10))


def test_the_mean_face_comes_in_the_persons_colour() -> None:
    mean = torch.rand(3, SIZE_PX, SIZE_PX) - 2
    face, photo, done = complete(partial(complete_mean_face, mean))
    trusted, hidden = photo.confidence >= TRUSTED, face.texels.inside & (photo.confidence < TRUSTED)
    shift = (log_colour(done.rgb) - mean)[:, hidden]
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-4)
    assert torch.allclose(shift[:, 0], (log_colour(photo.rgb) - mean)[:, trusted].mean(dim=1), atol=1e-4)


def test_telea_inpaints_or_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UnknownComponent, match="pip install opencv-python-headless"):
        load_methods(["telea"])
    opencv: Any = ModuleType("cv2")
    opencv.INPAINT_TELEA = 1
    opencv.inpaint = lambda picture, mask, radius, how: picture + mask[..., None] * 100
    monkeypatch.setitem(sys.modules, "cv2", opencv)
    face, photo, done = complete(telea_completer())
    trusted, hidden = photo.confidence >= TRUSTED, face.texels.inside & (photo.confidence < TRUSTED)
    assert torch.equal(done.rgb[:, trusted], photo.rgb[:, trusted])
    assert torch.allclose(done.rgb[:, hidden], torch.tensor(100 / 255))


def test_completers_get_the_weights_folder_the_device_and_the_generator(tmp_path: Path, monkeypatch, parts) -> None:
    built, loaded = [], []
    monkeypatch.setattr("ostec.bench.methods.build", lambda *given: built.append(given) or MirrorCompleter())
    monkeypatch.setattr(components, "load_parts", lambda **given: loaded.append(given) or parts)
    make_photos(tmp_path / "in", "a.png")
    (tmp_path / "g.pkl").touch()
    flags = ("--weights_dir", str(tmp_path), "--generator", str(tmp_path / "g.pkl"), "--device", "cpu")
    assert bench(tmp_path / "in", tmp_path / "out", *flags, "--methods", "projection") == 0
    assert built == [("completer", "projection", tmp_path, "cpu", tmp_path / "g.pkl")]
    assert loaded == [{"completer": "mirror", "device": "cpu", "weights_dir": tmp_path}]


def test_methods_are_loaded_in_order_and_wrong_names_list_them() -> None:
    assert list(load_methods(["plain-skin", "mirror", "nearest"])) == ["plain-skin", "mirror", "nearest"]
    assert set(known_methods()) == {*BASELINES, *(entry.name for entry in rows("completer"))}
    with pytest.raises(UnknownComponent, match="no method is called 'magic'; there is .*mirror.*nearest"):
        load_methods(["mirror", "magic"])
    with pytest.raises(BadSettings, match="once"):
        load_methods(["mirror", "mirror"])
    with pytest.raises(BadSettings, match="mirror"):
        load_methods([])


def test_a_run_writes_rows_faces_and_a_sheet(tmp_path: Path, parts: Parts, capsys) -> None:
    make_photos(tmp_path / "in", "a.png", "b.png")
    assert bench(tmp_path / "in", tmp_path / "out", "--sheet", str(tmp_path / "out" / "sheet.jpg")) == 0
    found = content(tmp_path / "out")
    assert {key: found[key] for key in ("protocol", "seed", "texture_size", "version", "skipped", "failed")} == {
        "protocol": "hold-out",
        "seed": 0,
        "texture_size": SIZE_PX,
        "version": __version__,
        "skipped": {},
        "failed": [],
    }
    assert found["methods"] == METHODS.split(",")
    plain = [row for row in found["rows"] if row["variant"] == "plain"]
    assert [(row["yaw_deg"], row["method"]) for row in plain] == [(y, m) for y in YAWS_DEG for m in METHODS.split(",")]
    named = {"protocol", "variant", "method", "yaw_deg", "pitch_deg", "n", "win_rate_vs_mirror"}
    for row in found["rows"]:
        assert set(row) == named | set(FIGURES) | {f"{figure}_95" for figure in FIGURES}
        assert (row["n"], row["lpips"], row["identity"], row["win_rate_vs_mirror"]) == (2, None, None, None)
    assert [Score(**face) for face in found["per_face"]]
    assert {face["photo"] for face in found["per_face"]} == {"a.png", "b.png"}
    assert Image.open(tmp_path / "out" / "sheet.jpg").size[0] > 5 * 224
    out, err = capsys.readouterr()
    assert err == ""
    assert "[1/2] a.png" in out and "2 scored, 0 passed over, 0 failed" in out
    assert "nearest" in out and "PSNR" in out


def test_yaws_can_be_chosen_for_hold_out(tmp_path: Path, parts: Parts, capsys) -> None:
    make_photos(tmp_path / "in", "a.png")
    assert bench(tmp_path / "in", tmp_path / "out", "--yaws-deg", "45", "60") == 0
    rows = content(tmp_path / "out")["rows"]
    assert {(row["yaw_deg"], row["variant"]) for row in rows} == {(45.0, "plain"), (60.0, "plain")}
    assert bench(tmp_path / "in", tmp_path / "out", "--yaws-deg", "120") == 2
    assert "between 0 and 90" in capsys.readouterr().err


def test_a_photo_that_fails_costs_only_itself(tmp_path: Path, parts: Parts, capsys) -> None:
    make_photos(tmp_path / "in", "a.png", "b_noface.png", "c_crash.png")
    (tmp_path / "in" / "d_empty.png").write_bytes(b"")
    assert bench(tmp_path / "in", tmp_path / "out") == 1
    found = content(tmp_path / "out")
    assert found["failed"] == list(found["skipped"]) == ["b_noface.png", "c_crash.png", "d_empty.png"]
    assert "ZeroDivisionError" in found["skipped"]["c_crash.png"]
    assert found["rows"][0]["n"] == 1
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 3 and "no face found" in err[0]


def test_a_photo_that_does_not_suit_is_passed_over(tmp_path: Path, parts: Parts, monkeypatch, capsys) -> None:
    def turned_if_b(photo: Photo, detection: Any):
        return head(20.0 if photo.name == "b.png" else 0.0, size=SIZE_PX)

    monkeypatch.setattr(components, "load_parts", lambda **_: replace(parts, reconstructor=turned_if_b))
    make_photos(tmp_path / "in", "a.png", "b.png")
    assert bench(tmp_path / "in", tmp_path / "out") == 0
    found = content(tmp_path / "out")
    assert list(found["skipped"]) == ["b.png"] and found["failed"] == []
    assert "1 scored, 1 passed over" in capsys.readouterr().out
    assert bench(tmp_path / "in" / "b.png", tmp_path / "out") == 1
    assert content(tmp_path / "out")["rows"] == []


def test_scores_do_not_depend_on_where_the_photos_are(tmp_path: Path, parts: Parts) -> None:
    found = []
    for folder in ("here", "elsewhere"):
        make_photos(tmp_path / folder, "a.png")
        assert bench(tmp_path / folder, tmp_path / folder / "out") == 0
        found.append([{**face, "seconds": None} for face in content(tmp_path / folder / "out")["per_face"]])
    assert found[0] == found[1]


def test_limit_takes_photos_from_all_over_the_folder(tmp_path: Path, parts: Parts) -> None:
    make_photos(tmp_path / "in", *(f"{i}_noface.png" for i in range(9)))
    assert bench(tmp_path / "in", tmp_path / "out", "--limit", "3") == 1
    assert content(tmp_path / "out")["failed"] == ["0_noface.png", "3_noface.png", "6_noface.png"]
    assert bench(tmp_path / "in", tmp_path / "out", "--limit", "99") == 1
    assert len(content(tmp_path / "out")["failed"]) == 9


def test_an_interrupted_run_keeps_what_it_has(tmp_path: Path, parts: Parts, monkeypatch, capsys) -> None:
    def interrupted_at_b(photo: Photo) -> Any:
        if photo.name == "b.png":
            raise KeyboardInterrupt
        return parts.detector(photo)

    monkeypatch.setattr(components, "load_parts", lambda **_: replace(parts, detector=interrupted_at_b))
    make_photos(tmp_path / "in", "a.png", "b.png", "c.png")
    assert bench(tmp_path / "in", tmp_path / "out") == 130
    assert {face["photo"] for face in content(tmp_path / "out")["per_face"]} == {"a.png"}


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    fake = ModuleType(f"ostec.bench.{module}")
    for name, function in functions.items():
        setattr(fake, name, function)
    monkeypatch.setitem(sys.modules, fake.__name__, fake)


def test_re_photo_gets_another_photo_for_a_background(tmp_path: Path, parts: Parts, monkeypatch) -> None:
    pairs = []

    def score(photo: Photo, background: Photo, setup: Setup):
        pairs.append((photo.name, background.name))
        assert (setup.settings.mode, setup.settings.texture_size, setup.settings.seed) == ("soft", SIZE_PX, 3)
        for name in setup.methods:
            yield Score("re-photo", name, photo.name, 30.0, psnr_db=float("nan"), ssim=0.5)

    stand_in(monkeypatch, "rephoto", score_re_photo=score)
    make_photos(tmp_path / "in", "a.png", "b.png")
    assert bench(tmp_path / "in", tmp_path / "out", "--seed", "3", protocol="re-photo") == 0
    assert pairs == [("a.png", "b.png"), ("b.png", "a.png")]
    found = content(tmp_path / "out")
    assert [(row["psnr_db"], row["ssim"], row["n"]) for row in found["rows"]] == [(None, 0.5, 2)] * 2
    assert {face["psnr_db"] for face in found["per_face"]} == {None}


def test_scan_takes_a_folder_or_a_file_with_a_head(tmp_path: Path, parts: Parts, monkeypatch, capsys) -> None:
    def score(scan: Path, setup: Setup):
        if scan.name == "odd.glb":
            raise NoFace(f"{scan}: no head.")
        for pitch_deg in (15.0, -15.0):
            yield Score("scan", "nearest", scan.name, 0.0, pitch_deg, "front", psnr_db=20.0)

    stand_in(monkeypatch, "scan", load_scan=lambda path: path, score_scan=score)
    (tmp_path / "in").mkdir()
    assert bench(tmp_path / "in", tmp_path / "out", protocol="scan") == 2
    assert "no .glb file" in capsys.readouterr().err
    (tmp_path / "in" / "head.glb").touch()
    for source in (tmp_path / "in", tmp_path / "in" / "head.glb"):
        assert bench(source, tmp_path / "out", protocol="scan") == 0
        assert [row["pitch_deg"] for row in content(tmp_path / "out")["rows"]] == [-15.0, 15.0]
    (tmp_path / "in" / "odd.glb").touch()
    assert bench(tmp_path / "in", tmp_path / "out", protocol="scan") == 1


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--source_dir", "{tmp}/nowhere"), "nowhere"),
        (("--source_dir", "{tmp}/empty"), "no photo"),
        (("--json", "{tmp}/in/a.png/scores.json"), "scores.json"),
        (("--json", "{tmp}/in"), "in: cannot be written"),
        (("--sheet", "{tmp}/in/a.png/sheet.jpg"), "sheet.jpg"),
        (("--sheet", "{tmp}/in/sheet.jpg"), "read as a photo"),
        (("--methods", "magic"), "mirror, nearest"),
        (("--methods", ","), "no method to measure"),
        (("--limit", "0"), "limit is 0"),
        (("--texture_size", "7"), "texture_size is 7"),
        (("--weights_dir", "{tmp}/nowhere"), "not a folder"),
    ],
)
def test_set_up_errors_are_2_and_come_before_the_work(tmp_path: Path, monkeypatch, capsys, flags, word: str) -> None:
    make_photos(tmp_path / "in", "a.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr("ostec.bench.run.load_photo", lambda path: pytest.fail("the work has begun"))
    assert bench(tmp_path / "in", tmp_path / "out", *(flag.format(tmp=tmp_path) for flag in flags)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and word in lines[0]
    assert not (tmp_path / "out" / "scores.json").exists()


@pytest.mark.parametrize("flags", [("--protocol", "guess"), ("--limit", "few")])
def test_usage_errors_are_2(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as stop:
        bench(tmp_path, tmp_path / "out", *flags)
    assert stop.value.code == 2
    with pytest.raises(BadSettings, match="choose hold-out, re-photo, scan"):
        BenchOptions("guess", tmp_path, ("mirror",), tmp_path / "scores.json")  # pyright: ignore[reportArgumentType]


def test_a_run_can_be_quiet(tmp_path: Path, parts: Parts, capsys) -> None:
    make_photos(tmp_path / "in", "a.png", "b_noface.png")
    options = BenchOptions("hold-out", tmp_path / "in", ("nearest",), tmp_path / "scores.json", texture_size=SIZE_PX)
    outcome = run_completion(options)
    assert outcome.failed == ["b_noface.png"] and outcome.rows[0]["method"] == "nearest"
    assert capsys.readouterr() == ("", "")
