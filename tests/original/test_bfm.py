"""Files of the Basel Face Model: what is wrong with one is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat
from small_bfm import EXPRESSIONS, IDENTITIES, KEPT, TRIM, draw_numbers, write_bfm

from ostec.errors import BadWeights, MissingWeights
from ostec.original import matlab_files
from ostec.original.bfm import load_bfm

NAMES = ("01_MorphableModel.mat", "Exp_Pca.bin", "std_exp.txt", "BFM_exp_idx.mat", "BFM_front_idx.mat")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_bfm(tmp_path, draw_numbers())
    return {name: tmp_path / name for name in NAMES}


def rewrite(file: str, **changes: np.ndarray | None) -> Callable[[dict[str, Path]], None]:
    def change(files: dict[str, Path]) -> None:
        held = {name: value for name, value in loadmat(files[file]).items() if not name.startswith("__")}
        savemat(files[file], {name: value for name, value in (held | changes).items() if value is not None})

    return change


def cut(file: str, keep: int) -> Callable[[dict[str, Path]], None]:
    return lambda files: _replace(files[file], files[file].read_bytes()[:keep])


def write(file: str, data: bytes) -> Callable[[dict[str, Path]], None]:
    return lambda files: _replace(files[file], data)


def _replace(path: Path, data: bytes) -> None:
    path.write_bytes(data)


FEWER = draw_numbers().components[:-300]
NAN = np.full((3 * (KEPT + 40), 1), np.nan, dtype=np.float32)
WRONG = {
    "2019 in place of 2009": (write(NAMES[0], b"\x89HDF\r\n\x1a\n" + bytes(1000)), "2017 and 2019"),
    "a key is missing": (rewrite(NAMES[0], shapeEV=None), "lacks 'shapeEV'"),
    "another vertex count": (
        rewrite(NAMES[0], shapeMU=draw_numbers().mean[:-300], shapePC=FEWER),
        "vertices, but .*BFM_exp_idx.*names vertex",
    ),
    "shapes that differ": (rewrite(NAMES[0], shapePC=FEWER), "are not a face model"),
    "too few components": (
        rewrite(NAMES[0], shapePC=draw_numbers().components[:, :1], shapeEV=np.ones((1, 1))),
        "are not a face model",
    ),
    "text for numbers": (rewrite(NAMES[0], shapeMU=np.array(["a"], dtype=object)), "numbers"),
    "not finite": (rewrite(NAMES[0], shapeMU=NAN), "not finite"),
    "cut short": (cut(NAMES[0], 5000), "truncated"),
    "a web page": (write(NAMES[0], b"<html>" * 100), "not a MATLAB file"),
    "empty": (write(NAMES[0], b""), "truncated"),
    "truncated bin": (cut("Exp_Pca.bin", -4), "truncated, or of another mesh"),
    "no bin": (write("Exp_Pca.bin", b"\x01"), "0 components of 0 vertices"),
    "a count below zero": (write("Exp_Pca.bin", b"\xff\xff\xff\xff" + bytes(99)), "0 components of 0 vertices"),
    "bin of another mesh": (
        write("Exp_Pca.bin", np.array([9], dtype="<i4").tobytes() + bytes(12 * 10 * 99)),
        "9 components of 99 vertices",
    ),
    "deviations": (write("std_exp.txt", b"1 2"), "holds 2 numbers"),
    "words": (write("std_exp.txt", b"<html>"), "not a list of numbers"),
    "index from 0": (rewrite("BFM_exp_idx.mat", trimIndex=TRIM[:, None]), "from 1"),
    "front of another": (rewrite("BFM_front_idx.mat", idx=np.array([[9e6]])), "names vertex 9,000,000"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(files: dict[str, Path], case: str) -> None:
    change, complaint = WRONG[case]
    change(files)
    with pytest.raises(BadWeights, match=complaint) as refused:
        load_bfm(files, 4, 3)
    assert "Basel Face Model 2009" in str(refused.value), "the remedy"


def test_more_components_than_there_are(files: dict[str, Path]) -> None:
    assert load_bfm(files, IDENTITIES, EXPRESSIONS).basis.shape == (3 * KEPT, IDENTITIES + EXPRESSIONS)
    for counts in ((IDENTITIES + 1, 1), (1, EXPRESSIONS + 1)):
        with pytest.raises(BadWeights, match="components"):
            load_bfm(files, *counts)


def test_rows_are_as_good_as_columns(files: dict[str, Path]) -> None:
    before = load_bfm(files, 2, 2)
    rewrite(NAMES[0], shapeEV=draw_numbers().deviations.T)(files)
    rewrite("BFM_exp_idx.mat", trimIndex=TRIM[None] + 1)(files)
    after = load_bfm(files, 2, 2)
    assert after.basis.equal(before.basis) and after.mean.equal(before.mean)


def test_trailing_numbers_do_no_harm(files: dict[str, Path]) -> None:
    """Some copies of the expressions end with their deviations."""
    before = load_bfm(files, 2, 2).basis
    files["Exp_Pca.bin"].write_bytes(files["Exp_Pca.bin"].read_bytes() + bytes(4 * EXPRESSIONS))
    assert load_bfm(files, 2, 2).basis.equal(before)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_went_away_is_missing(files: dict[str, Path], name: str) -> None:
    files[name].unlink()
    with pytest.raises(MissingWeights, match=name):
        load_bfm(files, 2, 2)


def test_a_small_file_may_not_unpack_to_a_large_one(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    held = {name: value for name, value in loadmat(files[NAMES[0]]).items() if not name.startswith("__")}
    savemat(files[NAMES[0]], {"padding": np.zeros(1 << 21), **held}, do_compression=True)
    assert load_bfm(files, 2, 2).mean.shape == (KEPT, 3)
    monkeypatch.setattr(matlab_files, "_LARGEST_BYTES", 1 << 23)
    with pytest.raises(BadWeights, match="unpacks to more than 8 MB"):
        load_bfm(files, 2, 2)
