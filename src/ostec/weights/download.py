"""Downloads of weight files: resumed where they broke off, checked before use, complete or not at all."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import requests

from ostec.errors import BadWeights, CannotDownload, CannotWrite, OstecError
from ostec.weights.catalogue import WeightFile
from ostec.weights.open import read_stored

_ATTEMPTS, _PAUSE_S = 5, 2.0
_CONNECT_S, _STALL_S = 15.0, 30.0
_CHUNK_BYTES = 1 << 14
"""What is lost where a transfer breaks off."""


def download(
    entry: WeightFile,
    folder: Path,
    progress: Callable[[int, int], object] = lambda done, total: None,
    pause_s: float = _PAUSE_S,
    stall_s: float = _STALL_S,
) -> Path:
    """Download a file into `folder`, unless it is there. `progress(bytes so far, total or 0)` is called meanwhile.

    What broke off is kept as `FILE.part`, and the next attempt or call goes on from there. The checksum of what came is
    written to `FILE.sha256`. Raises `CannotDownload`, `CannotWrite`; `BadWeights` where the bytes are not the file's,
    which are then deleted.
    """
    if entry.url is None:
        raise CannotDownload(f"{entry.name} has no public address. {entry.how}. Save it as {folder / entry.file}.")
    target, part = folder / entry.file, folder / f"{entry.file}.part"
    if target.is_file():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fetch(entry.url, part, progress, pause_s, stall_s)
        checksum = _check(entry, part)
        (folder / f"{entry.file}.sha256").write_text(f"{checksum}  {entry.file}\n")
        os.replace(part, target)
    except OSError as error:
        raise CannotWrite(f"{folder}: cannot write {entry.file} ({error.strerror or error}).") from error
    return target


def sha256(path: Path) -> str:
    """The checksum of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_downloaded(path: Path, entry: WeightFile) -> str | None:
    """What is wrong with a file that is there, or None: against what is publicly known, and against `FILE.sha256`."""
    noted = path.with_name(f"{path.name}.sha256")
    promises = [entry.sha256, noted.read_text().split()[0] if noted.is_file() else ""]
    actual = sha256(path)
    if not all(actual.startswith(promise) for promise in promises):
        return f"{path}: not the file that was downloaded, or damaged. Delete it and run ostec models get {entry.name}."
    return None


class _Refused(Exception):
    """The server answers something else than the file."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(f"{answer.status_code} {answer.reason}")
        self.status = answer.status_code


def fetch(
    url: str, part: Path, progress: Callable[[int, int], object], pause_s: float, stall_s: float = _STALL_S
) -> None:
    """Download `url` to `part`, resuming from what is there. Raises `CannotDownload`.

    An interrupted `part` has a file `part`.etag beside it, if the server sent an entity tag: by it the server knows
    whether its file has changed since.
    """
    reason = ""
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(pause_s * attempt)
        try:
            _continue(url, part, progress, stall_s)
            _etag_file(part).unlink(missing_ok=True)
            return
        except _Refused as error:
            reason = f"the server answers {error}"
            if error.status < 500 and error.status not in (408, 416, 429):
                break
            if error.status == 416:
                part.unlink(missing_ok=True)
        except requests.RequestException as error:
            reason = f"{type(error).__name__}: {error}"
    raise CannotDownload(f"{url}: {reason}. What came is kept; run the same command again to go on.")


def _continue(url: str, part: Path, progress: Callable[[int, int], object], stall_s: float) -> None:
    """One attempt: the rest of the file, appended; all of it from a server that cannot give a part.

    The request is for the uncompressed file, because a range of a compressed answer is not a range of the file. An
    answer that is compressed nevertheless cannot be resumed: if it breaks off, its bytes are deleted.
    """
    have = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _etag_file(part).is_file():
            headers["If-Range"] = _etag_file(part).read_text()
    with requests.get(url, headers=headers, stream=True, timeout=(_CONNECT_S, stall_s)) as answer:
        if answer.status_code not in (200, 206):
            raise _Refused(answer)
        compressed = answer.headers.get("Content-Encoding", "identity") != "identity"
        resumed = answer.status_code == 206
        if resumed and (compressed or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")):
            part.unlink()
            raise requests.ConnectionError("the server sends another part of the file than the one requested")
        have = have if resumed else 0
        total = 0 if compressed else have + int(answer.headers.get("Content-Length", 0))
        try:
            with part.open("ab" if resumed else "wb") as file:
                _note_etag(part, answer)
                for chunk in answer.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
                    have += len(chunk)
                    progress(have, total)
        except requests.RequestException:
            if compressed:
                part.unlink()
            raise
    if have < total:
        raise requests.ConnectionError(f"{have} of {total} bytes came")


def _etag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")


def _note_etag(part: Path, answer: requests.Response) -> None:
    """Keep the answer's entity tag, unless it is weak: ranges can only be requested by a strong one."""
    etag = answer.headers.get("ETag", "")
    if etag.startswith('"'):
        _etag_file(part).write_text(etag)
    else:
        _etag_file(part).unlink(missing_ok=True)


def _check(entry: WeightFile, part: Path) -> str:
    """The checksum. Raises `BadWeights` where the file is not the one wanted."""
    checksum = sha256(part)
    try:
        if not checksum.startswith(entry.sha256):
            raise BadWeights(f"{entry.url}: what came is not {entry.file}; its checksum begins {checksum[:8]}.")
        if len(entry.sha256) < len(checksum):
            read_stored(part, f"{entry.url} gave something else than {entry.file}.", entry.member)
    except OstecError:
        part.unlink(missing_ok=True)
        raise
    return checksum
