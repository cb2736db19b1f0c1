"""The pages name functions, files and command lines that exist."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from ostec import cli

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ostec"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "THIRD_PARTY.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
OTHER_PEOPLES_FILES = {"decalib/deca.py", "utils/util.py", "networks/graph.py", "images/A000368.jpg"}
"""Named in the pages, of other repositories."""
WRITTEN_TO = ("out", "run")
"""Folders of the examples."""
COMMAND = re.compile(r"(?:^ *|`)(ostec|python run_ostec\.py) ((?:[^`\n\\]|\\\n)*)", re.MULTILINE)


def found(dotted: str) -> Any:
    """What `module.function` or `module` of the package is. Raises `AttributeError`, `ImportError`."""
    parts, value = dotted.split("."), import_module("ostec")
    for depth, part in enumerate(parts):
        try:
            value = import_module(".".join(("ostec", *parts[: depth + 1])))
        except ModuleNotFoundError:
            value = getattr(value, part)
    return value


def test_the_functions_of_the_algorithm_exist() -> None:
    text = (ROOT / "docs" / "algorithm.md").read_text(encoding="utf-8")
    names = [name for name in re.findall(r"`(\w+(?:\.\w+)+)`", text) if name.split(".")[0] in ROOMS]
    assert len(set(names)) > 30
    wrong = []
    for name in names:
        try:
            found(name)
        except (AttributeError, ImportError):
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = set(
        re.findall(r"(?<![\w./])((?:[\w-]+/)+[\w-]+\.(?:py|md|npz|safetensors|jpg))\b", page.read_text("utf-8"))
    )
    folders = (ROOT, SOURCE, page.parent, SOURCE / "data")
    missing = {name for name in named if not any((folder / name).exists() for folder in folders)}
    assert {name for name in missing - OTHER_PEOPLES_FILES if name.split("/")[0] not in WRITTEN_TO} == set()


@functools.cache
def help_of(*subcommands: str) -> str:
    out = io.StringIO()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(out):
        cli.main([*subcommands, "--help"])
    return out.getvalue().replace("_", "-")


def flags_exist(words: list[str]) -> list[str]:
    """Flags of a command line, words after `ostec`, that its subcommand does not have."""
    subcommands = words[:2] if words[0] == "bench" else words[:1]
    flags = {word.split("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)} - {"--help"}
    text = help_of(*subcommands)
    return [f for f in flags if not re.search(rf"(?<![\w-]){re.escape(f.replace('_', '-'))}(?![\w-])", text)]


def command_lines() -> list[tuple[str, list[str]]]:
    """(page, words after `ostec`) of every command line of the pages."""
    lines = []
    for page in PAGES:
        for program, line in COMMAND.findall(page.read_text("utf-8")):
            plain = re.sub(r"[\[\]…]|\\\n", " ", line.split("#")[0]).replace("|", " ")
            words = shlex.split(plain.strip().rstrip(".,;:"))
            if words and words != ["--version"]:
                lines.append((page.name, words if program == "ostec" else ["run", *words]))
    return lines


def test_the_pages_command_lines_have_flags_that_exist() -> None:
    lines = command_lines()
    assert {words[0] for _, words in lines} == {"run", "demo", "transfer", "models", "bench"}
    assert len({flag for _, words in lines for flag in words if flag.startswith("-")}) > 15
    assert {f"{page}: {flag}" for page, words in lines for flag in flags_exist(words)} == set()


def test_the_downloads_that_the_pages_name_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list"]) == 0
    known = set(re.findall(r"[\w-]+", capsys.readouterr().out))
    named = {name for _, words in command_lines() if words[:2] == ["models", "get"] for name in words[2:]}
    assert {"ict-facekit", "stylegan2-ffhq"} <= named <= known


def test_the_options_that_the_pages_explain_exist() -> None:
    """First cells of tables whose head says that they hold options or settings of `ostec run`."""
    known, explained = help_of("run"), set()
    for page in (ROOT / "README.md", ROOT / "docs" / "settings.md"):
        for cell in re.findall(r"^\| (`-[^|\n]*(?:\\?\|[^|\n]*)*?`) \|", page.read_text("utf-8"), re.MULTILINE):
            explained |= set(re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", cell))
    assert len(explained) > 15
    assert {f for f in explained if not re.search(rf"(?<![\w-]){f.replace('_', '-')}(?![\w-])", known)} == set()


def test_the_scripts_that_the_pages_run_exist_with_their_flags() -> None:
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    runs = re.findall(r"python (\S+\.py\b(?:[^`\n\\]|\\\n)*)", text)
    assert len(runs) > 8
    for run in runs:
        script, *words = run.split("#")[0].split()
        source = next(path for folder in ("", "tools") if (path := ROOT / folder / script).is_file()).read_text("utf-8")
        names = [word[2:] for word in words if word.startswith("--")]
        taken = [name for name in names if re.search(rf'"--{name}"|\b{name}:', source)]
        assert script == "run_ostec.py" or taken == names, run


def test_no_page_or_docstring_leads_to_a_document_that_is_not_here() -> None:
    absent = re.compile(r"\b(METHOD|DESIGN|LAYOUT)\b")
    sources = [
        path for folder in ("src", "tests", "tools", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {path.name for path in (*PAGES, *sources) if absent.search(path.read_text("utf-8"))}
    assert named <= {Path(__file__).name}


def test_a_wrong_flag_and_a_wrong_function_would_be_seen() -> None:
    assert flags_exist(["run", "--source_dir", "a", "--no-such-flag"]) == ["--no-such-flag"]
    assert flags_exist(["bench", "speed", "--protocol", "scan"]) == ["--protocol"]
    with pytest.raises(AttributeError):
        found("geometry.raster.no_such_function")
