"""Heads that a generator learns from: what the photo shows of them is as the photo has it."""

from __future__ import annotations

import shutil
from pathlib import Path

import generator_views
import pytest
import torch
from generator_archive import listed, read_faces, write_faces
from generator_views import views_of

import ostec
from ostec.registry.components import demo_photo

ROW = {"file": "train/astronaut.jpg", "licence": "public domain", "source_repo": "", "commit": "", "source_path": ""}


def test_views_show_the_head_and_nothing_else_always_the_same() -> None:
    parts = ostec.load_parts(completer="prior", reconstructor="mediapipe")
    shots, again = (views_of(demo_photo(), parts, 64) for _ in range(2))
    assert len(shots) >= 3 and all(torch.equal(a.image, b.image) for a, b in zip(shots, again, strict=True))
    for shot in shots:
        covered = (shot.image > 0).any(dim=0)
        assert float(shot.trust[covered].mean()) > 0.3
        assert 0.15 < float(covered.float().mean()) < 0.8
        assert not covered[:, 0].any() or not covered[:, -1].any()
    front, *turned = shots
    assert abs(front.view.yaw_deg) < 20 and {shot.view.name for shot in turned} >= {"bottom"}


def test_the_command_names_where_each_view_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train").mkdir()
    shutil.copy(demo_photo(), tmp_path / "train")
    write_faces(
        tmp_path / "kept.zip", [(ROW, torch.rand(3, 32, 32)), ({**ROW, "file": "gone.jpg"}, torch.rand(3, 32, 32))]
    )
    arguments = [str(tmp_path), str(tmp_path / "kept.zip"), "--out", str(tmp_path / "views.zip"), "--size", "32"]
    generator_views.main(arguments)
    rows = listed(tmp_path / "views.zip")
    assert len(rows) >= 3 and {row["licence"] for row in rows} == {"public domain"}
    assert [row["file"] for row in rows] == [f"astronaut_{i}.jpg" for i in range(len(rows))]
    assert read_faces(tmp_path / "views.zip", 32).shape == (len(rows), 3, 32, 32)
    assert "2 of 2 portraits" in capsys.readouterr().out
