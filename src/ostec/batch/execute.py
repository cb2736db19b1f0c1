"""Does the jobs of a batch in this process: photos in threads, and one thread that writes."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from threading import Lock
from typing import Any

from ostec.batch.plan import Job, PartSelection, Plan
from ostec.batch.summary import BatchLog
from ostec.batch.work import complete_photo, save
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
    except Cancelled:
        if execution.fatal is None:
            raise
    finally:
        execution.writer.shutdown()
    if execution.fatal is not None:
        raise CannotWrite(f"stopped, as no photo can be written: {execution.fatal}") from execution.fatal


class _Execution:
    """Photos of a group are at work in threads of their own, and hand their results to one writer, one at a time."""

    def __init__(self, plan: Plan, log: BatchLog) -> None:
        self.plan, self.log = plan, log
        self.writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ostec-writer")
        self.writing: Future[None] | None = None
        self.turn = Lock()
        self.stopping = False
        self.fatal: Exception | None = None
        """Why no further photo can be written."""

    def run(self, jobs: Iterable[Job], selection: PartSelection) -> None:
        due, parts = iter(jobs), None
        while group := list(islice(due, self.plan.options.batch_size)):
            parts = parts or selection.load()
            self.do_group(group, parts)
            self.log.write_if_old()
        if self.writing is not None:
            self.writing.result()

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
        start = time.perf_counter()
        self.log.report(job.index, 0.0)
        try:
            with slot as completer:
                parts = replace(parts, completer=completer)
                progress, faces = self.progress(job.index), self.plan.options.faces
                for name, result in complete_photo(job, parts, self.plan.settings, faces, progress):
                    if name == job.name:
                        self.log.add(job.index, seconds=time.perf_counter() - start)
                    self.hand_over(job, name, result)
        except Exception as error:
            if isinstance(error, Cancelled) and (self.stopping or self.fatal):
                raise
            self.log.fail(job.index, error)

    def progress(self, index: int) -> Callable[[str, float], bool]:
        """What a photo's work calls; False tells it to stop."""

        def note_progress(stage: str, share: float) -> bool:
            if self.log.records[index].status == "waiting":
                self.log.report(index, share)
            return not self.stopping and self.fatal is None

        return note_progress

    def hand_over(self, job: Job, name: str, result: Result) -> None:
        """Have a result written as soon as the one before it is."""
        with self.turn:
            if self.writing is not None:
                self.writing.result()
            if self.fatal is not None:
                raise Cancelled(f"{job.photo}: not written: {self.fatal}")
            if self.log.records[job.index].status == "waiting":
                self.plan.check_harmless(job, name)
                self.writing = self.writer.submit(self.write, job, name, result)

    def write(self, job: Job, name: str, result: Result) -> None:
        """In the writer's thread. The largest face of a photo comes last."""
        start = time.perf_counter()
        try:
            files = save(result, self.plan.folder, name, self.plan.options.formats)
        except Exception as error:
            self.fatal = error if _hits_every_photo(error) else None
            self.log.fail(job.index, error)
            return
        warnings = result.report.get("warnings", [])
        self.log.add(job.index, files=files, warnings=warnings, seconds=time.perf_counter() - start)
        if name == job.name:
            self.log.report(job.index, 1.0, status="done")


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
