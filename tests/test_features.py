"""The ranker's features: right numbers, no look at the future, no influence of the batch."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import (
    END_US,
    START_US,
    item_ids,
    log_of,
    random_events,
    random_impressions,
    random_log,
)

from recsys.errors import ModelError
from recsys.features import (
    NEVER,
    FeatureInputs,
    FeatureMatrix,
    ItemColumns,
    ItemStatistics,
    feature_matrix,
)
from recsys.interactions import (
    DAY_US,
    HOUR_US,
    Candidates,
    EventKind,
    Histories,
    InteractionLog,
    ItemLists,
    ShownItems,
)

ITEMS, USERS = 30, 15
AS_OF = START_US + 100 * DAY_US + HOUR_US // 3


def columns(seed: int = 0) -> ItemColumns:
    rng = np.random.default_rng(seed)
    price = rng.uniform(1, 30, ITEMS).astype(np.float32)
    price[::7] = np.nan
    created = rng.integers(START_US, END_US, ITEMS)
    created[::5] = NEVER
    category, leaf, brand = rng.integers(-1, 4, (3, ITEMS)).astype(np.int32)
    return ItemColumns(price, created, category, leaf, brand)


def inputs(log: InteractionLog, seed: int, requests: int = 8) -> FeatureInputs:
    """Requests of random shoppers in the half hour after `AS_OF`."""
    rng = np.random.default_rng(seed)
    users = rng.integers(-1, len(log.user_ids), requests)
    lists = [np.sort(rng.permutation(ITEMS)[: rng.integers(0, 12)]) for _ in range(requests)]
    candidates = ItemLists.of([rows.tolist() for rows in lists])
    size = len(candidates.item)
    score = rng.standard_normal(size).round(1).astype(np.float32)
    score[::6] = np.nan
    return FeatureInputs(
        items=columns(),
        statistics=ItemStatistics.at(log, AS_OF),
        histories=log.histories(users),
        shown=log.shown_to(users),
        context=ItemLists.of(
            [rng.permutation(ITEMS)[: row % 3].tolist() for row in range(requests)]
        ),
        as_of=AS_OF + rng.integers(0, HOUR_US // 2, requests),
        candidates=Candidates(
            candidates.offsets,
            candidates.item,
            ("one", "two"),
            rng.integers(-1, 5, (size, 2)).astype(np.int32),
        ),
        text_scores={"cross": score},
        co_occurrence_scores={"bm25": rng.random(size).astype(np.float32)},
    )


def one_history(rows: list[tuple[int, float, EventKind, float, int]]) -> Histories:
    """One shopper's events: (item, days before AS_OF, kind, price, basket), oldest first."""
    item, days, kind, price, basket = zip(*rows, strict=True)
    return Histories(
        offsets=np.array([0, len(rows)]),
        item=np.array(item, np.int32),
        time=AS_OF - (np.array(days) * DAY_US).astype(np.int64),
        kind=np.array(kind, np.uint8),
        price=np.array(price, np.float32),
        quantity=np.arange(1, len(rows) + 1, dtype=np.int32),
        basket=np.array(basket, np.int32),
    )


def features_of(history: Histories, items: list[int], context: list[int]) -> dict[str, list[float]]:
    """Features of one shopper's candidates, by name."""
    log = random_log(1)
    given_inputs = FeatureInputs(
        items=columns(),
        statistics=ItemStatistics.at(log, AS_OF),
        histories=history,
        shown=ShownItems.empty(1),
        context=ItemLists.of([context]),
        as_of=np.array([AS_OF]),
        candidates=Candidates(
            np.array([0, len(items)]),
            np.array(items, np.int32),
            (),
            np.zeros((len(items), 0), np.int32),
        ),
    )
    matrix = feature_matrix(given_inputs)
    return dict(zip(matrix.names, matrix.values.T.tolist(), strict=True))


