"""The library's front door: light to import, complete, and honest about what it was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import SETTINGS, FakeSelection, make_photos

import ostec

HEAVY = ("torch", "numpy", "scipy", "numba", "PIL", "safetensors", "tyro", "rich")


def in_fresh_python(code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_is_light() -> None:
    loaded = in_fresh_python(f"import ostec; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == "[]"


def test_importing_the_package_changes_no_environment_variable() -> None:
    code = "import os; before = dict(os.environ); import ostec; ostec.Settings(); print(dict(os.environ) == before)"
    assert in_fresh_python(code) == "True"


def test_the_command_line_asks_torch_for_large_pages_before_torch_is_imported() -> None:
    code = (
        "import os; os.environ.pop('THP_MEM_ALLOC_ENABLE', None); import ostec.cli; ostec.cli.main(['--version']); "
        "print(os.environ['THP_MEM_ALLOC_ENABLE'], 'torch' in sys.modules)"
    )
    assert in_fresh_python(code).splitlines()[-1] == "1 False"


def test_importing_the_package_takes_well_under_a_second() -> None:
    timed = "import time; start = time.perf_counter(); import ostec; print(time.perf_counter() - start)"
    assert float(in_fresh_python(timed)) < 0.5


def test_every_public_name_is_there() -> None:
    for name in ostec.__all__:
        assert getattr(ostec, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        ostec.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_no_module_hides_a_public_name() -> None:
    """`import ostec.x.y` sets the attribute `x` of the package, over a function of that name."""
    folder = Path(ostec.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    assert not modules & set(ostec.__all__)


def test_every_error_is_public_and_derives_from_one() -> None:
    errors = [thing for thing in vars(ostec.errors).values() if isinstance(thing, type)]
    assert len(errors) > 5
    for error in errors:
        assert issubclass(error, ostec.OstecError)
        assert getattr(ostec, error.__name__) is error


def test_complete_takes_a_path_or_a_photo(tmp_path: Path) -> None:
    parts = FakeSelection().load()
    path = make_photos(tmp_path, "a.jpg")[0]
    result = ostec.complete(path, parts, SETTINGS)
    again = ostec.complete(result.photo, parts, SETTINGS)
    assert result.texture.rgb.shape == (3, 64, 64)
    assert result.texture.confidence.shape == (64, 64)
    assert torch.equal(result.texture.rgb, again.texture.rgb)
    assert result.frontal is None
    written = result.save(tmp_path / "out", name="photo", formats=("png",))
    assert (tmp_path / "out" / "photo.png") in written.values()


def test_progress_rises_and_may_cancel(tmp_path: Path) -> None:
    parts = FakeSelection().load()
    path = make_photos(tmp_path, "a.jpg")[0]
    shares: list[float] = []
    ostec.complete(path, parts, SETTINGS, lambda stage, share: shares.append(share))
    assert shares == sorted(shares)
    with pytest.raises(ostec.Cancelled, match=r"a\.jpg"):
        ostec.complete(path, parts, SETTINGS, lambda stage, share: False)


def test_a_photo_without_a_face_is_refused_by_name(tmp_path: Path) -> None:
    path = make_photos(tmp_path, "noface.jpg")[0]
    with pytest.raises(ostec.NoFace, match=r"noface\.jpg"):
        ostec.complete(path, FakeSelection().load(), SETTINGS)


def test_default_parts_are_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    choice = FakeSelection()
    monkeypatch.setattr("ostec.registry.components.load_parts", choice.load)
    ostec._default_parts.cache_clear()
    path = make_photos(tmp_path, "a.jpg")[0]
    for _ in range(2):
        ostec.complete(path, settings=SETTINGS)
    ostec._default_parts.cache_clear()
    assert choice.loads == 1


def test_the_caller_s_random_numbers_are_left_alone() -> None:
    """Nothing draws from torch's global generator: its state stays, and does not shape the result."""
    parts = ostec.load_parts(completer="prior", reconstructor="mediapipe", device="cpu")
    textures = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        textures.append(ostec.complete(ostec.demo_photo(), parts, ostec.Settings(texture_size=128)).texture.rgb)
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*textures)


def test_settings_are_checked_and_named() -> None:
    with pytest.raises(ostec.BadSettings, match=r"texture_size is 5; choose 64\.\.8192"):
        ostec.Settings(texture_size=5)
    with pytest.raises(ostec.BadSettings, match="iterations is -1"):
        ostec.SearchSettings(iterations=-1)
    with pytest.raises(ostec.BadSettings, match="'sgd'; choose ggt, adam or lbfgs"):
        ostec.SearchSettings(optimiser="sgd")  # pyright: ignore[reportArgumentType]


def test_search_settings_without_a_search_are_warned_of() -> None:
    parts = ostec.load_parts(completer="mirror", reconstructor="mediapipe", device="cpu")
    search = ostec.SearchSettings(film=True, iterations=5)
    for changed, words in ((search, ["iterations, film had no effect"]), (ostec.SearchSettings(), [])):
        settings = ostec.Settings(texture_size=64, search=changed)
        warnings = ostec.complete(ostec.demo_photo(), parts, settings).report["warnings"]
        assert len(warnings) == len(words) and all(word in line for word, line in zip(words, warnings, strict=True))
