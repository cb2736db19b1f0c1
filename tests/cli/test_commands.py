"""The command line: its flags, its exit codes, one line per error."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from fakes import FakeSelection, make_photos

from ostec import SearchSettings, __version__, cli
from ostec.errors import MissingWeights
from ostec.networks.stylegan2_files import load_generator
from ostec.registry import components
from ostec.weights import shipped
from ostec.weights.catalogue import FILES

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--texture-size", "64", "--frontal-size", "64")


class StatedSelection(FakeSelection):
    statement = "fakes"


@pytest.fixture
def choice(monkeypatch: pytest.MonkeyPatch) -> StatedSelection:
    """The fake parts in place of the real ones."""
    fake = StatedSelection()
    monkeypatch.setattr(components, "select_parts", lambda *names, **others: fake)
    return fake


def run(source: Path, save_dir: Path, *flags: str) -> int:
    return cli.main(["run", "--source_dir", str(source), "--save_dir", str(save_dir), *SMALL, *flags])


def settings_used(save_dir: Path) -> dict:
    return json.loads((save_dir / "summary.json").read_text())["settings"]


def in_fresh_python(*command: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = {sys.path!r}; sys.argv[:] = {list(command)!r}; import runpy; "
    how = (
        "run_path(sys.argv[0], run_name='__main__')"
        if command[0].endswith(".py")
        else "run_module('ostec', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", code + f"runpy.{how}"], capture_output=True, text=True)


def test_all_well_is_0_and_says_so_line_by_line(tmp_path: Path, choice, capsys) -> None:
    make_photos(tmp_path / "in", "a.jpg", "b.jpg")
    assert run(tmp_path / "in", tmp_path / "out") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "fakes" in out
    assert "[1/2]" in out
    assert "b.jpg: done in" in out
    assert "2 done, 0 skipped, 0 failed" in out
    assert run(tmp_path / "in", tmp_path / "out") == 0
    assert "0 done, 2 skipped, 0 failed" in capsys.readouterr().out


def test_a_failed_photo_is_1_and_one_line(tmp_path: Path, choice, capsys) -> None:
    make_photos(tmp_path / "in", "a.jpg", "b_noface.jpg", "c_crash.jpg")
    assert run(tmp_path / "in", tmp_path / "out") == 1
    err = capsys.readouterr().err
    lines = err.splitlines()
    assert len(lines) == 2
    assert "b_noface.jpg: no face found" in lines[0]
    assert "c_crash.jpg: ZeroDivisionError" in lines[1]
    assert "Traceback" not in err


def test_the_originals_flags_are_understood(tmp_path: Path, choice) -> None:
    photo = make_photos(tmp_path / "in", "a.jpg")[0]
    out = tmp_path / "out"
    flags = ("-f", "-i", "3", "--iterations_frontalize", "4", "-m", "hard", "-p", "--seed", "5", "--formats", "png")
    assert run(photo, out, *flags) == 0
    used = settings_used(out)
    assert {"frontalize": True, "mode": "hard", "seed": 5}.items() <= used.items()
    assert {"iterations": 3, "iterations_frontalize": 4}.items() <= used["search"].items()
    assert used["keep_intermediate"] is True
    assert (out / "a_frontal.png").exists()
    assert not (out / "a.glb").exists()


def test_either_spelling_and_the_settings_own_defaults(tmp_path: Path, choice) -> None:
    photo = make_photos(tmp_path / "in", "a.jpg")[0]
    out = tmp_path / "out"
    assert cli.main(["run", "--source-dir", str(photo), "--save-dir", str(out), "--formats", "png,glb", *SMALL]) == 0
    used = settings_used(out)
    assert used["mode"] == "auto" and used["search"] == asdict(SearchSettings())
    assert (out / "a.glb").exists()


def test_faces_recursive_overwrite(tmp_path: Path, choice, capsys) -> None:
    make_photos(tmp_path / "in" / "sub", "three.jpg")
    assert run(tmp_path / "in", tmp_path / "out", "--recursive", "--faces", "all") == 0
    assert (tmp_path / "out" / "three_face2.glb").exists()
    assert run(tmp_path / "in", tmp_path / "out", "--recursive", "--overwrite") == 0
    assert "1 done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--source_dir", "{tmp}/nowhere", "--save_dir", "{tmp}/out"), "nowhere"),
        (("--source_dir", "{tmp}/empty", "--save_dir", "{tmp}/out"), "empty"),
        (("--source_dir", "{tmp}/in", "--save_dir", "{tmp}/in"), "save_dir"),
        (("--source_dir", "{tmp}/in", "--save_dir", "{tmp}/in/a.jpg"), "a.jpg"),
        (("--source_dir", "{tmp}/in", "--save_dir", "{tmp}/out", "--texture-size", "7"), "texture_size is 7"),
        (("--source_dir", "{tmp}/in", "--save_dir", "{tmp}/out", "--formats", "stl"), "png, obj, glb"),
        (("--source_dir", "{tmp}/in", "--save_dir", "{tmp}/out", "--completer", "magic"), "mirror"),
        (("--source_dir", "{tmp}/in", "--save_dir", "{tmp}/out", "--reconstructor", "magic"), "mediapipe"),
    ],
)
def test_set_up_errors_are_2_and_one_line(tmp_path: Path, capsys, flags: tuple[str, ...], word: str) -> None:
    (tmp_path / "empty").mkdir()
    make_photos(tmp_path / "in", "a.jpg")
    assert cli.main(["run", *(flag.format(tmp=tmp_path) for flag in flags)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("ostec: ")
    assert word in lines[0]


@pytest.mark.parametrize("argv", [[], ["walk"], ["run"], ["run", "--mode", "odd"], ["models", "burn"]])
def test_usage_errors_are_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == 2


def test_missing_weights_are_2(tmp_path: Path, choice, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def load():
        raise MissingWeights("net.safetensors: missing. Install the package again.")

    monkeypatch.setattr(choice, "load", load)
    make_photos(tmp_path / "in", "a.jpg")
    assert run(tmp_path / "in", tmp_path / "out") == 2
    assert capsys.readouterr().err.splitlines() == ["ostec: net.safetensors: missing. Install the package again."]


def test_ctrl_c_is_130_and_one_line(tmp_path: Path, choice, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    def load():
        raise KeyboardInterrupt

    monkeypatch.setattr(choice, "load", load)
    make_photos(tmp_path / "in", "a.jpg")
    assert run(tmp_path / "in", tmp_path / "out") == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_terminal_gets_a_bar(tmp_path: Path, choice, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    make_photos(tmp_path / "in", "a.jpg", "b_noface.jpg")
    assert run(tmp_path / "in", tmp_path / "out") == 1
    out, err = capsys.readouterr()
    assert "━" in err
    assert "no face found" in err
    assert "[1/2]" not in out


def test_models_list_and_check(capsys) -> None:
    assert cli.main(["models", "list"]) == 0
    out = capsys.readouterr().out
    for entry in FILES.values():
        assert entry.file in out or not entry.shipped
    assert cli.main(["models", "check"]) == 0


def test_models_check_names_a_damaged_file(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  net.safetensors\n")
    monkeypatch.setattr("ostec.cli.models.check_shipped", lambda: shipped.check_shipped(tmp_path))
    assert cli.main(["models", "check"]) == 2
    assert "net.safetensors: missing" in capsys.readouterr().err


def test_the_module_and_the_original_script_are_the_same_command(tmp_path: Path) -> None:
    version = in_fresh_python("ostec", "--version")
    assert (version.returncode, version.stdout.strip()) == (0, f"ostec {__version__}")
    missing = ("--source_dir", str(tmp_path / "nowhere"), "--save_dir", str(tmp_path / "out"))
    script = in_fresh_python(str(ROOT / "run_ostec.py"), *missing)
    module = in_fresh_python("ostec", "run", *missing)
    assert script.returncode == module.returncode == 2
    assert script.stderr == module.stderr
    assert "nowhere" in script.stderr


def test_help_needs_no_network_library() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from ostec.cli.commands import main\n"
        "try: main(['run', '--help'])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "--source-dir" in shown
    assert shown.rstrip().endswith("False")


def test_models_are_listed_with_their_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list"]) == 0
    listed = capsys.readouterr().out
    for entry in FILES.values():
        assert entry.name in listed


def test_nothing_is_downloaded_before_its_licence_is_agreed_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "get", "stylegan2-ffhq"]) == 2
    said = capsys.readouterr()
    assert "non-commercial" in said.out and "--accept-licence" in said.err


def test_unknown_weights_list_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "get", "nonsense"]) == 2
    assert "stylegan2-ffhq" in capsys.readouterr().err


def test_a_network_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).parents[1] / "data" / "golden" / "stylegan2_tf_32px.pkl"
    assert cli.main(["models", "convert", str(source), str(tmp_path / "own.safetensors")]) == 0
    assert load_generator(tmp_path / "own.safetensors").resolution == 32
    assert cli.main(["models", "convert", str(source), str(tmp_path / "own.pkl")]) == 2
    assert cli.main(["models", "convert", str(tmp_path / "none.pkl"), str(tmp_path / "own.safetensors")]) == 2
    assert "none.pkl" in capsys.readouterr().err
