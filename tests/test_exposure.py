"""Clicks against position: expected clicks, smoothed rates, impression fatigue; and the truth."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from random_shop import random_log
from scipy import sparse
from scipy.stats import spearmanr

from recsys.features import FeatureInputs, ItemColumns, ItemStatistics, feature_matrix
from recsys.interactions import Candidates, InteractionLog, ItemLists, floor_to_hour
from recsys.interactions.position_bias import place_rates
from recsys.simulation import BehaviourConfig, PolicyConfig, SimulatedShop, SimulationConfig

AS_OF = datetime(2031, 6, 1, 12, 30, tzinfo=UTC)
Shown = tuple[float, str, str, int | None, bool]
"""Days before `AS_OF`, shopper, item, position, clicked a minute later."""


def micros(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000


def log_of(shown: list[Shown], purchases: list[tuple[float, str, str]]) -> InteractionLog:
    """Of items `a` to `c`; every impression in a session of its own."""
    rows: list[tuple[str, str, str, datetime, str, int | None]] = []
    for number, (days, user, item, position, clicked) in enumerate(shown):
        time, session = AS_OF - timedelta(days=days), f"s{number}"
        rows.append((user, item, "impression", time, session, position))
        if clicked:
            rows.append((user, item, "click", time + timedelta(minutes=1), session, position))
    for days, user, item in purchases:
        rows.append((user, item, "purchase", AS_OF - timedelta(days=days), "till", None))
    schema = {
        "user_id": pl.String(),
        "item_id": pl.String(),
        "event_type": pl.String(),
        "event_time": pl.Datetime("us", "UTC"),
        "session_id": pl.String(),
        "position": pl.Int32(),
    }
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_row_index("event_id")
    events = frame.with_columns(pl.col("event_id").cast(pl.String))
    return InteractionLog.build(pl.Series(["a", "b", "c"]), events.lazy())


def features_of(
    log: InteractionLog, user: str, as_of: datetime = AS_OF
) -> dict[str, NDArray[np.float32]]:
    """Features of items a, b and c for one shopper, by name."""
    users = np.array([log.user_rows.get(user, -1)])
    nothing = np.full(3, np.nan, np.float32)
    no_number = np.full(3, -1, np.int32)
    matrix = feature_matrix(
        FeatureInputs(
            items=ItemColumns(nothing, np.zeros(3, np.int64), no_number, no_number, no_number),
            statistics=ItemStatistics.at(log, micros(as_of)),
            histories=log.histories(users),
            shown=log.shown_to(users),
            context=ItemLists.empty(1),
            as_of=np.array([micros(as_of)]),
            candidates=Candidates(
                np.array([0, 3]), np.arange(3, dtype=np.int32), (), np.zeros((3, 0), np.int32)
            ),
        )
    )
    return dict(zip(matrix.names, matrix.values.T, strict=True))


def lists_of(cells: dict[tuple[str, int], tuple[int, int]], days: float) -> list[Shown]:
    """Impressions by (item, position): (how many, how many of them clicked)."""
    return [
        (days, f"user-{number}", item, position, number < clicked)
        for (item, position), (count, clicked) in cells.items()
        for number in range(count)
    ]


def test_ctr_is_clicks_over_expected_clicks_by_hand() -> None:
    """Items a and b, 30 impressions each at both positions, so rates don't depend on the items.

    Rates with the prior of 20 impressions at 16 / 120: (12 + 8/3) / 80 at the top, (4 + 8/3) / 80
    below. An item's 30 and 30 impressions let 8 clicks be expected; it got 12 and 4.
    """
    cells = {("a", 0): (30, 9), ("b", 0): (30, 3), ("a", 1): (30, 3), ("b", 1): (30, 1)}
    log = log_of(lists_of(cells, 3.0), [])
    statistics = ItemStatistics.at(log, micros(AS_OF)).exposure
    for row in (0, 1):
        assert statistics.impressions[row].tolist() == [60, 60, 0]
        assert statistics.clicks[row].tolist() == [12, 4, 0]
        np.testing.assert_allclose(statistics.expected_clicks[row], [8, 8, 0], rtol=1e-6)
    found = features_of(log, "user-0")
    for name in ("ctr_30d", "ctr_90d"):
        np.testing.assert_allclose(found[name], [17 / 13, 9 / 13, 1], rtol=1e-6, err_msg=name)


def test_cvr_is_purchases_per_click_drawn_to_the_rate_of_all_by_hand() -> None:
    shown = lists_of({("a", 0): (30, 9), ("b", 0): (30, 3)}, 3.0)
    shown += lists_of({("b", 0): (4, 4)}, 60.0)
    purchases = [(1.0, "user-1", "a")] * 3 + [(1.0, "user-1", "c"), (61.0, "user-1", "b")]
    found = features_of(log_of(shown, purchases), "user-1")
    rate = 4 / 12
    expected = [(3 + 5 * rate) / (9 + 5), (5 * rate) / (3 + 5), (1 + 5 * rate) / 5]
    np.testing.assert_allclose(found["cvr_30d"], expected, rtol=1e-6)
    rate = 5 / 16
    expected = [(3 + 5 * rate) / (9 + 5), (1 + 5 * rate) / (7 + 5), (1 + 5 * rate) / 5]
    np.testing.assert_allclose(found["cvr_90d"], expected, rtol=1e-6)


def test_windows_take_impressions_by_when_they_were_shown() -> None:
    cells = {("a", 0): (10, 5)}
    log = log_of(lists_of(cells, 29.0) + lists_of(cells, 31.0) + lists_of(cells, 91.0), [])
    exposure = ItemStatistics.at(log, micros(AS_OF)).exposure
    assert exposure.impressions[:, 0].tolist() == [10, 20]
    assert exposure.clicks[:, 0].tolist() == [5, 10]


def test_a_click_after_the_full_hour_is_not_seen_though_its_impression_is() -> None:
    hour = floor_to_hour(micros(AS_OF))
    minutes = (micros(AS_OF) - hour) / 60e6
    shown: list[Shown] = [((minutes + 0.5) / 1440, "ann", "a", 0, True)]
    exposure = ItemStatistics.at(log_of(shown, []), micros(AS_OF)).exposure
    assert (exposure.impressions[0, 0], exposure.clicks[0, 0]) == (1, 0)


def naive_place_rates(
    shown: NDArray[np.float64], item_clicks: NDArray[np.float64], place_clicks: NDArray[np.float64]
) -> list[float]:
    """The alternating estimates, cell by cell."""
    items, places = shown.shape
    prior = 20.0 * item_clicks.sum() / shown.sum()
    attractiveness = [1.0] * items
    for _ in range(21):
        rates = [
            (place_clicks[p] + prior)
            / (sum(shown[i, p] * attractiveness[i] for i in range(items)) + 20.0)
            for p in range(places)
        ]
        expected = [sum(shown[i, p] * rates[p] for p in range(places)) for i in range(items)]
        attractiveness = [
            item_clicks[i] / expected[i] if expected[i] else 0.0 for i in range(items)
        ]
    return rates


def test_place_rates_equal_a_computation_cell_by_cell() -> None:
    rng = np.random.default_rng(0)
    shown = rng.integers(0, 40, (6, 4)).astype(np.float64)
    shown[5] = 0
    clicks = rng.binomial(shown.astype(np.int64), 0.2).astype(np.float64)
    found = place_rates(sparse.csr_matrix(shown), clicks.sum(axis=1), clicks.sum(axis=0))
    expected = naive_place_rates(shown, clicks.sum(axis=1), clicks.sum(axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_good_items_on_top_are_not_mistaken_for_a_good_place() -> None:
    """The top is looked at 4 times as often, and the item that stands there is 3 times as good."""
    shown = np.array([[90_000.0, 10_000.0], [10_000.0, 90_000.0]])
    clicks = shown * np.array([[0.4, 0.1]]) * np.array([[1.5], [0.5]])
    rates = place_rates(sparse.csr_matrix(shown), clicks.sum(axis=1), clicks.sum(axis=0))
    ratio = clicks.sum(axis=1) / (shown @ rates)
    assert rates[0] / rates[1] == pytest.approx(4, rel=0.02)
    assert ratio[0] / ratio[1] == pytest.approx(3, rel=0.02)
    by_place = clicks.sum(axis=0) / shown.sum(axis=0)
    assert by_place[0] / by_place[1] > 9


def test_an_unknown_position_and_all_very_low_ones_are_a_place_each() -> None:
    """The same numbers as by hand above, so the same expected clicks."""
    tops: list[Shown] = [
        (3.0, "ann", item, None, number < clicked)
        for item, clicked in (("a", 9), ("b", 3))
        for number in range(30)
    ]
    low = {("a", 99): (20, 2), ("b", 99): (20, 1), ("a", 5_000): (10, 1), ("b", 5_000): (10, 0)}
    exposure = ItemStatistics.at(log_of(tops + lists_of(low, 3.0), []), micros(AS_OF)).exposure
    np.testing.assert_allclose(exposure.expected_clicks[0], [8, 8, 0], rtol=1e-6)


def test_without_impressions_their_features_are_unknown_and_nothing_fails() -> None:
    found = features_of(log_of([], [(1.0, "ann", "a"), (2.0, "bob", "b")]), "ann")
    names = ("ctr_30d", "ctr_90d", "cvr_30d", "cvr_90d")
    for name in (*names, "own_shown", "own_passed_over", "own_shown_days_since"):
        assert np.isnan(found[name]).all(), name


def test_impressions_nobody_clicked_say_nothing_of_items_but_are_counted_for_the_shopper() -> None:
    shown: list[Shown] = [(2.0, "ann", "a", 0, False)]
    found = features_of(log_of(shown, [(3.0, "ann", "b")]), "ann")
    assert np.isnan(found["ctr_30d"]).all()
    assert np.isnan(found["cvr_30d"]).all()
    assert found["own_shown"].tolist() == [1, 0, 0]


FATIGUE: list[Shown] = [
    (45.0, "ann", "a", 0, False),
    (20.0, "ann", "a", 0, False),
    (10.0, "ann", "a", 1, True),
    (5.0, "ann", "a", 1, False),
    (45.0, "ann", "b", 0, False),
    (1.0, "bob", "a", 0, False),
    (1.0, "cat", "b", 0, True),
]


def test_fatigue_counts_what_this_shopper_was_shown_and_passed_over() -> None:
    log = log_of(FATIGUE, [])
    found = features_of(log, "ann")
    assert found["own_shown"].tolist() == [3, 0, 0]
    assert found["own_passed_over"].tolist() == [2, 0, 0]
    np.testing.assert_allclose(found["own_shown_days_since"], [5, 45, np.nan], rtol=1e-6)


def test_fatigue_sees_impressions_and_clicks_up_to_the_request_only() -> None:
    log = log_of(FATIGUE, [(30.0, "ann", "c")])
    day = AS_OF - timedelta(days=10)
    assert features_of(log, "ann", day)["own_passed_over"].tolist() == [1, 0, 0]
    just_shown = features_of(log, "ann", day + timedelta(seconds=1))
    assert just_shown["own_passed_over"].tolist() == [2, 0, 0]
    clicked = features_of(log, "ann", day + timedelta(seconds=61))
    assert clicked["own_passed_over"].tolist() == [1, 0, 0]
    assert clicked["own_shown"].tolist() == [2, 0, 0]


@pytest.mark.parametrize("user", ["bob", "stranger"])
def test_fatigue_of_a_shopper_who_never_acted_is_unknown(user: str) -> None:
    found = features_of(log_of(FATIGUE, []), user)
    assert np.isnan(found["own_shown"]).all()
    assert np.isfinite(found["ctr_30d"]).all()


def test_impressions_change_no_other_statistic() -> None:
    with_clicks = random_log(3, impressions=300)
    without = replace(with_clicks, impressions=with_clicks.impressions.before(0))
    end = int(with_clicks.time.max())
    one, other = (ItemStatistics.at(log, end) for log in (with_clicks, without))
    assert one.exposure.clicks.any()
    assert not other.exposure.impressions.any()
    for name in set(vars(one)) - {"exposure"}:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


POSITION_BIASED = SimulationConfig(
    users=300,
    items=200,
    days=42,
    sessions_per_day=0.4,
    policy=PolicyConfig(popularity_weight=1.0, freshness_weight=0.0, list_size=20),
    behaviour=BehaviourConfig(examination_power=1.0),
)
"""What was clicked lately stands on top, and hardly anybody looks further down."""


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_ctr_against_position_is_nearer_to_the_truth_than_raw_ctr(seed: int) -> None:
    shop = SimulatedShop(POSITION_BIASED, seed)
    events = pl.concat(list(shop.days()))
    log = InteractionLog.build(shop.items()["item_id"], events.lazy())
    end = int(log.impressions.time[-1]) + 3_600_000_000
    exposure = ItemStatistics.at(log, end).exposure
    shown, clicks, expected = (counts[-1] for counts in exposure)
    users, items = np.arange(POSITION_BIASED.users), np.arange(POSITION_BIASED.items)
    truth = shop.click_probability(users, items, POSITION_BIASED.days / 2).mean(axis=0)
    known = shown >= 30
    raw = spearmanr(clicks[known] / shown[known], truth[known]).statistic
    corrected = spearmanr(clicks[known] / expected[known], truth[known]).statistic
    assert known.sum() > 190
    assert corrected > raw + 0.02
    assert corrected > 0.8
