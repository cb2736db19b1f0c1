"""What the README promises on the first page, done as written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ostec import cli

ROOT = Path(__file__).resolve().parents[1]


def test_the_readmes_make_commands_exist() -> None:
    commands = set(re.findall(r"\bmake ([a-z]+)", (ROOT / "README.md").read_text()))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test"} <= commands <= targets


def test_the_check_runs_the_readmes_test_command() -> None:
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()


def test_the_demo_runs_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert cli.main(["demo", "--save_dir", str(out)]) == 0
    said = capsys.readouterr().out
    assert "astronaut_sheet.jpg" in said
    endings = (".png", ".obj", ".mtl", ".glb", ".json", "_frontal.png", "_sheet.jpg")
    assert all((out / f"astronaut{ending}").stat().st_size > 0 for ending in endings)
    assert Image.open(out / "astronaut.png").size == (1024, 1024)
    report = json.loads((out / "astronaut.json").read_text())
    promised = (
        "version settings components licences camera glb_to_photo yaw_deg pitch_deg roll_deg seconds loss_terms "
        "warnings sha256"
    )
    assert set(promised.split()) <= set(report)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["counts"]["done"] == 1
    assert cli.main(["demo", "--save_dir", str(out)]) == 0
    assert "1 skipped" in capsys.readouterr().out
