"""Names of outputs: never two alike, whatever the photos are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostec.files.names import face_name, output_names

STEMS = st.sampled_from(["a", "A", "a_face2", "a_frontal", "a_sheet", "a_face2_frontal", "b", "a.jpg", "summary", "é"])
PHOTOS = st.lists(
    st.builds(
        lambda folder, stem, suffix: Path(folder) / f"{stem}{suffix}",
        st.sampled_from(["x", "y", "x/x", "z/x"]),
        STEMS,
        st.sampled_from([".jpg", ".png", ".JPG", ""]),
    ),
    unique=True,
    max_size=12,
)
ENDINGS = (".png", "_frontal.png", "_sheet.jpg", ".json")


@given(PHOTOS)
def test_no_two_photos_share_a_file(photos: list[Path]) -> None:
    files = ["summary.json"]
    for name in output_names(photos):
        files += [f"{face_name(name, number)}{ending}" for number in (1, 2) for ending in ENDINGS]
    assert len({file.casefold() for file in files}) == len(files)


@given(PHOTOS, st.randoms())
def test_names_do_not_depend_on_the_order(photos: list[Path], random) -> None:
    names = dict(zip(photos, output_names(photos), strict=True))
    random.shuffle(photos)
    assert output_names(photos) == [names[photo] for photo in photos]


@pytest.mark.parametrize(
    ("photos", "names"),
    [
        (["a.jpg", "b.jpg"], ["a", "b"]),
        (["a.jpg", "a.png", "b.jpg"], ["a.jpg", "a.png", "b"]),
        (["x/a.jpg", "y/a.jpg"], ["x_a.jpg", "y_a.jpg"]),
        (["a.jpg", "a_face2.jpg", "b_face2.jpg"], ["a", "a_face2.jpg", "b_face2"]),
        (["summary.jpg"], ["summary.jpg"]),
    ],
)
def test_names(photos: list[str], names: list[str]) -> None:
    assert output_names([Path(photo) for photo in photos]) == names
