"""Each thread gets the response to its own request, alike in every run; threads that have left delay nobody."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ostec.completion.projection.batching import RequestBatcher


class Work:
    """Doubles numbers, and remembers which came together."""

    def __init__(self, most: int = 9, error: type[Exception] = RuntimeError) -> None:
        self.batches: list[list[int]] = []
        self.most, self.error = most, error

    def __call__(self, requests: Sequence[int]) -> list[int]:
        self.batches.append(list(requests))
        if len(requests) > self.most or 13 in requests:
            raise self.error("13 fails")
        return [2 * request for request in requests]


def responses_to(
    process: Callable[[Sequence[int]], Sequence[int | Exception]], *requests: Sequence[int]
) -> list[list[int] | str]:
    """The responses to each thread, which submits its requests one after the other; the first thread is the slowest."""
    batcher = RequestBatcher(len(requests), process)

    def submit_all(number: int) -> list[int] | str:
        with batcher.slot(number) as submit:
            responses = []
            for request in requests[number]:
                time.sleep(0.02 * (len(requests) - number))
                try:
                    responses.append(submit(request))
                except (RuntimeError, ValueError) as error:
                    return str(error)
            return responses

    with ThreadPoolExecutor(len(requests)) as pool:
        return [future.result(timeout=20) for future in [pool.submit(submit_all, n) for n in range(len(requests))]]


def test_requests_share_a_batch_in_the_order_of_their_slots() -> None:
    for _ in range(3):
        work = Work()
        assert responses_to(work, (1, 2), (10, 20), (100,)) == [[2, 4], [20, 40], [200]]
        assert work.batches == [[1, 10, 100], [2, 20]]


def test_a_slot_without_requests_delays_nobody() -> None:
    work = Work()
    assert responses_to(work, (), (1, 2), ()) == [[], [2, 4], []]
    assert work.batches == [[1], [2]]


def test_a_batch_that_is_too_large_is_processed_one_by_one() -> None:
    work = Work(most=1)
    assert responses_to(work, (1,), (2,)) == [[2], [4]]
    assert work.batches == [[1, 2], [1], [2]]


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_a_request_that_fails_ends_only_its_own_thread(error: type[Exception]) -> None:
    assert responses_to(Work(error=error), (1, 3), (13, 4), (5, 6)) == [[2, 6], "13 fails", [10, 12]]


def test_an_error_for_one_request_is_raised_in_its_thread_only() -> None:
    def process(requests: Sequence[int]) -> list[int | Exception]:
        return [RuntimeError("odd") if request % 2 else request for request in requests]

    assert responses_to(process, (2, 4), (3, 4), (6,)) == [[2, 4], "odd", [6]]


def test_an_interrupt_ends_all() -> None:
    def interrupted(requests: Sequence[int]) -> Sequence[int]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        responses_to(interrupted, (1,), (2,))
