"""Threads that ask together get their own answers, the same in every run, and one that leaves is not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ostec.completion.projection.batching import Together


class Work:
    """Doubles numbers, and remembers which came together."""

    def __init__(self, most: int = 9) -> None:
        self.batches: list[list[int]] = []
        self.most = most

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.batches.append(list(jobs))
        if len(jobs) > self.most or 13 in jobs:
            raise RuntimeError("out of memory")
        return [2 * job for job in jobs]


def asked(work: Callable[[Sequence[int]], Sequence[int]], *people: Sequence[int]) -> list[list[int] | str]:
    """What each thread, which asks for its jobs one after the other, is answered; the first is the slowest."""
    together = Together(len(people), work)

    def ask_all(number: int) -> list[int] | str:
        with together.seat(number) as ask:
            answers = []
            for job in people[number]:
                time.sleep(0.02 * (len(people) - number))
                try:
                    answers.append(ask(job))
                except RuntimeError as error:
                    return str(error)
            return answers

    with ThreadPoolExecutor(len(people)) as pool:
        return [future.result(timeout=20) for future in [pool.submit(ask_all, n) for n in range(len(people))]]


def test_jobs_come_together_in_the_order_of_the_seats() -> None:
    for _ in range(3):
        work = Work()
        assert asked(work, (1, 2), (10, 20), (100,)) == [[2, 4], [20, 40], [200]]
        assert work.batches == [[1, 10, 100], [2, 20]]


def test_a_seat_that_asks_for_nothing_holds_nobody_up() -> None:
    work = Work()
    assert asked(work, (), (1, 2), ()) == [[], [2, 4], []]
    assert work.batches == [[1], [2]]


def test_what_is_too_much_at_once_is_done_one_by_one() -> None:
    work = Work(most=1)
    assert asked(work, (1,), (2,)) == [[2], [4]]
    assert work.batches == [[1, 2], [1], [2]]


def test_a_job_that_fails_costs_only_its_own_seat() -> None:
    assert asked(Work(), (1, 3), (13, 4), (5, 6)) == [[2, 6], "out of memory", [10, 12]]


def test_what_stops_the_work_stops_all() -> None:
    def stopped(jobs: Sequence[int]) -> Sequence[int]:
        raise KeyError("stop")

    with pytest.raises(KeyError):
        asked(stopped, (1,), (2,))
