from __future__ import annotations

import pytest
from numba.core import caching

from ostec.geometry.compiled import compiled


def total(count: int) -> int:
    found = 0
    for number in range(count):
        found += number
    return found


def test_the_result_is_that_of_the_plain_function() -> None:
    assert compiled()(total)(100) == total(100) == 4950


def test_without_a_folder_for_the_cache_it_still_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*args: object) -> None:
        return None

    for locator in caching.CacheImpl._locator_classes:
        monkeypatch.setattr(locator, "from_function", nowhere)
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    with pytest.raises(RuntimeError):
        caching.FunctionCache(total)
    assert compiled()(total)(100) == 4950
