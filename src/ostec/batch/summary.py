"""What became of each photo of a batch: events while it runs, and `summary.json`."""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from ostec.errors import OstecError
from ostec.files.photos import write_atomically

_SUMMARY_EVERY_S = 1.0


@dataclass(frozen=True)
class Record:
    """What became of one photo; `summary.json` lists these."""

    photo: str
    name: str
    """What its files are called."""
    status: Literal["waiting", "done", "skipped", "failed"] = "waiting"
    reason: str = ""
    """Why it failed."""
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    """Written, relative to `save_dir`."""
    warnings: tuple[str, ...] = ()
    traceback: str = ""
    """Where it failed, for errors that are not this package's own."""


@dataclass(frozen=True)
class Event:
    """How far the batch is; sent at every stage of a photo and when its status is known."""

    index: int
    """Of the photo, 0-based."""
    total: int
    record: Record
    share: float
    """Of the photo's work, 0..1."""


@dataclass(frozen=True)
class Summary:
    """What became of all photos."""

    records: tuple[Record, ...]

    def count(self, status: str) -> int:
        """How many photos have this status."""
        return sum(record.status == status for record in self.records)


class BatchLog:
    """The records of a batch while it runs; threads may share it. Events are sent from the thread that has news."""

    def __init__(
        self,
        records: Sequence[Record],
        save_dir: Path,
        heading: Mapping[str, Any],
        on_event: Callable[[Event], Any],
    ) -> None:
        """`heading` is what `summary.json` begins with."""
        self.records = list(records)
        self._lock = RLock()
        self._file, self._heading, self._on_event = save_dir / "summary.json", heading, on_event
        self._written_s = 0.0

    def add(self, index: int, *, files: Sequence[str] = (), warnings: Sequence[str] = (), seconds: float = 0) -> None:
        """Add to a photo's record."""
        with self._lock:
            record = self.records[index]
            found = (*record.files, *files), (*record.warnings, *warnings)
            total_s = round(record.seconds + seconds, 3)
            self.records[index] = replace(record, files=found[0], warnings=found[1], seconds=total_s)

    def report(self, index: int, share: float, **changes: Any) -> None:
        """Change a photo's record, and send an event."""
        with self._lock:
            self.records[index] = replace(self.records[index], **changes)
            self._on_event(Event(index, len(self.records), self.records[index], share))

    def fail(self, index: int, error: Exception) -> None:
        """Note that a photo failed, and why."""
        if isinstance(error, OstecError):
            self.report(index, 1.0, status="failed", reason=str(error))
            return
        where = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-5))
        reason = f"{self.records[index].photo}: {type(error).__name__}: {error}"
        self.report(index, 1.0, status="failed", reason=reason, traceback=where)

    def write(self) -> None:
        """Write `summary.json`. Raises `CannotWrite`."""
        with self._lock:
            counts = Counter(record.status for record in self.records)
            summary = {
                **self._heading,
                "counts": {status: counts[status] for status in ("done", "skipped", "failed", "waiting")},
                "photos": [asdict(record) for record in self.records],
            }
            write_atomically(self._file, (json.dumps(summary, indent=1) + "\n").encode())
            self._written_s = time.monotonic()

    def write_if_old(self) -> None:
        """Write `summary.json` unless that was done in the last second. Raises `CannotWrite`."""
        if time.monotonic() - self._written_s > _SUMMARY_EVERY_S:
            self.write()
