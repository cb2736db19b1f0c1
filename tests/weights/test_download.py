"""Downloads from a local server that stalls, cuts off, lies about length, refuses, and serves wrong bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from small_iresnet import small_iresnet, written

from ostec.errors import BadWeights, CannotDownload, CannotWrite
from ostec.weights.catalogue import WeightFile
from ostec.weights.download import check_downloaded, download

DATA = save({"weight": torch.rand(40_000, generator=torch.Generator().manual_seed(0))})


@dataclass
class Server:
    """What it does to each request in turn; the last behaviour goes on."""

    url: str = ""
    data: bytes = DATA
    behaviours: list[str] = field(default_factory=lambda: ["honest"])
    ranges: list[str] = field(default_factory=list)
    etag: str = ""

    def entry(self, **changes: str) -> WeightFile:
        return replace(WeightFile("w", "w.safetensors", "weights", "CC0", self.url), **changes)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour = state.behaviours.pop(0) if len(state.behaviours) > 1 else state.behaviours[0]
            asked = self.headers.get("Range", "")
            state.ranges.append(asked)
            start = int(asked[len("bytes=") : -1]) if asked and behaviour != "no ranges" else 0
            accepts = "gzip" in self.headers.get("Accept-Encoding", "")
            compresses = behaviour.startswith("always gzip") or (behaviour.startswith("gzip") and accepts)
            stored = gzip.compress(state.data) if compresses else state.data  # ranges are of what is sent
            if behaviour.isdigit() or start > len(stored):
                self.send_error(int(behaviour) if behaviour.isdigit() else 416)
                return
            if asked and self.headers.get("If-Range", state.etag) != state.etag:
                asked, start = "", 0
            body = stored[start:]
            self.send_response(206 if asked and behaviour != "no ranges" else 200)
            if state.etag:
                self.send_header("ETag", state.etag)
            if compresses:
                self.send_header("Content-Encoding", "gzip")
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(stored) - 1}/{len(stored)}")
            if behaviour != "no length":
                self.send_header("Content-Length", str(len(body) + (1000 if behaviour == "longer" else 0)))
            self.end_headers()
            whole = not behaviour.endswith("cut") and behaviour != "stall"
            self.wfile.write(body if whole else body[: len(body) // 2])
            if behaviour == "stall":
                self.wfile.flush()
                time.sleep(1.5)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/w.safetensors"
    yield state
    http.shutdown()
    http.server_close()


def fetch(entry: WeightFile, folder: Path) -> Path:
    return download(entry, folder, pause_s=0.0, stall_s=0.3)


@pytest.mark.parametrize(
    "behaviours",
    [
        ["honest"],
        ["no length"],
        ["cut", "honest"],
        ["cut", "cut", "cut", "honest"],
        ["stall", "honest"],
        ["503", "honest"],
        ["cut", "no ranges"],
        ["cut", "416", "honest"],
        ["gzip"],
        ["gzip cut", "gzip"],
        ["gzip cut", "gzip cut", "gzip cut", "gzip"],
        ["always gzip"],
        ["always gzip cut", "always gzip cut", "always gzip"],
        ["cut", "always gzip", "honest"],
        ["always gzip cut", "honest"],
    ],
    ids=lambda b: "-".join(b),
)
def test_the_file_comes_whole(server: Server, behaviours: list[str], tmp_path: Path) -> None:
    server.behaviours = behaviours
    assert fetch(server.entry(), tmp_path / "new" / "folder").read_bytes() == DATA
    names = {path.name for path in (tmp_path / "new" / "folder").iterdir()}
    assert names == {"w.safetensors", "w.safetensors.sha256"}


def test_what_broke_off_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.behaviours = ["cut"] * 5 + ["honest"]
    with pytest.raises(CannotDownload, match="run the same command again"):
        fetch(server.entry(), tmp_path)
    assert not (tmp_path / "w.safetensors").exists()
    have = (tmp_path / "w.safetensors.part").stat().st_size
    assert have > 0.5 * len(DATA)
    assert fetch(server.entry(), tmp_path).read_bytes() == DATA
    assert server.ranges[0] == "" and server.ranges[-1] == f"bytes={have}-"


def test_what_a_server_compresses_against_the_request_is_not_resumed(server: Server, tmp_path: Path) -> None:
    server.behaviours = ["always gzip cut"]
    with pytest.raises(CannotDownload):
        fetch(server.entry(), tmp_path)
    assert set(server.ranges) == {""} and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("etag", ['"one"', 'W/"one"', ""])
def test_a_file_that_has_changed_is_not_resumed_where_the_server_can_tell(
    server: Server, etag: str, tmp_path: Path
) -> None:
    server.etag, server.behaviours = etag, ["cut"] * 5 + ["honest"]
    with pytest.raises(CannotDownload):
        fetch(server.entry(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "w.safetensors.part",
        *(["w.safetensors.part.etag"] if etag == '"one"' else []),
    }
    if etag == '"one"':
        server.etag, server.data = '"two"', save({"weight": torch.zeros(30_000)})
    assert fetch(server.entry(), tmp_path).read_bytes() == server.data
    assert {path.name for path in tmp_path.iterdir()} == {"w.safetensors", "w.safetensors.sha256"}


def test_a_file_that_is_there_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"mine")
    assert fetch(server.entry(), tmp_path).read_bytes() == b"mine" and server.ranges == []


@pytest.mark.parametrize("behaviour", ["longer", "404", "403", "cut", "stall"])
def test_what_does_not_come_is_said(server: Server, behaviour: str, tmp_path: Path) -> None:
    server.behaviours = [behaviour]
    server.data = DATA if behaviour != "longer" else DATA[:200]
    with pytest.raises(CannotDownload, match="w.safetensors"):
        fetch(server.entry(), tmp_path)
    assert not (tmp_path / "w.safetensors").exists()
    assert len(server.ranges) == (1 if behaviour.isdigit() else 5)


@pytest.mark.parametrize("data", [b"<html>please sign in</html>", DATA[:-10], b""], ids=["page", "short", "empty"])
def test_wrong_bytes_are_not_kept(server: Server, data: bytes, tmp_path: Path) -> None:
    server.data = data
    with pytest.raises(BadWeights, match="w.safetensors"):
        fetch(server.entry(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_known_checksum_must_agree(server: Server, tmp_path: Path) -> None:
    right = hashlib.sha256(DATA).hexdigest()
    assert fetch(server.entry(sha256=right[:8]), tmp_path / "a").is_file()
    with pytest.raises(BadWeights, match=right[:8]):
        fetch(server.entry(sha256="0" * 64), tmp_path / "b")
    assert not list((tmp_path / "b").iterdir())


def test_an_archive_must_hold_its_file(server: Server, tmp_path: Path) -> None:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("w600k_r50.onnx", written(small_iresnet()).SerializeToString())
    server.data = stored.getvalue()
    for member in ("w600k_r50.onnx", "det_10g.onnx"):
        entry = replace(WeightFile("w", "buffalo_l.zip", "weights", "theirs", server.url), member=member)
        if member == "w600k_r50.onnx":
            assert fetch(entry, tmp_path / member).read_bytes() == server.data
        else:
            with pytest.raises(BadWeights, match="0 files det_10g.onnx"):
                fetch(entry, tmp_path / member)
            assert not list((tmp_path / member).iterdir())


def test_damage_is_noticed_later(server: Server, tmp_path: Path) -> None:
    path = fetch(server.entry(), tmp_path)
    assert check_downloaded(path, server.entry()) is None
    path.write_bytes(DATA[:-1] + b"\x01")
    assert "w.safetensors" in (check_downloaded(path, server.entry()) or "")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(CannotDownload, match="127.0.0.1"):
        fetch(replace(Server().entry(), url="http://127.0.0.1:9/w.safetensors"), tmp_path)


def test_what_has_no_address_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(CannotDownload, match="ask nicely"):
        fetch(WeightFile("w", "w.pkl", "weights", "theirs", None, "Fill in the form and ask nicely"), tmp_path)


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="file"):
        fetch(server.entry(), tmp_path / "file")


def test_progress_is_told(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    download(server.entry(), tmp_path, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(DATA), len(DATA))


def test_what_its_checksum_vouches_for_need_not_be_a_network(server: Server, tmp_path: Path) -> None:
    server.data = b"453980 257264 263068"
    table = server.entry(file="table.txt", sha256=hashlib.sha256(server.data).hexdigest())
    assert fetch(table, tmp_path).read_bytes() == server.data
    with pytest.raises(BadWeights, match="something else"):
        fetch(replace(table, file="other.txt", sha256=""), tmp_path)
