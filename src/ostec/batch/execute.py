"""Does the jobs of a batch in this process: photos in threads, and one thread that writes."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ostec.batch.plan import Job, PartSelection, Plan
from ostec.batch.summary import BatchLog
from ostec.batch.work import Saved, complete_photo, save
from ostec.errors import Cancelled, CannotWrite
from ostec.interfaces import BatchingCompleter, Completer, Parts
from ostec.types import Result

Executor = Callable[[Iterable[Job], Plan, PartSelection, BatchLog], None]
"""Does jobs of a plan with parts of a selection, and notes in the log what becomes of each. What hits every photo is
raised: `CannotWrite`, errors of `PartSelection.load`, KeyboardInterrupt."""

_ONE_PHOTO_ONLY = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EEXIST)
"""Why a file cannot be written while its neighbours can; for any other reason the batch stops."""


def execute_in_process(jobs: Iterable[Job], plan: Plan, selection: PartSelection, log: BatchLog) -> None:
    """The `Executor` of one process: `batch_size` photos at work at a time. Writing overlaps with computing. On
    KeyboardInterrupt finished results are still written."""
    execution = _Execution(plan, log)
    try:
        execution.run(jobs, selection)
    except BaseException as error:
        with suppress(_Stop):
            execution.settle()
        if isinstance(error, _Stop):
            raise CannotWrite(f"stopped, as no photo can be written: {error.__cause__}") from error.__cause__
        raise
    finally:
        execution.writer.shutdown()


@dataclass(frozen=True)
class _Write:
    """A result on its way to the disk."""

    index: int
    last: bool
    """Of the photo's faces."""
    future: Future[Saved]


class _Stop(Exception):
    """No further photo can be written, because of the error that caused this."""


class _Execution:
    """Photos of a group are at work in threads of their own; they change what they share under the log's lock."""

    def __init__(self, plan: Plan, log: BatchLog) -> None:
        self.plan, self.log = plan, log
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ostec-writer")
        self.writing: _Write | None = None
        self.stopping = False

    def run(self, jobs: Iterable[Job], selection: PartSelection) -> None:
        due, parts = iter(jobs), None
        while group := list(islice(due, self.plan.options.batch_size)):
            parts = parts or selection.load()
            self.do_group(group, parts)
            self.log.write_if_old()
        self.settle()

    def do_group(self, group: Sequence[Job], parts: Parts) -> None:
        """Everything about some photos but their last write; only what would hit every photo is raised."""
        slots = _slots(parts.completer, len(group))
        if len(group) == 1:
            self.do_photo(group[0], parts, slots[0])
            return
        with ThreadPoolExecutor(len(group), thread_name_prefix="ostec-photo") as pool:
            futures = [pool.submit(self.do_photo, job, parts, slot) for job, slot in zip(group, slots, strict=True)]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.stopping = True
                raise

    def do_photo(self, job: Job, parts: Parts, slot: AbstractContextManager[Completer]) -> None:
        """Any error of a photo is its own, unless the batch is stopping."""
        try:
            with slot as completer:
                self.complete(job, replace(parts, completer=completer))
        except _Stop:
            raise
        except Exception as error:
            if self.stopping and isinstance(error, Cancelled):
                raise
            self.log.fail(job.index, error)

    def complete(self, job: Job, parts: Parts) -> None:
        start = time.perf_counter()
        self.log.tell(job.index, 0.0)
        options = self.plan.options
        for name, result in complete_photo(job, parts, self.plan.settings, options.faces, self.progress(job.index)):
            last = name == job.name
            if last:
                self.log.add(job.index, seconds=time.perf_counter() - start)
            self.write(job, name, result, last)

    def progress(self, index: int) -> Callable[[str, float], bool]:
        """What a photo's work calls; False tells it to stop."""

        def note_progress(stage: str, share: float) -> bool:
            with self.log.lock:
                if self.writing is not None and self.writing.future.done():
                    self.settle()
                if self.log.records[index].status == "waiting":
                    self.log.tell(index, share)
            return not self.stopping

        return note_progress

    def write(self, job: Job, name: str, result: Result, last: bool) -> None:
        """Hand a result to the writer thread as soon as it is free."""
        with self.log.lock:
            self.settle()
            if self.log.records[job.index].status == "failed":
                return
            self.plan.check_harmless(job, name)
            future = self.writer.submit(save, result, self.plan.folder, name, self.plan.options.formats)
            self.writing = _Write(job.index, last, future)

    def settle(self) -> None:
        """Wait for the write under way and note how it went."""
        write, self.writing = self.writing, None
        if write is None:
            return
        try:
            saved = write.future.result()
        except KeyboardInterrupt:
            self.writing = write
            raise
        except Exception as error:
            self.log.fail(write.index, error)
            if _hits_every_photo(error):
                raise _Stop from error
            return
        self.log.add(write.index, files=saved.files, warnings=saved.warnings, seconds=saved.seconds)
        if write.last:
            self.log.tell(write.index, 1.0, status="done")


def _slots(completer: Completer, count: int) -> Sequence[AbstractContextManager[Any]]:
    """The completer for each of some photos at work at the same time."""
    return completer.slots(count) if isinstance(completer, BatchingCompleter) else [nullcontext(completer)] * count


def _hits_every_photo(error: BaseException | None) -> bool:
    """Whether the next photo would fail to be written for the same reason."""
    if not isinstance(error, CannotWrite):
        return False
    while error is not None:
        if isinstance(error, OSError) and error.errno not in _ONE_PHOTO_ONLY:
            return True
        error = error.__cause__
    return False
