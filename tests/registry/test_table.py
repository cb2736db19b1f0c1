"""The table of parts: every row leads to code and files that are there, and nobody else knows the names."""

from __future__ import annotations

import inspect
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import ostec
from ostec.cli.commands import main
from ostec.errors import MissingWeights, UnknownComponent
from ostec.registry import table
from ostec.registry.components import build, demo_photo, select_parts
from ostec.registry.table import PART_KINDS, TABLE, PartEntry, resolve, row, rows
from ostec.weights.catalogue import FILES, WeightFile

NETWORK_KINDS = {kind for entry in TABLE for kind in entry.networks}
SOURCE = Path(ostec.__file__).parent


def name(entry: PartEntry) -> str:
    return f"{entry.kind} {entry.name}"


@pytest.mark.parametrize("entry", TABLE, ids=name)
def test_every_row_imports_and_takes_what_it_is_given(entry: PartEntry) -> None:
    """The factory's signature fits the call that the row promises."""
    factory = resolve(entry.factory)
    assert callable(factory)
    if entry.kind == "rasteriser":
        return
    count = bool(entry.networks) + len(entry.files) + bool(entry.optional)
    device = {"device": "cpu"} if entry.on_device else {}
    inspect.signature(factory).bind(*range(count), **device)
    if entry.neutral_head:
        inspect.signature(resolve(entry.neutral_head)).bind(*entry.files)


@pytest.mark.parametrize("entry", [entry for entry in TABLE if entry.kind in PART_KINDS], ids=name)
def test_files_of_the_package_are_those_of_the_package(entry: PartEntry) -> None:
    assert all(file.shipped for file in entry.shipped)
    assert not any(file.shipped for file in (*entry.files, *entry.optional))


def test_names_are_told_apart_and_kinds_are_known() -> None:
    assert len({(entry.kind, entry.name) for entry in TABLE}) == len(TABLE)
    assert {entry.kind for entry in TABLE} == {*PART_KINDS, *NETWORK_KINDS}
    generators = {entry.name for entry in rows("generator")}
    assert {entry.only_with for entry in TABLE} <= generators | {""}


@pytest.mark.parametrize("kind", PART_KINDS)
def test_auto_can_always_take_something(kind: str) -> None:
    assert any(entry.auto and not entry.files and not entry.networks for entry in rows(kind))


def test_every_file_of_the_catalogue_belongs_to_a_row() -> None:
    used = {file.name for entry in TABLE for file in (*entry.files, *entry.shipped, *entry.optional)}
    assert used == set(FILES)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownComponent, match="no encoder is called 'x'; there is small-encoder, style-encoder"):
        row("encoder", "x")


def test_one_row_is_all_that_a_part_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its row a part has its name, its file, its licence, its place in `auto` and in error messages."""
    file = WeightFile("cuts", "cuts.bin", "a detector of cuts", "CC0", None, "Make it")
    entry = PartEntry("detector", "cut", "cuts:load_cut", (file,))
    monkeypatch.setitem(sys.modules, "cuts", SimpleNamespace(load_cut=lambda path: [path.name]))
    monkeypatch.setattr(table, "TABLE", (entry, *TABLE))
    with pytest.raises(MissingWeights, match="cuts.bin"):
        build("detector", "cut", tmp_path)
    (tmp_path / "cuts.bin").touch()
    selection = select_parts(weights_dir=tmp_path)
    assert selection.names["detector"] == "cut" and selection.licences["cuts.bin"] == "CC0"
    assert selection.load().detector == ["cuts.bin"]
    shutil.copy(demo_photo(), tmp_path / "a.jpg")
    assert main(["run", "--source_dir", str(tmp_path), "--save_dir", str(tmp_path / "out"), "--detector", "x"]) == 2
    assert "there is cut, mediapipe, mtcnn" in capsys.readouterr().err


def test_what_reproduces_the_release_is_imported_by_the_registry_alone() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "original":
            assert not re.search(r"^\s*(from|import) ostec\.original", text, re.MULTILINE), path
        if path.parent.name not in ("original", "registry"):
            assert not re.search(r"ostec\.original\.\w", text), path
