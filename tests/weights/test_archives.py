"""Files that lie about how large they are, or hide what they are, cost a message and no memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from ostec.errors import BadWeights
from ostec.landmarks.fan import load_fan
from ostec.original.matlab_files import read_matrices
from ostec.weights.archives import entries_of, read_npz
from ostec.weights.open import read_stored


def archive(path: Path, packing: int = zipfile.ZIP_STORED, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", packing) as out:
        for name, data in files.items():
            out.writestr(name.replace("_dot_", "."), data)
    return path


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_kinds_of_packing_without_a_bound_are_refused(tmp_path: Path, packing: int) -> None:
    packed = archive(tmp_path / "buffalo_l.zip", packing, w600k_r50_dot_onnx=bytes(1 << 20))
    with pytest.raises(BadWeights, match="packed oddly"):
        read_stored(packed, "", "w600k_r50.onnx")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("x", b"1")
        out.writestr("x", b"2")
    with zipfile.ZipFile(tmp_path / "a.zip") as twice, pytest.raises(BadWeights, match="share names"):
        entries_of(twice, "a.zip")


def test_arrays_are_arrays_and_of_bounded_size(tmp_path: Path) -> None:
    path, wanted = tmp_path / "a.npz", ("vertices", "absent")
    np.savez(path, vertices=np.arange(1000.0), other=np.array([open], dtype=object))
    found = read_npz(path, wanted, 10_000, "Get it again.")
    assert list(found) == ["vertices"] and np.array_equal(found["vertices"], np.arange(1000.0))
    with pytest.raises(BadWeights, match=r"vertices unpacks .*Get it again\."):
        read_npz(path, wanted, 1000, "Get it again.")
    with pytest.raises(BadWeights, match=r"truncated.*Get it again\."):
        read_npz(path, ("other",), 10_000, "Get it again.")
    with pytest.raises(BadWeights, match="'vertices', which is no array"):
        read_npz(archive(tmp_path / "b.npz", vertices=b"", vertices_dot_npy=b""), wanted, 1000, "")


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(1).expand(1 << 40), torch.zeros(4, device="meta"), torch.eye(4).to_sparse(), torch.zeros(4) + 1j],
    ids=["expanded", "meta", "sparse", "complex"],
)
def test_tensors_that_are_not_in_the_file_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"conv1.weight": tensor}, tmp_path / "a.pth")
    with pytest.raises(BadWeights, match="larger than the file|no network here has"):
        load_fan(tmp_path / "a.pth")


def test_two_matrices_of_one_name_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"lm": np.zeros((2, 3))})
    data = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "b.mat").write_bytes(data + data[128:])
    assert read_matrices(tmp_path / "a.mat", {"lm": (2, 3)}, "")["lm"].shape == (2, 3)
    with pytest.raises(BadWeights, match="two matrices of one name"):
        read_matrices(tmp_path / "b.mat", {"lm": (2, 3)}, "")
