"""The division by time: slices follow each other, shrink in proportion, and never overlap."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from visits import BASE_US, VISITS, log_of

from recsys.config import (
    WindowsConfig,
)
from recsys.errors import EmptyTableError
from recsys.interactions import DAY_US, HOUR_US
from training.time_split import split_by_time


@settings(max_examples=60, deadline=None)
@given(
    days=st.floats(1.0, 900.0),
    label_days=st.floats(0.2, 60.0),
    windows=st.integers(1, 4),
    stride_days=st.floats(0.2, 60.0),
    validation_days=st.floats(0.2, 60.0),
    share=st.floats(0.1, 0.9),
)
def test_slices_follow_each_other_up_to_the_cut(
    days: float,
    label_days: float,
    windows: int,
    stride_days: float,
    validation_days: float,
    share: float,
) -> None:
    until = BASE_US + int(days * DAY_US)
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    config = WindowsConfig(
        label_days=label_days,
        ranker_windows=windows,
        stride_days=stride_days,
        validation_days=validation_days,
        max_share_of_history=share,
    )
    try:
        split = split_by_time(log, until, config)
    except EmptyTableError:
        span = label_days + (windows - 1) * stride_days + validation_days
        shortest = min(label_days, stride_days, validation_days)
        assert min(shortest / span * share * days, shortest) < 1.5 / 24
        return
    slices = [split.train, split.validation, *split.windows]
    assert (slices[0].start, slices[-1].end) == (BASE_US, until)
    assert all(part.start < part.end <= until for part in slices)
    assert all(a.end == b.start for a, b in pairwise(slices[:3]))
    assert all(a.start < b.start for a, b in pairwise(split.windows))
    assert all(part.start % HOUR_US == 0 for part in slices[1:])
    assert 1 <= len(split.windows) <= windows
    assert split.test == split.windows[-1]
    held = until - split.validation.start
    assert held <= share * days * DAY_US + (windows + 1) * HOUR_US
    longest = max(part.end - part.start for part in split.windows)
    assert longest <= label_days * DAY_US + HOUR_US


def test_windows_keep_their_length_where_the_history_is_long_and_shrink_where_not() -> None:
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    config = WindowsConfig(label_days=30, ranker_windows=2, stride_days=30, validation_days=15)
    long = split_by_time(log, BASE_US + 300 * DAY_US, config)
    assert long.windows[-1].end - long.windows[-1].start == 30 * DAY_US
    assert long.validation.end - long.validation.start == 15 * DAY_US
    short = split_by_time(log, BASE_US + 75 * DAY_US, config)
    assert short.windows[-1].end - short.windows[-1].start == 18 * DAY_US + 18 * HOUR_US
    assert short.windows[0].start == BASE_US + 45 * DAY_US
    assert short.validation.end - short.validation.start == pytest.approx(7.5 * DAY_US, abs=HOUR_US)
    assert list(short.describe()) == ["train", "validation", "ranker window 1", "ranker window 2"]
    assert short.describe()["train"][0] == "2031-01-01T00:00:00+00:00"


def test_a_short_history_has_fewer_windows_rather_than_much_shorter_ones() -> None:
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    split = split_by_time(log, BASE_US + 84 * DAY_US, WindowsConfig())
    assert len(split.windows) == 4
    assert split.windows[-1].end - split.windows[-1].start == 21 * DAY_US
    assert split.validation.start == pytest.approx(BASE_US + 42 * DAY_US, abs=HOUR_US)
    assert len(split_by_time(log, BASE_US + 240 * DAY_US, WindowsConfig()).windows) == 6


def test_windows_a_stride_apart_overlap() -> None:
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    until = BASE_US + 300 * DAY_US
    config = WindowsConfig(label_days=30, ranker_windows=3, stride_days=10, validation_days=15)
    split = split_by_time(log, until, config)
    ends = [(until - part.end) // DAY_US for part in split.windows]
    lengths = [(part.end - part.start) // DAY_US for part in split.windows]
    assert (ends, lengths) == ([20, 10, 0], [30, 30, 30])
    assert split.validation.end == split.windows[0].start


def test_a_log_of_a_few_hours_is_too_short() -> None:
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    with pytest.raises(EmptyTableError, match=r"spans 0\.2 days"):
        split_by_time(log, BASE_US + 5 * HOUR_US, WindowsConfig())
    with pytest.raises(EmptyTableError, match="no events before the cut"):
        split_by_time(log.before(BASE_US), BASE_US + 90 * DAY_US, WindowsConfig())
