"""Work on the rows of a picture, shared between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import torch

_ALONE_BELOW = 128 * 128
_BANDS_EACH = 4
"""Bands for every thread, as some rows take longer than others."""


class Bands(AbstractContextManager["Bands"]):
    """As many threads as torch uses, for functions that release the GIL."""

    def __init__(self) -> None:
        self._count = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._count) if self._count > 1 else None

    def __call__(self, height: int, width: int, work: Callable[[int, int], object]) -> None:
        """Call work(low, high) for bands of rows that together are 0..height; one band for a small picture."""
        if self._pool is None or height * width < _ALONE_BELOW:
            work(0, height)
            return
        count = min(_BANDS_EACH * self._count, height)
        rows = [height * k // count for k in range(count + 1)]
        for _ in self._pool.map(work, rows[:-1], rows[1:]):
            pass

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
