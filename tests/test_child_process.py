"""A job in a process of its own: its result, its memory, its limit."""

from __future__ import annotations

import time

import polars as pl
import pytest

from recsys.errors import UnavailableError
from serving.bench.child import resident_mib, run_apart


def filled(mib: int) -> int:
    """A job that needs memory."""
    return len(b"1" * (mib << 20))


def filled_and_freed(mib: int) -> tuple[float, float]:
    """Private address space before and after polars filled and freed so much, twice."""
    before = resident_mib("VmData")
    for factor in (1, 2):
        pl.int_range(0, factor * mib << 17, eager=True)
    time.sleep(2)  # the allocator gives pages back with a delay of its own
    return before, resident_mib("VmData")


def test_a_job_apart_gives_its_result_and_its_own_memory() -> None:
    small, large = run_apart(None, filled, 1), run_apart(None, filled, 300)
    assert (small.result, large.result) == (1 << 20, 300 << 20)
    assert 250 < large.peak_mib - small.peak_mib < 350


def test_a_job_that_needs_more_than_its_limit_fails() -> None:
    assert run_apart(500, filled, 200).peak_mib > 200
    with pytest.raises(UnavailableError, match="filled ended before it was done, with a limit"):
        run_apart(500, filled, 600)


def test_address_space_that_polars_freed_does_not_count_though_polars_is_imported_here() -> None:
    before, after = run_apart(None, filled_and_freed, 300).result

    assert after < before + 100
