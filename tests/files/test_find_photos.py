"""Folders are searched for photos by suffix; what cannot be read is named rather than overlooked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ostec.errors import BadPhoto
from ostec.files.photos import find_photos, load_photo


def test_find_photos(tmp_path: Path) -> None:
    wanted = ["Ä.JPG", "a.jpeg", "b.WebP", "c.heic", "sub/d.png"]
    ignored = [".hidden.jpg", "._a.jpeg", "notes.txt", "jpg", ".thumbnails/e.jpg"]
    for name in wanted + ignored:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    found = find_photos(tmp_path, recursive=True)
    assert found == sorted(found)
    assert {path.relative_to(tmp_path).as_posix() for path in found} == set(wanted)
    assert {path.name for path in find_photos(tmp_path, recursive=False)} == set(wanted[:4])
    assert find_photos(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(BadPhoto, match="no such file or folder"):
        find_photos(tmp_path / "missing")


def test_a_broken_link_is_named_rather_than_overlooked(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").symlink_to(tmp_path / "gone.jpg")
    assert find_photos(tmp_path) == find_photos(tmp_path / "x.jpg") == [tmp_path / "x.jpg"]
    with pytest.raises(BadPhoto, match="no such file"):
        load_photo(tmp_path / "x.jpg")


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BadPhoto, match="cannot be listed"):
        find_photos(tmp_path)