BUY, CLICK, HIDE = EventKind.PURCHASE, EventKind.CLICK, EventKind.HIDE
HISTORY = one_history(
    [
        (4, 60.0, BUY, 2.0, 1),
        (4, 60.0, BUY, 4.0, 1),
        (4, 40.0, BUY, 6.0, 2),
        (5, 40.0, BUY, 8.0, 2),
        (6, 12.0, CLICK, np.nan, 3),
        (4, 10.0, BUY, 10.0, 4),
        (5, 2.0, HIDE, np.nan, 5),
    ]
)


def test_rebuy_features_count_baskets_and_time() -> None:
    found = features_of(HISTORY, [4, 5, 6], [])
    expected: dict[str, list[float]] = {
        "own_baskets": [3, 1, 0],
        "own_basket_share": [1, 1 / 3, 0],
        "own_fresh_baskets": [0.5**2 + 0.5 ** (4 / 3) + 0.5 ** (1 / 3), 0.5 ** (4 / 3), 0],
        "own_quantity": [(1 + 2 + 3 + 6) / 3, 4, np.nan],
        "own_days_since": [10, 40, np.nan],
        "own_interval": [25, np.nan, np.nan],
        "own_due": [0.4, np.nan, np.nan],
        "own_in_last_1": [1, 0, 0],
        "own_in_last_3": [3, 1, 0],
        "own_fresh_baskets_7d": [
            0.5 ** (60 / 7) + 0.5 ** (40 / 7) + 0.5 ** (10 / 7),
            0.5 ** (40 / 7),
            0,
        ],
        "own_baskets_30d": [1, 0, 0],
        "own_baskets_60d": [3, 1, 0],
        "own_baskets_since": [0, 1, np.nan],
        "own_rate": [1, 0.5, np.nan],
        "own_basket_weight": [1 + 0.8 + 0.64, 0.8, 0],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)


def test_interest_features_count_clicks_and_hides() -> None:
    found = features_of(HISTORY, [4, 5, 6], [])
    assert found["own_clicks"] == [0, 0, 1]
    assert found["own_hides"] == [0, 1, 0]
    np.testing.assert_allclose(found["own_clicks_days_since"], [np.nan, np.nan, 12])
    np.testing.assert_allclose(found["own_hides_days_since"], [np.nan, 2, np.nan])


def test_user_features_are_the_same_for_all_candidates() -> None:
    found = features_of(HISTORY, [4, 9], [])
    expected = {
        "user_baskets": 3,
        "user_items": 2,
        "user_basket_size": 4 / 3,
        "user_repeat_rate": 0.5,
        "user_days_since": 10,
        "user_interval": 25,
        "user_due": 0.4,
        "user_events": 6,
        "user_pieces": (1 + 2 + 3 + 4 + 6) / 5,
        "user_baskets_30d": 1,
        "user_baskets_90d": 3,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value, value], rtol=1e-5, err_msg=name)


def test_price_features_compare_with_what_is_paid_and_looked_at() -> None:
    found = features_of(HISTORY, [1, 7], [2, 3])
    listed = columns().price
    paid = ItemStatistics.at(random_log(1), AS_OF).mean_price
    prices = np.array([listed[1], paid[7]])
    assert np.isnan(listed[7])
    looked_at = (listed[2] + listed[3]) / 2
    np.testing.assert_allclose(found["price"], prices, rtol=1e-5)
    np.testing.assert_allclose(found["price_to_usual"], prices / 6.0, rtol=1e-5)
    np.testing.assert_allclose(found["price_to_context"], prices / looked_at, rtol=1e-5)
    np.testing.assert_allclose(found["price_to_paid"], prices / paid[[1, 7]], rtol=1e-5)


