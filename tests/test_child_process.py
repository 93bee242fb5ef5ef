"""A job in a process of its own: its result, its memory, its limit."""

from __future__ import annotations

import pytest

from recsys.errors import UnavailableError
from serving.bench.child import run_apart


def filled(mib: int) -> int:
    """A job that needs memory."""
    return len(b"1" * (mib << 20))


def test_a_job_apart_gives_its_result_and_its_own_memory() -> None:
    small, large = run_apart(None, filled, 1), run_apart(None, filled, 300)
    assert (small.result, large.result) == (1 << 20, 300 << 20)
    assert 250 < large.peak_mib - small.peak_mib < 350


def test_a_job_that_needs_more_than_its_limit_fails() -> None:
    assert run_apart(500, filled, 200).peak_mib > 200
    with pytest.raises(UnavailableError, match="filled ended before it was done, with a limit"):
        run_apart(500, filled, 600)
