"""What a shopper did since the bundle was built counts in the next answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from trained_shop import UNTIL, TrainedShop

from recsys.interactions import EventKind, Histories, as_datetime, microseconds
from recsys.recommender import ItemFilter, RankedList, RankRequest, RecentEvent, RecommendRequest
from recsys.recommender.recent import recent_histories

NOBODY = "never-seen"
NOW = UNTIL + timedelta(hours=5)


@pytest.fixture(scope="module")
def viewed(trained_shop: TrainedShop) -> tuple[RecentEvent, ...]:
    """Three items of one kind, looked at within a minute."""
    kind = trained_shop.tables.items["category"].list.last()
    ids = trained_shop.tables.items["item_id"].filter(kind == kind.mode().sort()[0])
    return tuple(
        RecentEvent(item_id, EventKind.VIEW, UNTIL + timedelta(seconds=20 * i), "s1")
        for i, item_id in enumerate(ids[:3])
    )


def asked(recent: Sequence[RecentEvent], user_id: str = NOBODY) -> RecommendRequest:
    return RecommendRequest(user_id, as_of=NOW, recent=tuple(recent), page_size=50)


def scores(answer: RankedList) -> dict[str, float]:
    return {item.item_id: item.score for item in answer.items}


def test_a_log_cut_anywhere_and_continued_by_recent_events_is_the_same_history(
    trained_shop: TrainedShop,
) -> None:
    log = trained_shop.data.log
    users = np.arange(len(log.user_ids))
    whole = log.histories(users)
    cut = int(np.median(log.time))
    rest = whole.where(whole.time >= cut)
    joined = (
        log.before(cut)
        .histories(users)
        .followed_by(
            recent_histories(
                [as_events(rest.rows(i, i + 1), trained_shop) for i in range(len(users))],
                log.item_rows,
                [int(log.time.max()) + 1] * len(users),
                int(log.time.max()) + 2,
            )
        )
    )
    assert len(rest.item)
    for name in ("offsets", "time", "price", "quantity"):
        assert_array_equal(getattr(joined, name), getattr(whole, name), name)
    columns = ("request", "time", "item", "kind")
    assert rows_of(joined, columns) == rows_of(whole, columns)


def as_events(own: Histories, shop: TrainedShop) -> list[RecentEvent]:
    return [
        RecentEvent(
            shop.data.log.item_ids[own.item[i]],
            EventKind(own.kind[i]),
            as_datetime(int(own.time[i])),
            str(own.basket[i]),
            float(own.price[i]),
            int(own.quantity[i]),
        )
        for i in range(len(own.item))
    ]


def rows_of(histories: Histories, columns: Sequence[str]) -> list[tuple[int, ...]]:
    values = (getattr(histories, name).tolist() for name in columns)
    return sorted(zip(*values, strict=True))


def test_what_a_stranger_looked_at_changes_the_next_answer(
    trained_shop: TrainedShop, viewed: tuple[RecentEvent, ...]
) -> None:
    recommend = trained_shop.recommender.recommend
    before, after = recommend(asked(())), recommend(asked(viewed))
    assert scores(before) != scores(after)
    behind = {"co_occurrence", "text", "own_items", "next_items"}
    assert not any(behind & set(item.sources) for item in before.items)
    assert any(behind & set(item.sources) for item in after.items)


def test_the_order_in_which_recent_events_come_changes_nothing(
    trained_shop: TrainedShop, viewed: tuple[RecentEvent, ...]
) -> None:
    recommend = trained_shop.recommender.recommend
    known = trained_shop.shoppers[0]
    assert recommend(asked(viewed, known)) == recommend(asked(viewed[::-1], known))


def test_what_happened_at_or_after_the_request_s_time_is_left_out(
    trained_shop: TrainedShop, viewed: tuple[RecentEvent, ...]
) -> None:
    recommend = trained_shop.recommender.recommend
    later = [replace(event, time=NOW + i * timedelta(seconds=1)) for i, event in enumerate(viewed)]
    assert recommend(asked(later)) == recommend(asked(()))


def test_events_on_unknown_items_are_left_out(trained_shop: TrainedShop) -> None:
    recommend = trained_shop.recommender.recommend
    unknown = [RecentEvent("no such item", EventKind.PURCHASE, UNTIL)]
    assert recommend(asked(unknown)) == recommend(asked(()))


def test_a_recent_purchase_is_excluded_where_that_is_asked(
    trained_shop: TrainedShop,
) -> None:
    recommend = trained_shop.recommender.recommend
    request = replace(asked(()), filter=ItemFilter(exclude_purchased=True))
    first = recommend(request).items[0].item_id
    bought = (RecentEvent(first, EventKind.PURCHASE, UNTIL),)
    assert first not in scores(recommend(replace(request, recent=bought)))


def test_events_long_after_the_bundle_still_count(
    trained_shop: TrainedShop, viewed: tuple[RecentEvent, ...]
) -> None:
    recommend = trained_shop.recommender.recommend
    month = timedelta(days=30)
    late = [replace(event, time=event.time + month) for event in viewed]
    without = replace(asked(()), as_of=NOW + month)
    answer = recommend(replace(without, recent=tuple(late)))
    assert scores(answer) != scores(recommend(without))


def test_rank_sees_recent_events_too(
    trained_shop: TrainedShop, viewed: tuple[RecentEvent, ...]
) -> None:
    ids = tuple(trained_shop.tables.items["item_id"])
    rank = trained_shop.recommender.rank
    request = RankRequest(ids, NOBODY, as_of=NOW)
    assert scores(rank(request)) != scores(rank(replace(request, recent=viewed)))


def test_a_session_is_a_basket_and_so_is_a_second_without_one() -> None:
    at = UNTIL
    events = [
        RecentEvent("a", EventKind.PURCHASE, at, "s"),
        RecentEvent("b", EventKind.PURCHASE, at + timedelta(hours=1), "s"),
        RecentEvent("a", EventKind.PURCHASE, at + timedelta(hours=2)),
        RecentEvent("b", EventKind.PURCHASE, at + timedelta(hours=2, milliseconds=300)),
        RecentEvent("b", EventKind.PURCHASE, at + timedelta(hours=2, seconds=2)),
    ]
    end = microseconds(at + timedelta(days=1))
    found = recent_histories([events, []], {"a": 0, "b": 1}, [end, end], end)
    assert found.basket.tolist() == [0, 0, 1, 1, 2]
    assert found.offsets.tolist() == [0, 5, 5]
