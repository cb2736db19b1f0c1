"""Many photos: what is done is skipped, a bad photo costs only itself, a kill only the photos at work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ostec.batch.execute import Executor, execute_in_process
from ostec.batch.plan import BatchOptions, PartSelection, Plan
from ostec.batch.summary import BatchLog, Event, Record, Summary
from ostec.errors import CannotWrite
from ostec.files.photos import remove_leftovers
from ostec.settings import Settings


def run_batch(
    photos: Sequence[Path],
    save_dir: Path,
    selection: PartSelection,
    settings: Settings,
    options: BatchOptions,
    on_event: Callable[[Event], Any] = lambda event: None,
    execute: Executor = execute_in_process,
) -> Summary:
    """Complete every photo and save it under `save_dir`, beside a `summary.json` kept up to date.

    A photo whose files are there, made from the same bytes with the same settings, parts, weights, device and version,
    is skipped. Any error of one photo goes to its record; `CannotWrite` is raised when no photo could be written (a
    full disk, say), and errors of `selection.load()` pass through. On KeyboardInterrupt finished results are still
    written before it is raised again.
    """
    save_dir = Path(save_dir)
    plan = Plan(list(dict.fromkeys(photos)), save_dir, selection, settings, options)
    records = [Record(str(job.photo), job.name) for job in plan.jobs]
    heading = {"settings": asdict(settings), "options": asdict(options), "components": dict(selection.names)}
    log = BatchLog(records, save_dir, heading, on_event)
    remove_leftovers(save_dir)
    log.write()
    try:
        execute(plan.due(log), plan, selection, log)
    except BaseException:
        with suppress(CannotWrite):
            log.write()
        raise
    log.write()
    return Summary(tuple(log.records))
