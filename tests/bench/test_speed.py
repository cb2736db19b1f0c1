"""The speed benchmark: a stage that is known to be slow is the one that is named, and the warm-up is not counted."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SETTINGS, FakeSelection, complete, make_photos

from ostec import cli
from ostec.bench.speed import Speed, measure_speed
from ostec.errors import BadPhoto
from ostec.interfaces import Parts, Progress
from ostec.registry import components
from ostec.settings import Settings
from ostec.types import Atlas, Completed, Face

SLOW_S, COMPILING_S = 0.06, 0.4


class SlowCompleter:
    """Takes its time, and more the first time."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, face: Face, atlas: Atlas, settings: Settings, progress: Progress) -> Completed:
        time.sleep(SLOW_S if self.calls else COMPILING_S)
        self.calls += 1
        return complete(face, atlas, settings, progress)


def slow_parts() -> Parts:
    return replace(FakeSelection().load(), completer=SlowCompleter())


def test_the_slow_stage_is_named_and_the_warm_up_is_not_counted(tmp_path: Path) -> None:
    photos = make_photos(tmp_path, "a_noface.png", "b.png", "c.png", "d.png")
    parts, complaints = slow_parts(), []
    speed = measure_speed(photos, parts, SETTINGS, complaints.append)
    assert isinstance(parts.completer, SlowCompleter) and parts.completer.calls == 4
    assert len(speed.seconds) == 3
    assert SLOW_S <= speed.medians["complete"] < COMPILING_S
    for photo in speed.seconds:
        stages = sum(seconds for stage, seconds in photo.items() if stage != "total")
        assert 0.9 * photo["total"] <= stages <= photo["total"] + 0.001
    assert speed.ratios["complete"] == pytest.approx(speed.medians["complete"] / speed.reference_seconds)
    assert list(speed.failed) == ["a_noface.png"]
    assert len(complaints) == 1 and "a_noface.png" in complaints[0]


def test_medians_are_over_photos_and_a_stage_that_was_not_needed_took_no_time() -> None:
    speed = Speed([{"read": 1.0, "total": 4.0}, {"read": 3.0, "total": 5.0}, {"read": 2.0, "fit": 2.0, "total": 9.0}])
    assert speed.medians == {"read": 2.0, "total": 5.0, "fit": 0.0}


def test_without_a_photo_that_can_be_completed_there_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(BadPhoto, match="none of 2 photos"):
        measure_speed(make_photos(tmp_path, "a_noface.png", "b_crash.png"), slow_parts(), SETTINGS)


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path, monkeypatch, capsys) -> None:
    asked = []
    monkeypatch.setattr(components, "select_parts", lambda *names, **_: asked.append(names) or FakeSelection())
    make_photos(tmp_path / "in", "a.png", "b.png", "c_noface.png")
    places = ("--source_dir", str(tmp_path / "in"), "--json", str(tmp_path / "speed.json"))
    code = cli.main(["bench", "speed", *places, "--texture_size", "64", "--completer", "mirror", "--device", "cpu"])
    assert code == 1
    assert asked == [("mirror", "auto", "cpu", None)]
    out, err = capsys.readouterr()
    assert "total" in out and "reference" in out and "2 photos, 1 failed" in out
    assert "c_noface.png" in err
    found = json.loads((tmp_path / "speed.json").read_text())
    assert len(found["seconds"]) == 2 and found["reference_seconds"] > 0
    assert set(found["medians"]) == set(found["ratios"]) >= {"read", "detect", "fit", "complete", "save", "total"}
    assert cli.main(["bench", "speed", "--source_dir", str(tmp_path / "in"), "--limit", "0"]) == 2
    assert "limit is 0" in capsys.readouterr().err
