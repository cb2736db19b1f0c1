"""How a batch is shown while it runs."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ostec.batch.summary import Event
from ostec.cli.options import one_line


class Display:
    """Shows a batch's events: a bar with the time left on a terminal, else one line per photo."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bar = None
        self.failures = 0
        self._reached = 0.0
        if self._console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("starting", total=total)

    def __enter__(self) -> Display:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        record = event.record
        finished = record.status != "waiting"
        if record.status == "failed":
            self.failures += 1
            self._console.print(f"ostec: {one_line(record.reason)}")
        if self._bar:
            self._reached = max(self._reached, event.index + event.share)
            self._bar.update(self._task, completed=self._reached, description=record.name)
        elif finished and record.status != "failed":
            seconds = f" in {record.seconds:.1f} s" if record.status == "done" else ""
            print(f"[{event.index + 1}/{event.total}] {record.photo}: {record.status}{seconds}", flush=True)
