"""Hostile pickles: nothing they name is imported or run, and they take no more memory than they are large."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import random
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._utils import _rebuild_tensor_v2

from ostec.errors import BadWeights
from ostec.networks.stylegan2_files import load_generator
from ostec.weights.pickles import array, entries, floats, number, tensor, unpickle, wrapped

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
MB = 1 << 20


class _Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def opcodes(*parts: bytes) -> bytes:
    return b"\x80\x04" + b"".join(parts) + b"."


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module: str, name: str) -> bytes:
    return text(module) + text(name) + b"\x93"


MARKER = "OSTEC_PICKLE_RAN"
SET_MARKER = f"import os; os.environ['{MARKER}'] = '1'"
HOSTILE = {
    "system": pickle.dumps(_Calls(os.system, f"export {MARKER}=1")),
    "exec": pickle.dumps(_Calls(builtins.exec, SET_MARKER)),
    "eval": pickle.dumps(_Calls(builtins.eval, f"__import__('os').environ.update({MARKER}='1')")),
    "nested": pickle.dumps({"G": 1, "G_ema": [{"state": (_Calls(builtins.exec, SET_MARKER),)}]}),
    "old protocol": pickle.dumps(_Calls(builtins.exec, SET_MARKER), protocol=0),
    "inst": b"(S'" + SET_MARKER.encode() + b"'\nibuiltins\nexec\n.",
    "obj": b"(cbuiltins\nexec\nS'" + SET_MARKER.encode() + b"'\no.",
    "getattr": opcodes(named("builtins", "getattr"), b"\x8c\x01a\x8c\x01b\x86R"),
    "dotted name": opcodes(named("numpy", "ndarray.__init__.__globals__")),
    "numpy loader": pickle.dumps(_Calls(np.load, "x.npy", None, True)),
    "torch loader": pickle.dumps(_Calls(torch.load, "x.pt")),
    "allowed module": opcodes(named("torch.storage", "UntypedStorage"), b")R"),
    "extension": opcodes(b"\x82\x01"),
    "outside": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "large memo": b"\x80\x02]r\xff\xff\xff\x7f.",
    "large buffer": opcodes(b"\x96" + struct.pack("<Q", 1 << 40)),
    "large text": opcodes(b"\x8d" + struct.pack("<Q", 1 << 40)),
    "never stops": b"\x80\x04]",
    "empty": b"",
    "text": b"<html>Sign in to download</html>",
    "state on a class": opcodes(named("collections", "OrderedDict"), b"}\x8c\x01a\x8c\x01bsb"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_runs(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(MARKER, raising=False)
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("a pickle ran something"))
    modules = set(sys.modules)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(BadWeights, match=r"hostile\.pkl"):
        load_generator(path)
    assert MARKER not in os.environ
    assert {name for name in set(sys.modules) - modules if not name.startswith("encodings.")} == set()


def test_a_refused_name_is_told() -> None:
    with pytest.raises(BadWeights, match=r"builtins\.exec"):
        unpickle(HOSTILE["exec"], "file")


def test_state_does_not_outlast_its_file() -> None:
    """What one file does to its stand-ins is not seen by the next."""
    data = opcodes(named("collections", "OrderedDict"), b")R\x8c\x01a\x8c\x01bs")
    first, second = unpickle(data, "first"), unpickle(data, "second")
    assert type(first) is not type(second) and dict(entries(first)) == {"a": "b"}


def pickled_array(shape: tuple[int, ...], data: bytes) -> bytes:
    """An array whose shape and bytes need not agree."""
    honest = pickle.dumps(np.zeros(2, dtype=np.float32), protocol=3)
    shaped = b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape)
    shaped = b"(" + shaped + b"t"
    at = honest.index(b"K\x02\x85", honest.index(b"K\x01"))
    return honest[:at] + shaped + honest[at + 3 :].replace(b"C\x08" + bytes(8), b"C" + bytes([len(data)]) + data)


def test_arrays_are_as_large_as_their_bytes() -> None:
    assert array(unpickle(pickled_array((1, 2), b"\0\0\x80?\0\0\0@"), "file")).tolist() == [[1, 2]]
    for shape in ((1 << 40,), (3,), (-1, -2), (1 << 20, 1 << 20, 1 << 20)):
        with pytest.raises(ValueError, match="bytes"):
            array(unpickle(pickled_array(shape, bytes(8)), "file"))


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "<i4", "|u1"])
def test_honest_arrays_come_back(protocol: int, dtype: str) -> None:
    for value in (
        np.arange(6).reshape(2, 3).astype(dtype),
        np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
    ):
        assert np.array_equal(array(unpickle(pickle.dumps(value, protocol), "file")), value)
    assert number(unpickle(pickle.dumps(np.float32(2.5), protocol), "file")) == 2.5


PYTHON_2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\n"
    b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x80\xc0tb."
)
"""What Python 2 writes of an array: its texts are bytes."""


def test_arrays_of_python_2_come_back() -> None:
    assert np.array_equal(pickle.loads(PYTHON_2, encoding="latin1"), np.array([1, -4], np.float32))
    assert array(unpickle(PYTHON_2, "file")).tolist() == floats(unpickle(PYTHON_2, "file")).tolist() == [1, -4]


def test_what_numpy_wraps_comes_back() -> None:
    table = {"layer": {"weights": np.arange(6.0).reshape(2, 3)}}
    found = wrapped(unpickle(pickle.dumps(np.array(table, dtype=object)), "file"))
    assert floats(found["layer"]["weights"]).tolist() == [[0, 1, 2], [3, 4, 5]]
    for other in (np.array([None, 1]), np.zeros(1), {}):
        with pytest.raises(ValueError, match="single object"):
            wrapped(unpickle(pickle.dumps(other), "file"))


def test_arrays_of_objects_are_refused() -> None:
    with pytest.raises(ValueError, match="bytes were expected"):
        array(unpickle(pickle.dumps(np.array([None, 1])), "file"))


def pickled_tensor(size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> bytes:
    """A tensor over four numbers, as NVIDIA's pickles hold it."""
    stored = io.BytesIO()
    torch.save(torch.arange(4.0).untyped_storage(), stored, _use_new_zipfile_serialization=False)
    storage = _Calls(torch.storage._load_from_bytes, stored.getvalue())
    return pickle.dumps(_Calls(_rebuild_tensor_v2, storage, offset, size, stride, False, {}))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((1 << 40,), (0,), 0), ((5,), (1,), 0), ((2,), (1,), 15), ((2, 2), (4, 8), 0), ((2,), (-1,), 1), ((-2,), (1,), 0)],
)
def test_tensors_do_not_reach_beyond_their_storage(size: tuple, stride: tuple, offset: int) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        tensor(unpickle(pickled_tensor(size, stride, offset), "file"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_storage_may_hide_nothing() -> None:
    hostile = _Calls(torch.storage._load_from_bytes, HOSTILE["exec"])
    node = unpickle(pickle.dumps(_Calls(_rebuild_tensor_v2, hostile, 0, (1,), (1,), False, {})), "file")
    with pytest.raises(ValueError, match="cannot be read"):
        tensor(node)
    assert MARKER not in os.environ


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Encoding one long text a thousand times over, and an archive of zeros."""
    long = b"X" + struct.pack("<I", MB) + b"a" * MB + b"\x94"
    call = named("_codecs", "encode") + b"\x94"
    many = b"(" + b"h\x01h\x00\x8c\x06latin1\x86R" * 1000 + b"l"
    (tmp_path / "many.pkl").write_bytes(opcodes(long, call, b"00", many))
    with zipfile.ZipFile(tmp_path / "zeros.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(256 * MB))
    for name in ("many.pkl", "zeros.pt"):
        tracemalloc.start()
        with pytest.raises(BadWeights):
            load_generator(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * MB


@pytest.mark.parametrize("file", ["stylegan2_tf_32px.pkl", "stylegan2_ada_32px.pkl"])
def test_damaged_files_load_or_are_refused(file: str, tmp_path: Path) -> None:
    """Flipped bytes, mostly among the instructions."""
    data, draw, refused = (GOLDEN / file).read_bytes(), random.Random(0), 0
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(draw.choice((1, 3, 30))):
            damaged[int(len(data) * draw.random() ** 3)] = draw.randrange(256)
        (tmp_path / file).write_bytes(damaged)
        try:
            load_generator(tmp_path / file)
        except BadWeights as error:
            assert file in str(error)
            refused += 1
    assert 10 < refused < 60


@pytest.mark.parametrize("wrap", [b"\x85", b"N\x86", b"\x94\x85"], ids=["one", "two", "stored"])
def test_tuples_in_tuples_do_not_end_the_program(wrap: bytes) -> None:
    """As a key of a table they would be hashed, which goes down without bound."""
    with pytest.raises(BadWeights, match="more instructions"):
        unpickle(b"\x80\x04}(" + b")" + wrap * 200_000 + b"K\x01u.", "a.pkl")


def test_an_object_for_every_byte_is_refused() -> None:
    with pytest.raises(BadWeights, match="more instructions"):
        unpickle(b"\x80\x04(" + b"\x8f" * 2_000_000 + b"l.", "a.pkl")
