"""Filters, re-buys and neighbours of the trained recommender, against the catalogue row by row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from trained_shop import TrainedShop

from recsys.errors import UnknownItemError
from recsys.recommender import (
    ItemFilter,
    RankedList,
    Recommender,
    RecommendRequest,
    SimilarItemsRequest,
    Tier,
)
from recsys.recommender.candidates import filled_up, given

EVERYTHING = 200
NOBODY = "never-seen"


@pytest.fixture(scope="module")
def recommender(trained_shop: TrainedShop) -> Recommender:
    return trained_shop.recommender


@pytest.fixture(scope="module")
def available(trained_shop: TrainedShop) -> set[str]:
    return set(trained_shop.tables.items.filter("available")["item_id"])


def ids_of(answer: RankedList) -> list[str]:
    return [item.item_id for item in answer.items]


def bought_by(shop: TrainedShop, user_id: str) -> set[str]:
    events = shop.tables.past.filter(
        (pl.col("event_type") == "purchase") & (pl.col("user_id") == user_id)
    )
    return set(events["item_id"])


def filters(shop: TrainedShop) -> list[ItemFilter]:
    items = shop.tables.items
    roots = tuple(items["category"].list.first().unique().sort())
    prices = items["price"].sort()
    return [
        ItemFilter(categories=roots[:1]),
        ItemFilter(categories=(items["category"].list.last()[0], "no such category")),
        ItemFilter(brands=tuple(items["brand"].drop_nulls().unique().sort()[:2])),
        ItemFilter(min_price=prices[30], max_price=prices[50]),
        ItemFilter(min_price=prices[70]),
        ItemFilter(exclude_item_ids=tuple(items["item_id"][:40])),
        ItemFilter(categories=roots[:2], max_price=prices[60], exclude_purchased=True),
        ItemFilter(categories=("no such category",)),
    ]


def allowed_by(shop: TrainedShop, wanted: ItemFilter, user_id: str) -> set[str]:
    """The filter's meaning, row by row."""
    bought = bought_by(shop, user_id) if wanted.exclude_purchased else set()
    lowest = -np.inf if wanted.min_price is None else wanted.min_price
    highest = np.inf if wanted.max_price is None else wanted.max_price
    return {
        row["item_id"]
        for row in shop.tables.items.iter_rows(named=True)
        if row["available"]
        and (not wanted.categories or set(row["category"]) & set(wanted.categories))
        and (not wanted.brands or row["brand"] in wanted.brands)
        and lowest <= row["price"] <= highest
        and row["item_id"] not in wanted.exclude_item_ids
        and row["item_id"] not in bought
    }


def test_filters_let_through_all_that_match_and_nothing_else(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    sizes = set()
    for wanted in filters(trained_shop):
        for user in (*trained_shop.shoppers[:3], NOBODY):
            request = RecommendRequest(user, page_size=EVERYTHING, filter=wanted)
            expected = allowed_by(trained_shop, wanted, user)
            assert set(ids_of(recommender.recommend(request))) == expected
            sizes.add(len(expected))
    assert len(sizes) > 5
    assert 0 in sizes


def test_a_filter_does_not_shorten_the_page_while_items_are_left(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    for wanted in filters(trained_shop):
        request = RecommendRequest(trained_shop.shoppers[0], page_size=6, filter=wanted)
        allowed = allowed_by(trained_shop, wanted, request.user_id)
        assert len(recommender.recommend(request).items) == min(6, len(allowed))


def test_bought_items_come_back_unless_excluded(
    recommender: Recommender, trained_shop: TrainedShop, available: set[str]
) -> None:
    met = 0
    for user in trained_shop.shoppers[:10]:
        bought = bought_by(trained_shop, user) & available
        request = RecommendRequest(user, page_size=EVERYTHING)
        everything = set(ids_of(recommender.recommend(request)))
        rest = recommender.recommend(replace(request, filter=ItemFilter(exclude_purchased=True)))
        assert everything - set(ids_of(rest)) == bought
        met += len(bought)
    assert met > 10


def test_similar_items_leave_out_the_item_itself_and_obey_filters(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    for item_id in trained_shop.tables.items["item_id"][:12]:
        answer = recommender.similar_items(SimilarItemsRequest(item_id, 8))
        assert 0 < len(answer.items) <= 8
        assert item_id not in ids_of(answer)
        assert all(item.tier == Tier.NEIGHBOURS and item.sources for item in answer.items)
        order = [(-item.score, item.item_id) for item in answer.items]
        assert order == sorted(order)
        for wanted in filters(trained_shop):
            near = recommender.similar_items(SimilarItemsRequest(item_id, 8, wanted))
            assert set(ids_of(near)) <= allowed_by(trained_shop, wanted, "")


def test_nothing_is_similar_to_an_unknown_item(recommender: Recommender) -> None:
    with pytest.raises(UnknownItemError, match="no such") as caught:
        recommender.similar_items(SimilarItemsRequest("no such"))
    assert caught.value.field == "item_id"


def test_short_lists_are_filled_up_by_popularity_and_keep_their_provenance() -> None:
    found = given([np.array([2, 5]), np.array([], np.int64)], None)
    found = replace(
        found, source_names=("popular",), source_ranks=np.array([[1], [0]], dtype=np.int32)
    )
    allowed = np.array([True, True, False, True, True, True])
    popularity = np.array([1, 9, 9, 3, 9, 0])
    filled = filled_up(found, [allowed, allowed], [3, 2], popularity)
    assert filled.offsets.tolist() == [0, 3, 5]
    assert filled.item.tolist() == [1, 4, 5, 1, 4]
    assert filled.source_ranks.ravel().tolist() == [-1, -1, 0, -1, -1]
    unchanged = filled_up(found, [np.ones(6, np.bool_)] * 2, [1, 0], popularity)
    assert unchanged.item.tolist() == [2, 5]
