"""Runs the requests of several threads as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Generic, TypeVar

Request = TypeVar("Request")
Response = TypeVar("Response")


class RequestBatcher(Generic[Request, Response]):
    """Collects one request from each of `slots` threads, then lets one thread process them all, in slot order.

    So the same requests share a batch in every run, however fast each thread is. `process` returns for each request a
    response, or an exception that is raised in the thread of that request only.
    """

    def __init__(self, slots: int, process: Callable[[Sequence[Request]], Sequence[Response | Exception]]) -> None:
        self._process = process
        self._open = set(range(slots))
        self._requests: dict[int, Request] = {}
        self._responses: dict[int, Response | BaseException] = {}
        self._changed = Condition()

    @contextmanager
    def slot(self, number: int) -> Iterator[Callable[[Request], Response]]:
        """The function by which the thread of this slot, from 0, submits requests; others wait for it until it ends."""
        try:
            yield lambda request: self._submit(number, request)
        finally:
            with self._changed:
                self._open.discard(number)
                self._changed.notify_all()

    def _submit(self, number: int, request: Request) -> Response:
        with self._changed:
            self._requests[number] = request
            self._changed.notify_all()
            self._changed.wait_for(lambda: number in self._responses or self._is_due(number))
            if number not in self._responses:
                self._responses.update(self._processed(sorted(self._requests.items())))
                self._requests.clear()
                self._changed.notify_all()
            response = self._responses.pop(number)
        if isinstance(response, BaseException):
            raise response
        return response

    def _is_due(self, number: int) -> bool:
        return self._requests.keys() == self._open and number == min(self._requests)

    def _processed(self, requests: Sequence[tuple[int, Request]]) -> dict[int, Response | BaseException]:
        """Slot -> response. A batch that fails, for lack of memory say, is processed one by one, so that only the
        requests at fault fail; what is no `Exception`, as Ctrl-C, ends them all."""
        slots = [slot for slot, _ in requests]
        try:
            return dict(zip(slots, self._process([request for _, request in requests]), strict=True))
        except Exception as error:
            if len(requests) == 1:
                return {slots[0]: error}
        except BaseException as error:
            return dict.fromkeys(slots, error)
        return {slot: response for item in requests for slot, response in self._processed([item]).items()}
