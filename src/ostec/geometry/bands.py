"""Bands of rows of a picture, processed by several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import torch

_SINGLE_BAND_BELOW_PX = 128 * 128
_BANDS_PER_THREAD = 4
"""More than one, as some rows take longer than others."""


class Bands(AbstractContextManager["Bands"]):
    """A pool of as many threads as torch uses, for functions that release the GIL."""

    def __init__(self) -> None:
        self._count = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(self._count) if self._count > 1 else None

    def __call__(self, height: int, width: int, work: Callable[[int, int], object]) -> None:
        """Call work(low, high) for bands of rows that make up 0..height; a small picture is one band."""
        if self._pool is None or height * width < _SINGLE_BAND_BELOW_PX:
            work(0, height)
            return
        count = min(_BANDS_PER_THREAD * self._count, height)
        rows = [height * k // count for k in range(count + 1)]
        for _ in self._pool.map(work, rows[:-1], rows[1:]):
            pass

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
