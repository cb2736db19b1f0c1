"""ICT-FaceKit packed from OBJ files that a local server gives: whole, resumed, damaged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ostec.errors import BadWeights, CannotDownload
from ostec.heads import ict_download
from ostec.heads.ict_download import NEUTRAL, SHAPES, download_ict, obj_vertices
from ostec.heads.ict_files import EXPRESSIONS, IDENTITIES
from ostec.weights.catalogue import FILES, WeightFile
from ostec.weights.download import check_downloaded

CORNERS = 5


def obj(name: str) -> bytes:
    """A mesh whose first vertex tells which file it is."""
    number = SHAPES.index(name)
    rows = [f"v {number / 8} {corner} -0.5" for corner in range(CORNERS)]
    return "\n".join(["# made by hand", *rows, "vt 0.1 0.2", "vn 0 0 1", "f 1/1 2/1 3/1", ""]).encode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[WeightFile, dict[str, bytes], list[str]]]:
    """(the entry, files that are other than they should be, names asked for)."""
    monkeypatch.setattr(ict_download, "VERTICES", CORNERS)
    spoilt: dict[str, bytes] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/FaceXModel/").removesuffix(".obj")
            asked.append(name)
            body = spoilt.get(name, obj(name))
            if not body:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield replace(FILES["ict-facekit"], url=f"http://127.0.0.1:{httpd.server_port}/FaceXModel"), spoilt, asked
    httpd.shutdown()


def test_all_shapes_come_and_are_packed(server, tmp_path: Path) -> None:
    entry, _, asked = server
    told: list[int] = []
    path = download_ict(entry, tmp_path / "weights", lambda done, total: told.append(done))
    assert sorted(asked) == sorted(SHAPES) and len(SHAPES) == 1 + IDENTITIES + len(EXPRESSIONS)
    assert told == sorted(told) and told[-1] == sum(len(obj(name)) for name in SHAPES)
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["neutral_vertices"][2].tolist() == [0.0, 2.0, -0.5]
        assert arrays["identity_deltas"].shape == (IDENTITIES, CORNERS, 3)
        assert arrays["identity_deltas"][6, 0, 0] == 7 / 8
        jaw = EXPRESSIONS.index("jawOpen")
        assert arrays["expression_deltas"][jaw, 0, 0] == SHAPES.index("jawOpen") / 8
        assert arrays["expression_names"].tolist() == list(EXPRESSIONS)
    assert check_downloaded(path, entry) is None
    assert {file.name for file in path.parent.iterdir()} == {entry.file, f"{entry.file}.sha256"}
    asked.clear()
    assert download_ict(entry, tmp_path / "weights") == path
    assert asked == []


def test_it_goes_on_where_it_broke_off(server, tmp_path: Path) -> None:
    entry, spoilt, asked = server
    spoilt["jawOpen"] = b""
    with pytest.raises(CannotDownload, match="jawOpen"):
        download_ict(entry, tmp_path, pause_s=0.0)
    assert not (tmp_path / entry.file).exists()
    before = set(asked)
    asked.clear()
    spoilt.clear()
    download_ict(entry, tmp_path)
    assert before & set(asked) == {"jawOpen"}


@pytest.mark.parametrize(
    "body", [b"<html>", b"v 1 2 3\n", obj(NEUTRAL).replace(b"v 0.0 3", b"v 0.0 x"), obj(NEUTRAL) + b"v 1\n"]
)
def test_other_meshes_are_refused(server, tmp_path: Path, body: bytes) -> None:
    entry, spoilt, _ = server
    spoilt["identity003"] = body
    with pytest.raises(BadWeights, match="identity003"):
        download_ict(entry, tmp_path)
    assert not (tmp_path / entry.file).exists()


def test_vertices_are_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ict_download, "VERTICES", 2)
    found = obj_vertices(b"v 1 2 3 0.5 0.5 0.5\r\nvn 9 9 9\r\nv -4e-1 5 6\r\n", "m.obj")
    assert found.tolist() == [[1, 2, 3], [pytest.approx(-0.4), 5, 6]]