def test_category_features_are_shares_of_the_shoppers_events() -> None:
    category = columns().category
    candidates = [int(np.flatnonzero(category == code)[0]) for code in (-1, category[4])]
    found = features_of(HISTORY, candidates, [4])
    interest = category[[4, 4, 4, 5, 6, 4]]
    share = (interest == category[4]).mean()
    np.testing.assert_allclose(found["category_share"], [np.nan, share], rtol=1e-5)
    np.testing.assert_allclose(found["category_in_context"], [np.nan, 1])


def test_a_shopper_nothing_is_known_of_has_unknown_shares_not_zero_divisions() -> None:
    found = features_of(Histories.empty(1), [1, 2], [])
    for name in ("user_due", "own_due", "price_to_usual", "category_share", "price_to_context"):
        assert np.isnan(found[name]).all(), name
    assert found["user_baskets"] == found["own_baskets"] == [0, 0]


def test_ages_are_never_negative() -> None:
    log = random_log(1)
    age = feature_matrix(inputs(log, 3))
    listed = age.values[:, age.names.index("days_since_listed")]
    assert (columns().created_at > AS_OF).any()
    assert np.nanmin(listed) == 0


def test_scores_have_ranks_within_their_request_and_ties_alike() -> None:
    given_inputs = inputs(random_log(2), 2)
    matrix = feature_matrix(given_inputs)
    request = given_inputs.candidates.request
    score = given_inputs.text_scores["cross"]
    expected = [
        np.nan if np.isnan(s) else np.sum(score[request == r] > s)
        for r, s in zip(request, score, strict=True)
    ]
    np.testing.assert_array_equal(matrix.values[:, matrix.names.index("text_cross_rank")], expected)


def test_source_features_say_where_an_item_stood() -> None:
    given_inputs = inputs(random_log(2), 2)
    matrix = feature_matrix(given_inputs)
    ranks = given_inputs.candidates.source_ranks[:, 1]
    found = matrix.values[:, matrix.names.index("source_two")]
    np.testing.assert_allclose(found, np.where(ranks < 0, 0, 1 / (1 + np.maximum(ranks, 0))))


def test_every_feature_has_one_name_and_one_group() -> None:
    matrix = feature_matrix(inputs(random_log(3), 0))
    assert len(set(matrix.names)) == len(matrix.names) == matrix.values.shape[1]
    assert tuple(matrix.groups) == matrix.names
    assert {"text", "co_purchase", "popularity", "price", "rebuy", "source"} <= set(
        matrix.groups.values()
    )


def same(one: FeatureMatrix, other: FeatureMatrix) -> None:
    assert one.names == other.names
    np.testing.assert_array_equal(one.values, other.values)


@given(seed=st.integers(0, 10_000), moved=st.integers(0, 40))
@settings(max_examples=15, deadline=None)
def test_events_at_or_after_the_request_change_no_feature(seed: int, moved: int) -> None:
    rng = np.random.default_rng(seed)
    shown = random_impressions(rng, USERS, ITEMS, 300)
    events = pl.concat([random_events(rng, USERS, ITEMS, 400), shown], how="diagonal")
    before = events.filter(pl.col("event_time").dt.epoch("us") < AS_OF)
    late_clicks = shown.with_columns(event_type=pl.lit("click"))
    later = [random_events(rng, USERS, ITEMS, 50), shown.head(50), late_clicks]
    late = pl.concat(later, how="diagonal").with_columns(
        event_id=pl.format("late-{}", pl.int_range(pl.len())),
        event_time=pl.lit(datetime.fromtimestamp(AS_OF / 1e6, UTC))
        + pl.duration(seconds=pl.int_range(pl.len()) * moved),
    )
    found = []
    for table in (before, pl.concat([before, late], how="diagonal_relaxed")):
        log = log_of(table, ITEMS)
        shoppers = [f"user-{row:03}" for row in range(0, USERS + 2, 2)]
        users = np.array([log.user_rows.get(shopper, -1) for shopper in shoppers])
        request = replace(
            inputs(log, seed, len(users)),
            histories=log.histories(users),
            shown=log.shown_to(users),
            as_of=np.full(len(users), AS_OF),
        )
        found.append(feature_matrix(request))
    same(*found)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_request_has_the_same_features_alone_and_in_a_batch(seed: int) -> None:
    batch = inputs(random_log(seed % 7, impressions=300), seed)
    together = feature_matrix(batch)
    for row in range(batch.candidates.count):
        entries = slice(*batch.candidates.offsets[[row, row + 1]])
        alone = replace(
            batch,
            histories=batch.histories.rows(row, row + 1),
            shown=batch.shown.rows(row, row + 1),
            context=batch.context.rows(row, row + 1),
            as_of=batch.as_of[row : row + 1],
            candidates=batch.candidates.rows(row, row + 1),
            text_scores={n: s[entries] for n, s in batch.text_scores.items()},
            co_occurrence_scores={n: s[entries] for n, s in batch.co_occurrence_scores.items()},
        )
        np.testing.assert_array_equal(feature_matrix(alone).values, together.values[entries])


