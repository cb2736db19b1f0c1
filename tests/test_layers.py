"""Who may import whom, checked from the syntax trees: imports within functions and for type checkers count too."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ostec"
MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = [path for folder in ("tests", "examples", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")]


def _layer_table() -> dict[str, frozenset[str]]:
    """Layer -> layers it may import, from the table in CONTRIBUTING.md."""
    row = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
    rows = row.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    return {name: frozenset(re.findall(r"`(\w+)`", below)) for name, below in rows}


MAY_IMPORT = _layer_table()
BY_NAME = {"registry", "__init__"}
"""Who may import a module by a string."""
BY_NAME_ONLY = {"original"}
"""Nobody's import statement names it."""
THIRD_PARTY = {"torch", "numpy", "scipy", "numba", "PIL", "safetensors", "tyro", "rich", "trimesh"}
THIRD_PARTY |= {"requests", "platformdirs", "h5py", "onnx"}
NOT_INSTALLED = {"bench": {"cv2"}}
"""Layer -> packages it uses where they happen to be there."""
PICTURE_FILES = {"files", "__init__"}
"""Who may import PIL; elsewhere images are tensors."""

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS = 400, 60, 7
BANNED = tuple(
    "".join(halves) for halves in (("/wo", "rk/"), ("/ro", "ot/"), ("/ho", "me/"), ("TO", "DO"), ("FIX", "ME"))
)


def layer(path: Path) -> str:
    """The folder or file of the package that a module belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name or "") of every import statement."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            yield from ((node.module or "", alias.name) for alias in node.names)


def layers_imported(path: Path) -> set[str]:
    """Layers of the package that a module imports, by a statement or by a string such as "ostec.geometry.raster:f"."""
    found = set()
    for module, name in imports(path):
        parts = module.split(".")
        if parts[0] == "ostec":
            found.add(parts[1] if len(parts) > 1 else name or "__init__")
    if layer(path) in BY_NAME:
        found |= {node.split(":")[0].split(".")[1] for node in strings(path) if re.match(r"ostec\.\w", node)}
    return found


def strings(path: Path) -> Iterator[str]:
    """Every string constant."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_module_has_its_row_in_the_table() -> None:
    assert {layer(path) for path in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_what_lies_below(path: Path) -> None:
    assert layers_imported(path) <= MAY_IMPORT[layer(path)] | {layer(path)}
    if layer(path) not in BY_NAME_ONLY:
        named = {module.split(".")[1] for module, _ in imports(path) if module.startswith("ostec.")}
        assert not named & BY_NAME_ONLY


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_outside_packages_are_those_declared(path: Path) -> None:
    outside = {module.split(".")[0] for module, _ in imports(path)} - set(sys.stdlib_module_names) - {"ostec"}
    assert outside <= THIRD_PARTY | NOT_INSTALLED.get(layer(path), set())
    assert "PIL" not in outside or layer(path) in PICTURE_FILES


def test_the_table_is_a_hierarchy() -> None:
    placed: set[str] = set()
    while ready := {name for name, below in MAY_IMPORT.items() if below <= placed} - placed:
        placed |= ready
    assert placed == set(MAY_IMPORT)


def test_modules_import_each_other_in_no_circle() -> None:
    names = {".".join(("ostec", *path.relative_to(SOURCE).with_suffix("").parts)): path for path in MODULES}
    below = {
        name: {m if m in names else f"{m}.{n}" for m, n in imports(path)} & (set(names) | {f"{name}.__init__"})
        for name, path in names.items()
    }
    placed: set[str] = set()
    while ready := {name for name, wanted in below.items() if wanted & set(names) <= placed} - placed:
        placed |= ready
    assert sorted(set(names) - placed) == []


def test_only_the_registry_imports_by_string() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert layer(path) in BY_NAME or not re.search(r"import_module|__import__", text), path


def test_no_folder_is_more_than_a_fifth_of_the_package() -> None:
    lines = Counter[str]()
    for path in MODULES:
        lines[layer(path)] += len(path.read_text(encoding="utf-8").splitlines())
    assert max(lines.values()) <= 0.2 * lines.total(), lines.most_common(3)


def test_the_declared_packages_are_those_allowed_here() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block
    declared = set(re.findall(r'"([a-z0-9]+)', block[1]))
    assert declared == {"pillow" if name == "PIL" else name for name in THIRD_PARTY}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert declared <= pinned


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """(name, lines, parameters) of every function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len(taken) - bool(taken and taken[0].arg in ("self", "cls"))
            yield node.name, (node.end_lineno or 0) - node.lineno + 1, count


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_fit_the_eye(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert "from __future__ import annotations" in text or "examples" in path.parts or len(text.splitlines()) <= 3
    assert {name: lines for name, lines, _ in functions(path) if lines > MAX_FUNCTION_LINES} == {}
    assert {name: count for name, _, count in functions(path) if count > MAX_PARAMETERS and name != "__init__"} == {}


def test_nothing_is_left_over_from_the_makers_desk() -> None:
    texts = [path for ending in ("*.md", "*.toml", "*.txt", "Makefile", ".ci/run") for path in ROOT.glob(ending)]
    for path in [*MODULES, *SCRIPTS, *(ROOT / "docs").rglob("*.md"), *texts]:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in BANNED if word in text], path
