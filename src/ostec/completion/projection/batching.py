"""Threads that do their work together: what each asks for is done at once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

Job = TypeVar("Job")
Answer = TypeVar("Answer")


class Together(Generic[Job, Answer]):
    """As many seats as threads; once all in their seats have asked, one of them does all jobs, in the seats' order.

    So the same jobs come together in every run, however fast each thread is.
    """

    def __init__(self, seats: int, work: Callable[[Sequence[Job]], Sequence[Answer]]) -> None:
        self._work = work
        self._seated = set(range(seats))
        self._jobs: dict[int, Job] = {}
        self._answers: dict[int, Answer | BaseException] = {}
        self._changed = Condition()

    @contextmanager
    def seat(self, number: int) -> Iterator[Callable[[Job], Answer]]:
        """What the thread of this seat, from 0, asks with; its seat is waited for until the context ends."""
        try:
            yield lambda job: self._ask(number, job)
        finally:
            with self._changed:
                self._seated.discard(number)
                self._changed.notify_all()

    def _ask(self, number: int, job: Job) -> Answer:
        with self._changed:
            self._jobs[number] = job
            self._changed.notify_all()
            self._changed.wait_for(lambda: number in self._answers or self._is_due(number))
            if number not in self._answers:
                self._answers.update(self._done(sorted(self._jobs.items())))
                self._jobs.clear()
                self._changed.notify_all()
            answer = self._answers.pop(number)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _is_due(self, number: int) -> bool:
        return self._jobs.keys() == self._seated and number == min(self._jobs)

    def _done(self, jobs: Sequence[tuple[int, Job]]) -> dict[int, Answer | BaseException]:
        """What is too much at once, for the memory say, is done one by one, so that each fails on its own."""
        seats = [seat for seat, _ in jobs]
        try:
            return dict(zip(seats, self._work([job for _, job in jobs]), strict=True))
        except (RuntimeError, MemoryError) as error:
            if len(jobs) == 1:
                return {seats[0]: error}
        except BaseException as error:
            return dict.fromkeys(seats, error)
        return {seat: answer for job in jobs for seat, answer in self._done([job]).items()}
