"""The library's front door: light to import, complete, and honest about what it was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fakes import SETTINGS, FakeChoice, make_photos

import ostec

HEAVY = ("torch", "numpy", "scipy", "numba", "PIL", "safetensors", "tyro", "rich")


def in_fresh_python(code: str) -> str:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_is_light() -> None:
    loaded = in_fresh_python(f"import ostec; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert loaded == "[]"


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
    parts = FakeChoice().load()
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
    parts = FakeChoice().load()
    path = make_photos(tmp_path, "a.jpg")[0]
    shares: list[float] = []
    ostec.complete(path, parts, SETTINGS, lambda stage, share: shares.append(share))
    assert shares == sorted(shares)
    with pytest.raises(ostec.Cancelled, match=r"a\.jpg"):
        ostec.complete(path, parts, SETTINGS, lambda stage, share: False)


def test_a_photo_without_a_face_is_refused_by_name(tmp_path: Path) -> None:
    path = make_photos(tmp_path, "noface.jpg")[0]
    with pytest.raises(ostec.NoFace, match=r"noface\.jpg"):
        ostec.complete(path, FakeChoice().load(), SETTINGS)


def test_default_parts_are_built_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    choice = FakeChoice()
    monkeypatch.setattr("ostec.registry.components.load_parts", choice.load)
    ostec._default_parts.cache_clear()
    path = make_photos(tmp_path, "a.jpg")[0]
    for _ in range(2):
        ostec.complete(path, settings=SETTINGS)
    ostec._default_parts.cache_clear()
    assert choice.loads == 1
