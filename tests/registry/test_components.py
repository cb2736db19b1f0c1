"""The registry: every name leads somewhere, wrong names say what there is, shipped files are what they promise."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest
import torch

from ostec import BadSettings, MissingWeights, UnknownComponent
from ostec.registry import components
from ostec.registry.components import DATA, KINDS, SHIPPED, build, check_shipped, choose, load_parts


def test_every_registered_part_exists() -> None:
    for known in KINDS.values():
        for where in known.values():
            module, _, factory = where.partition(":")
            assert importlib.util.find_spec(module), where
            assert factory.isidentifier()


def test_auto_picks_registered_names_and_says_so_in_one_line() -> None:
    choice = choose()
    assert set(choice.names) == set(KINDS)
    assert all(name in KINDS[kind] for kind, name in choice.names.items())
    assert choice.names["completer"] in choice.statement
    assert "\n" not in choice.statement


@pytest.mark.parametrize("kind", ["completer", "reconstructor"])
def test_an_unknown_name_lists_the_known_ones(kind: str) -> None:
    with pytest.raises(
        UnknownComponent, match=f"no {kind} is called 'nonsense'; there is {', '.join(sorted(KINDS[kind]))}"
    ):
        choose(completer="nonsense") if kind == "completer" else choose(reconstructor="nonsense")
    with pytest.raises(UnknownComponent, match="there is"):
        build(kind, "nonsense")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSettings, match="no CUDA GPU"):
        choose(device="cuda")
    with pytest.raises(BadSettings, match="choose auto, cpu, cuda"):
        choose(device="abacus")
    assert choose(device="cpu") == choose()


def test_a_weights_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="nowhere"):
        load_parts(weights_dir=tmp_path / "nowhere")


def test_parts_are_built_and_carry_their_names_and_licences() -> None:
    parts = load_parts()
    assert parts.names == choose().names
    assert set(parts.licences) == {shipped.file for shipped in SHIPPED}


def test_shipped_files_are_listed_with_their_checksums() -> None:
    lines = (DATA / "SHA256SUMS").read_text().splitlines()
    actual = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(DATA.iterdir())
        if path.name != "SHA256SUMS"
    ]
    assert lines == actual, "after a change in src/ostec/data: make sums"
    assert {shipped.file for shipped in SHIPPED} <= {path.name for path in DATA.iterdir()}
    assert check_shipped() == {}


def test_shipped_files_have_their_licence_line() -> None:
    table = (Path(__file__).parents[2] / "THIRD_PARTY.md").read_text()
    for path in DATA.iterdir():
        assert path.name in table or path.name == "SHA256SUMS"


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "DATA", tmp_path)
    good = hashlib.sha256(b"good").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(f"{good}  a.bin\n{good}  b.bin\n{good}  c.bin\n")
    (tmp_path / "a.bin").write_bytes(b"good")
    (tmp_path / "b.bin").write_bytes(b"bad")
    wrong = check_shipped()
    assert set(wrong) == {"b.bin", "c.bin"}
    assert "not the file that was shipped" in wrong["b.bin"]
    assert "missing" in wrong["c.bin"]
