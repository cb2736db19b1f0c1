"""The original's mesh from its pickles, without menpo and without running anything."""

from __future__ import annotations

import math
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_bfm import KEPT, menpo_object, pickled, points, write_topology
from synthetic import SHAPE

from ostec.errors import BadWeights, MissingWeights
from ostec.heads.ostec_topology import load_topology
from ostec.weights.pickles import array, attributes, unpickle

NAMES = ("trilist_full.pkl", "tcoords_alex.pkl", "mask_full2crop.pkl", "all_all_all_lands_ids.pkl")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    write_topology(tmp_path)
    return {name: tmp_path / name for name in NAMES}


def test_the_mesh_is_read(files: dict[str, Path]) -> None:
    topology = load_topology(files)
    assert "menpo" not in sys.modules
    assert torch.equal(topology.faces, SHAPE.faces) and topology.faces.dtype == torch.int64
    assert torch.allclose(topology.uv, SHAPE.uv), "v points up in the file and down here"
    assert topology.uv_faces is topology.faces and topology.mirror is None
    assert topology.paintable.tolist() == [False] * 61 + [True] * (KEPT - 61)
    assert torch.equal(topology.landmark_vertices, SHAPE.landmark_vertices)


UV = np.full((KEPT, 2), 0.5, dtype=np.float32)
WRONG = {
    "an array for points": ("tcoords_alex.pkl", pickled(UV), "points or a mesh of menpo's"),
    "no points": ("tcoords_alex.pkl", pickled(menpo_object("menpo.shape.pointcloud", "PointCloud", n=1)), "points"),
    "beyond the texture": ("tcoords_alex.pkl", pickled(points(UV * 3)), "0..1"),
    "another vertex count": ("tcoords_alex.pkl", pickled(points(UV[:-9])), "of true and false"),
    "a mask of another mesh": ("mask_full2crop.pkl", pickled(np.ones(7, dtype=bool)), f"{KEPT:,}"),
    "triangles of another mesh": ("trilist_full.pkl", pickled(np.full((5, 3), KEPT)), "vertices below"),
    "quads": ("trilist_full.pkl", pickled(np.zeros((5, 4), dtype=int)), "vertices below"),
    "67 landmarks": ("all_all_all_lands_ids.pkl", pickled([1] * 67), "68 vertices"),
    "landmarks of the crop": ("all_all_all_lands_ids.pkl", pickled([None, *[1] * 67]), "list of vertices"),
    "an infinite landmark": ("all_all_all_lands_ids.pkl", pickled([math.inf, *[1] * 67]), "list of vertices"),
    "cut short": ("trilist_full.pkl", pickled(np.zeros((5, 3), dtype=int))[:-30], "damaged"),
    "a web page": ("mask_full2crop.pkl", b"<html>", "damaged"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(files: dict[str, Path], case: str) -> None:
    name, data, complaint = WRONG[case]
    files[name].write_bytes(data)
    with pytest.raises(BadWeights, match=complaint) as refused:
        load_topology(files)
    assert "ostec models get" in str(refused.value)


@pytest.mark.parametrize("name", NAMES)
def test_an_absent_file_is_named(files: dict[str, Path], name: str) -> None:
    files[name].unlink()
    with pytest.raises(MissingWeights, match=name):
        load_topology(files)


class _Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


def test_a_hostile_mesh_runs_nothing(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = pickled(menpo_object("menpo.shape.pointcloud", "PointCloud", points=_Runs()))
    hostile = hidden, pickle.dumps([_Runs()])
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("a pickle ran something"))
    for data in hostile:
        files["tcoords_alex.pkl"].write_bytes(data)
        with pytest.raises(BadWeights, match="names .*system"):
            load_topology(files)


def test_a_name_within_menpo_is_not_imported() -> None:
    """Not even where the name leads out of menpo again."""
    sly = b"\x80\x04\x8c\x05menpo\x8c\x09os.system\x93."
    node = unpickle(sly, "file")
    assert node.name == "menpo.os.system" and "menpo" not in sys.modules
    held = unpickle(pickled(points(UV)), "file")
    assert np.array_equal(array(attributes(held)["points"]), UV)
