"""Loops over pixels and vertices as machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: numba compiles the function at its first call, without the interpreter's lock.

    The machine code is kept beside the source, or in the user's cache folder where the package is read-only; where
    neither can be written, each process compiles anew. `options` are those of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # numba found no folder for its cache
            return njit(nogil=True, **options)(function)

    return decorate
