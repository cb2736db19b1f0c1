"""Batches: skipped when done, redone when not, and nothing that happens to one photo or process spoils another."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SETTINGS, FakeSelection, complete, make_photos, run, statuses, write

from ostec import pipeline
from ostec.batch.plan import BatchOptions, collect_photos
from ostec.batch.summary import Event
from ostec.errors import BadSettings, CannotWrite, MissingWeights
from ostec.files import done
from ostec.interfaces import Progress
from ostec.settings import Settings
from ostec.types import Atlas, Completed, Face

ALL = BatchOptions(faces="all")


def test_every_photo_gets_its_files(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "ünï cødé.png")
    summary = run(photos, tmp_path / "out", settings=Settings(texture_size=64, frontal_size=64, frontalize=True))
    endings = (".png", ".obj", ".glb", ".json", "_sheet.jpg", "_frontal.png")
    expected = {f"{name}{ending}" for name in ("a", "ünï cødé") for ending in endings} | {"summary.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected
    assert summary.count("done") == 2
    report = json.loads((tmp_path / "out" / "a.json").read_text())
    assert report["face_names"] == ["a"]
    listed = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert listed["counts"] == {"done": 2, "skipped": 0, "failed": 0, "waiting": 0}
    assert {file for photo in listed["photos"] for file in photo["files"]} == expected - {"summary.json"}


def test_what_is_done_is_skipped_without_building_parts(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "b.jpg")
    run(photos, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir() if path.name != "summary.json"}
    choice = FakeSelection()
    summary = run(photos, tmp_path / "out", choice)
    assert summary.count("skipped") == 2
    assert choice.loads == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    "change",
    ["settings", "components", "weights", "device", "version", "bytes", "missing", "torn", "formats", "overwrite"],
)
def test_what_would_come_out_differently_is_redone(
    tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "b.jpg")
    choice, settings, options = FakeSelection(), SETTINGS, BatchOptions(formats=("png",))
    run(photos, tmp_path / "out", choice, settings, options)
    expected = ["done", "done"]
    if change == "settings":
        settings = Settings(texture_size=64, frontal_size=64, seed=1)
    elif change == "components":
        choice = FakeSelection(names={"completer": "other"})
    elif change == "weights":
        choice = FakeSelection(weights={"net.pt": "0123456789abcdef"})
    elif change == "device":
        choice = FakeSelection(device="cuda")
    elif change == "version":
        monkeypatch.setattr(done, "__version__", "99.0")
        monkeypatch.setattr(pipeline, "__version__", "99.0")
    elif change == "formats":
        options = BatchOptions(formats=("png", "glb"))
    elif change == "overwrite":
        options = BatchOptions(formats=("png",), overwrite=True)
    else:
        expected = ["done", "skipped"]
        if change == "bytes":
            photos[0].write_bytes(photos[0].read_bytes() + b"\0")
        elif change == "missing":
            (tmp_path / "out" / "a.png").unlink()
        else:
            (tmp_path / "out" / "a.json").write_text('{"sha256": ')
    summary = run(photos, tmp_path / "out", choice, settings, options)
    assert [record.status for record in summary.records] == expected
    assert run(photos, tmp_path / "out", choice, settings, replace(options, overwrite=False)).count("skipped") == 2


def test_a_bad_photo_costs_only_itself(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "b_noface.jpg", "c_crash.jpg", "d.jpg", "e.jpg")
    photos[3].write_bytes(photos[3].read_bytes()[:200])
    photos.insert(1, tmp_path / "in" / "gone.jpg")
    summary = run(photos, tmp_path / "out")
    assert [record.status for record in summary.records] == ["done", *["failed"] * 4, "done"]
    for record in summary.records[1:5]:
        assert Path(record.photo).name in record.reason
    assert "ZeroDivisionError: a fault in a part" in summary.records[3].reason
    assert [bool(record.traceback) for record in summary.records] == [False, False, False, True, False, False]
    assert statuses(tmp_path / "out") == ["done", *["failed"] * 4, "done"]


def test_nothing_of_an_earlier_result_stays_beside_a_newer_one(tmp_path: Path) -> None:
    photos, out = make_photos(tmp_path / "in", "three.jpg", "b.jpg"), tmp_path / "out"
    with_portrait = replace(SETTINGS, frontalize=True)
    run(photos, out, settings=with_portrait, options=ALL)
    assert (out / "three_frontal.png").exists() and (out / "three_face2_frontal.png").exists()
    foreign = [out / name for name in ("three_turntable.png", "three_face2.txt", "thre.obj")]
    for path in foreign:
        path.touch()
    run(photos, out, options=BatchOptions(faces="all", formats=("png",)))
    assert {path.name for path in out.iterdir()} - {path.name for path in foreign} == {
        *(f"{name}{ending}" for name in ("three", "three_face2", "b") for ending in (".png", ".json", "_sheet.jpg")),
        "summary.json",
    }
    run(photos, out, settings=replace(SETTINGS, seed=1))
    assert not list(out.glob("three_face2.[!t]*")) and (out / "three.glb").exists()
    assert all(path.exists() for path in foreign)


def test_files_that_a_report_should_not_list_are_left_alone(tmp_path: Path) -> None:
    photo, out = make_photos(tmp_path / "in", "a.jpg")[0], tmp_path / "out"
    run([photo], out)
    for file in ("kept.png", "a_b.c.png", "ab.png"):
        (out / file).touch()
    (tmp_path / "a.png").touch()
    report = json.loads((out / "a.json").read_text())
    listed = {"one": "../a.png", "two": "kept.png", "three": str(photo), "four": "a_b.c.png", "five": "ab.png"}
    (out / "a.json").write_text(json.dumps({**report, "files": listed, "face_names": ["a", "kept", "../a"]}))
    run([photo], out)
    assert all((out / file).exists() for file in ("kept.png", "a_b.c.png", "ab.png"))
    assert (tmp_path / "a.png").exists() and photo.exists()


def test_the_summary_has_the_warnings_of_every_face(tmp_path: Path) -> None:
    def warn(face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        return replace(complete(face, atlas, settings, progress), notes={"warnings": ["plain skin"]})

    photos = make_photos(tmp_path / "in", "three.jpg")
    record = run(photos, tmp_path / "out", FakeSelection(completer=warn), options=ALL).records[0]
    assert [warning for warning in record.warnings if warning == "plain skin"] == ["plain skin"] * 2
    assert sum("balloon" in warning for warning in record.warnings) == 1
    assert "balloon" in " ".join(json.loads((tmp_path / "out" / "three.json").read_text())["warnings"])


def test_photos_with_one_stem_keep_their_extension(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "a.png", "b.jpg")
    run(photos, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.json")}
    assert names == {"a.jpg.json", "a.png.json", "b.json", "summary.json"}
    assert run(photos, tmp_path / "out").count("skipped") == 3


def test_all_faces_and_a_face_that_is_none(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "three.jpg")
    assert run(photos, tmp_path / "out").records[0].warnings == ()
    assert not (tmp_path / "out" / "three_face2.json").exists()
    record = run(photos, tmp_path / "out", options=ALL).records[0]
    assert record.status == "done"
    assert "balloon" in record.warnings[0]
    assert {path.name for path in (tmp_path / "out").glob("*.glb")} == {"three.glb", "three_face2.glb"}
    assert run(photos, tmp_path / "out", options=ALL).count("skipped") == 1
    assert run(photos, tmp_path / "out").count("skipped") == 1
    (tmp_path / "out" / "three_face2.glb").unlink()
    assert run(photos, tmp_path / "out").count("skipped") == 1
    assert run(photos, tmp_path / "out", options=ALL).count("done") == 1


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, ["done", "failed", "waiting", "waiting", "waiting"]),
        (errno.EISDIR, ["done", "failed", "done", "done", "done"]),
    ],
)
def test_a_full_disk_stops_the_batch_and_a_blocked_name_does_not(
    tmp_path: Path, number: int, expected: list[str]
) -> None:
    def failing_write(result, save_dir, name, formats):
        if name == "b":
            raise CannotWrite(f"{name}.png: {os.strerror(number)}") from OSError(number, os.strerror(number))
        return write(result, save_dir, name, formats)

    photos = make_photos(tmp_path / "in", *(f"{letter}.jpg" for letter in "abcde"))
    if "waiting" in expected:
        with pytest.raises(CannotWrite, match=r"b\.png"):
            run(photos, tmp_path / "out", FakeSelection(failing_write))
    else:
        run(photos, tmp_path / "out", FakeSelection(failing_write))
    assert statuses(tmp_path / "out") == expected
    run(photos, tmp_path / "out")
    assert set(statuses(tmp_path / "out")) <= {"done", "skipped"}


def test_missing_weights_are_no_photos_fault(tmp_path: Path) -> None:
    class Broken(FakeSelection):
        def load(self):
            raise MissingWeights("net.safetensors: missing")

    with pytest.raises(MissingWeights):
        run(make_photos(tmp_path / "in", "a.jpg"), tmp_path / "out", Broken())
    assert statuses(tmp_path / "out") == ["waiting"]


def test_events_tell_every_photos_end_once_and_progress_never_falls(tmp_path: Path) -> None:
    events: list[Event] = []
    photos = make_photos(tmp_path / "in", "a.jpg", "b_noface.jpg", "three.jpg")
    run(photos, tmp_path / "out", options=ALL, on_event=events.append)
    ends = [event for event in events if event.record.status != "waiting"]
    assert sorted(event.index for event in ends) == [0, 1, 2]
    for index in range(3):
        shares = [event.share for event in events if event.index == index]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def start_slow_batch(source: Path, save_dir: Path) -> subprocess.Popen[str]:
    """A batch in a process of its own, in the middle of writing its second photo. It heeds Ctrl-C, even where the tests
    run in the background and do not."""
    heed = "import signal, fakes; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; fakes.run_slowly({str(source)!r}, {str(save_dir)!r})"]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == ["a", "b"]
    return process


def test_a_kill_loses_only_the_photo_at_work(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    out = tmp_path / "out"
    with start_slow_batch(tmp_path / "in", out) as process:
        process.kill()
    assert (out / "a.json").exists()
    assert (out / "b.png").exists()
    assert not (out / "b.json").exists()
    summary = run(photos, out)
    assert [record.status for record in summary.records] == ["skipped", "done", "done"]
    assert (out / "b.png").read_bytes() != b"half of the work"
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for another process")
def test_ctrl_c_finishes_the_write_under_way(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "in", "a.jpg", "b.jpg", "c.jpg")
    out = tmp_path / "out"
    with start_slow_batch(tmp_path / "in", out) as process:
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in stderr
    assert statuses(out) == ["done", "done", "waiting"]
    assert [record.status for record in run(photos, out).records] == ["skipped", "skipped", "done"]


def test_a_photo_is_never_overwritten(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, "x.png", "y.jpg")
    before = photos[0].read_bytes()
    for options in (BatchOptions(), BatchOptions(overwrite=True)):
        summary = run(photos, tmp_path, options=options)
        assert summary.records[0].status == "failed"
        assert "choose another save_dir" in summary.records[0].reason
        assert photos[0].read_bytes() == before
    assert summary.records[1].status == "done"


def test_a_foreign_picture_beside_the_photo_is_kept(tmp_path: Path) -> None:
    photo, _ = make_photos(tmp_path, "x.jpg", "x.png")
    assert run([photo], tmp_path).records[0].status == "failed"
    assert run([photo], tmp_path, options=BatchOptions(overwrite=True)).records[0].status == "done"


def test_a_fit_beside_the_photo_is_kept(tmp_path: Path) -> None:
    photo = make_photos(tmp_path, "x.jpg")[0]
    fit = tmp_path / "x.npz"
    fit.write_bytes(b"a fit")
    choice = FakeSelection(names={"reconstructor": "file"})
    record = run([photo], tmp_path, choice, options=BatchOptions(overwrite=True)).records[0]
    assert record.status == "failed" and "x.npz" in record.reason
    assert fit.read_bytes() == b"a fit"
    assert run([photo], tmp_path / "out", choice).records[0].status == "done"


def test_outputs_are_not_taken_for_photos(tmp_path: Path) -> None:
    source = tmp_path / "in"
    photos = make_photos(source, "a.jpg") + make_photos(source / "sub", "b.jpg")
    out = source / "out"
    for _ in range(2):
        found = collect_photos(source, out, recursive=True)
        assert sorted(found) == sorted(photos)
        run(found, out)
    assert collect_photos(source, out) == photos[:1]
    with pytest.raises(BadSettings, match="save_dir"):
        collect_photos(source, source)
    assert collect_photos(photos[0], source) == photos[:1]


def test_the_same_photo_twice_is_one_photo(tmp_path: Path) -> None:
    photo = make_photos(tmp_path / "in", "a.jpg")[0]
    assert len(run([photo, photo], tmp_path / "out").records) == 1