def test_the_order_of_candidates_changes_no_value() -> None:
    batch = inputs(random_log(4, impressions=300), 5, requests=1)
    batch = replace(batch, candidates=batch.candidates)
    order = np.random.default_rng(0).permutation(len(batch.candidates.item))
    shuffled = replace(
        batch,
        candidates=Candidates(
            batch.candidates.offsets,
            batch.candidates.item[order],
            batch.candidates.source_names,
            batch.candidates.source_ranks[order],
        ),
        text_scores={n: s[order] for n, s in batch.text_scores.items()},
        co_occurrence_scores={n: s[order] for n, s in batch.co_occurrence_scores.items()},
    )
    assert len(order) > 3
    expected = feature_matrix(batch).values[order]
    np.testing.assert_array_equal(feature_matrix(shuffled).values, expected)


def test_statistics_from_the_future_are_refused() -> None:
    log = random_log(5)
    leaking = replace(inputs(log, 1), statistics=ItemStatistics.at(log, AS_OF + 2 * HOUR_US))
    with pytest.raises(ModelError, match="would leak"):
        feature_matrix(leaking)


@pytest.mark.parametrize("field", ["context", "as_of", "text_scores", "histories", "shown"])
def test_inputs_of_another_size_are_refused_by_name(field: str) -> None:
    wrong: dict[str, object] = {
        "context": ItemLists.empty(3),
        "as_of": np.full(3, AS_OF),
        "text_scores": {"text_scores": np.zeros(2, np.float32)},
        "histories": Histories.empty(3),
        "shown": ShownItems.empty(3),
    }
    with pytest.raises(ModelError, match=rf"{field}.* of size"):
        feature_matrix(replace(inputs(random_log(5), 1), **{field: wrong[field]}))  # type: ignore[arg-type]


def test_catalogue_columns_follow_the_order_of_rows_and_may_be_missing() -> None:
    moment = datetime(2031, 1, 1, tzinfo=UTC)
    items = pl.DataFrame(
        {
            "item_id": ["item-0002", "item-0000", "item-0001"],
            "price": [2.0, None, 1.0],
            "category": [["toys", "cars"], None, ["books"]],
            "created_at": [moment, None, None],
        },
        schema_overrides={"created_at": pl.Datetime("us", "UTC")},
    )
    found = ItemColumns.of(items, item_ids(4))
    expected: NDArray[np.float64] = np.array([np.nan, 1, 2, np.nan])
    np.testing.assert_array_equal(found.price, expected)
    assert found.created_at.tolist() == [NEVER, NEVER, START_US, NEVER]
    assert found.category.tolist() == [-1, 0, 1, -1]
    assert found.brand.tolist() == [-1] * 4
    assert found.leaf.tolist() == [-1, 0, 1, -1]
    kinds = [np.float32, np.int64, np.int32, np.int32, np.int32]
    assert [a.dtype for a in vars(found).values()] == kinds
