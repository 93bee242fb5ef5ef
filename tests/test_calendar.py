"""Calendar features: the request's hour, weekday and season, and an item's own weekday."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from recsys.features import FeatureInputs, ItemColumns, ItemStatistics, feature_matrix
from recsys.interactions import Candidates, InteractionLog, ItemLists, ShownItems, weekday

MONDAY = datetime(2031, 6, 2, 18, 30, tzinfo=UTC)


def micros(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000


def calendar_at(as_of: datetime, purchases: list[tuple[datetime, str]]) -> NDArray[np.float32]:
    """float32 (2, 5): hour, weekday, sine and cosine of the year and weekday lift of a and b."""
    rows = [("ann", item, "purchase", time) for time, item in purchases]
    schema = {
        "user_id": pl.String(),
        "item_id": pl.String(),
        "event_type": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_row_index("event_id")
    events = frame.with_columns(pl.col("event_id").cast(pl.String))
    log = InteractionLog.build(pl.Series(["a", "b"]), events.lazy())
    none = np.full(2, -1, np.int32)
    matrix = feature_matrix(
        FeatureInputs(
            items=ItemColumns(np.ones(2, np.float32), np.zeros(2, np.int64), none, none, none),
            statistics=ItemStatistics.at(log, micros(as_of)),
            histories=log.histories(np.array([-1])),
            shown=ShownItems.empty(1),
            context=ItemLists.empty(1),
            as_of=np.array([micros(as_of)]),
            candidates=Candidates(
                np.array([0, 2]), np.arange(2, dtype=np.int32), (), np.zeros((2, 0), np.int32)
            ),
        )
    )
    names = [name for name, group in matrix.groups.items() if group == "calendar"]
    assert names == ["hour_of_day", "day_of_week", "year_sin", "year_cos", "weekday_lift"]
    return matrix.values[:, [matrix.names.index(name) for name in names]]


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001
def test_weekdays_are_those_of_the_calendar(time: datetime) -> None:
    moment = time.replace(tzinfo=UTC, microsecond=0)
    assert weekday(np.array([micros(moment)])).tolist() == [moment.weekday()]


def test_hour_and_weekday_are_those_of_the_request() -> None:
    for shift in range(7):
        found = calendar_at(MONDAY + timedelta(days=shift), [])
        assert found[:, :2].tolist() == [[18.5, shift]] * 2


@pytest.mark.parametrize(
    ("month", "day", "sine", "cosine"),
    [(1, 1, 0, 1), (4, 2, 1, 0), (7, 2, 0, -1), (10, 1, -1, 0), (12, 31, 0, 1)],
)
def test_a_year_goes_once_round(month: int, day: int, sine: float, cosine: float) -> None:
    found = calendar_at(datetime(2031, month, day, tzinfo=UTC), [])
    np.testing.assert_allclose(found[0, 2:4], [sine, cosine], atol=0.03)


def test_weekday_lift_compares_with_all_items_by_hand() -> None:
    """Ten purchases, four of them on Mondays; 8 of item a, of which all four."""
    mondays = [(MONDAY - timedelta(days=7 * week), "a") for week in range(1, 5)]
    fridays = [(MONDAY - timedelta(days=7 * week + 3), "a") for week in range(4)]
    others = [(MONDAY - timedelta(days=5), "b")] * 2
    found = calendar_at(MONDAY, mondays + fridays + others)
    share_a, share_b = (4 + 20 * 0.4) / (8 + 20), 20 * 0.4 / (2 + 20)
    np.testing.assert_allclose(found[:, 4], [share_a / 0.4, share_b / 0.4], rtol=1e-6)


def test_weekday_lift_is_unknown_on_a_day_without_any_purchase() -> None:
    found = calendar_at(MONDAY, [(MONDAY - timedelta(days=1), "a")])
    assert np.isnan(found[:, 4]).all()
