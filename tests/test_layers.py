"""Who may import whom, checked from the syntax trees: imports within functions and for type checkers count too."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ostec"
MODULES = sorted(SOURCE.rglob("*.py"))
SCRIPTS = [path for folder in ("tests", "examples", "benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")]

_BASE = {"types", "errors"}
_CONTRACT = _BASE | {"interfaces", "settings"}
MAY_IMPORT = {
    "types": set[str](),
    "errors": set[str](),
    "settings": _BASE,
    "interfaces": _BASE | {"settings"},
    "geometry": _BASE | {"interfaces", "geometry"},
    "texture": _CONTRACT | {"geometry", "texture"},
    "completion": _CONTRACT | {"geometry", "texture", "completion"},
    "models": _BASE | {"interfaces", "geometry", "models"},
    "io": _BASE,
    "meshfiles": _BASE,
    "objinput": set[str](),
    "meshinput": _BASE | {"io", "objinput"},
    "outputs": _BASE | {"io", "meshfiles"},
    "report": _BASE | {"geometry"},
    "pipeline": _CONTRACT | {"geometry", "texture", "completion", "report"},
    "assembly": _CONTRACT | {"geometry", "completion", "models"},
    "components": _CONTRACT,
    "naming": set[str](),
    "resume": _BASE | {"settings"},
    "batch": _CONTRACT | {"pipeline", "components", "io", "naming", "resume"},
    "retexture": _CONTRACT | {"geometry", "texture", "components", "meshinput", "outputs", "retexture"},
    "bench": _CONTRACT
    | {
        "meshinput",
        "pipeline",
        "components",
        "io",
        "batch",
        "naming",
        "geometry",
        "texture",
        "completion",
        "models",
        "bench",
    },
    "cli": _CONTRACT
    | {"pipeline", "components", "io", "outputs", "report", "batch", "bench", "cli_models", "retexture"},
    "cli_models": _CONTRACT | {"components", "io", "models"},
    "__main__": {"cli"},
    "__init__": _CONTRACT | {"pipeline", "components", "io", "models", "retexture"},
}
"""Layer -> layers it may import. `components` reaches the rest by name, when asked for."""

BY_NAME = {"components", "__init__"}
"""Who may import a module by a string."""
THIRD_PARTY = {"torch", "numpy", "scipy", "numba", "PIL", "safetensors", "tyro", "rich", "trimesh"}
THIRD_PARTY |= {"requests", "platformdirs", "h5py", "onnx"}
NOT_INSTALLED = {"bench": {"cv2"}}
"""Layer -> packages it uses where they happen to be there."""
PICTURE_FILES = {"io", "__init__"}
"""Who may import PIL; elsewhere images are tensors."""

MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60
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
    """Layers of the package that a module imports; the package's version is free for all."""
    found = set()
    for module, name in imports(path):
        parts = module.split(".")
        if parts[0] != "ostec" or (module, name) == ("ostec", "__version__"):
            continue
        found.add(parts[1] if len(parts) > 1 else name or "__init__")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_what_lies_below(path: Path) -> None:
    assert layers_imported(path) <= MAY_IMPORT[layer(path)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_outside_packages_are_those_declared(path: Path) -> None:
    outside = {module.split(".")[0] for module, _ in imports(path)} - set(sys.stdlib_module_names) - {"ostec"}
    assert outside <= THIRD_PARTY | NOT_INSTALLED.get(layer(path), set())
    assert "PIL" not in outside or layer(path) in PICTURE_FILES


def test_the_table_is_a_hierarchy() -> None:
    placed: set[str] = set()
    while ready := {name for name, below in MAY_IMPORT.items() if below - {name} <= placed} - placed:
        placed |= ready
    assert placed == set(MAY_IMPORT)


def test_only_the_registry_imports_by_string() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert layer(path) in BY_NAME or not re.search(r"import_module|__import__", text), path


def test_the_declared_packages_are_those_allowed_here() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block
    declared = set(re.findall(r'"([a-z0-9]+)', block[1]))
    assert declared == {"pillow" if name == "PIL" else name for name in THIRD_PARTY}
    pinned = set(re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert declared <= pinned


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(name, lines) of every function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


@pytest.mark.parametrize("path", [*MODULES, *SCRIPTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_fit_the_eye(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    assert "from __future__ import annotations" in text or "examples" in path.parts or len(text.splitlines()) <= 3
    assert {name: lines for name, lines in functions(path) if lines > MAX_FUNCTION_LINES} == {}


def test_nothing_is_left_over_from_the_makers_desk() -> None:
    texts = [path for ending in ("*.md", "*.toml", "*.txt", "Makefile", ".ci/run") for path in ROOT.glob(ending)]
    for path in [*MODULES, *SCRIPTS, *(ROOT / "docs").rglob("*.md"), *texts]:
        text = path.read_text(encoding="utf-8")
        assert not [word for word in BANNED if word in text], path
