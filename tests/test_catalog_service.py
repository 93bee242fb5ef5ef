"""Changes of the catalogue: in effect in every answer once acknowledged, and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Event

import grpc
import numpy as np
import pytest
from catalogue_calls import NEW, delete, stamp, tier, upsert
from shelf_server import NOW, Call, refusal, running
from trained_shop import TrainedShop

from recsys import v1
from recsys.interactions import microseconds
from recsys.recommender import Recommender
from recsys.state import ItemChange, ItemRecord, SqliteStateStore

EVERYTHING = 200


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStateStore]:
    with closing(SqliteStateStore(tmp_path / "state.sqlite")) as opened:
        yield opened


@pytest.fixture
def call(trained_shop: TrainedShop, store: SqliteStateStore) -> Iterator[Call]:
    with running(trained_shop.recommender, store) as (_, connection):
        yield connection


@pytest.fixture(scope="module")
def chosen(trained_shop: TrainedShop) -> str:
    """An item that can be had and that many are recommended."""
    return _popular(trained_shop)


def _popular(shop: TrainedShop) -> str:
    events = shop.tables.past.join(shop.tables.items.filter("available"), on="item_id", how="semi")
    return str(events["item_id"].value_counts(sort=True).sort("count", "item_id")["item_id"][-1])


def row_of(shop: TrainedShop, item_id: str) -> v1.Item:
    """The catalogue's own row of an item as a message."""
    row = shop.tables.items.filter(item_id=item_id).row(0, named=True)
    columns = {
        name: stamp(value) if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None
    }
    return v1.Item(**columns)  # type: ignore[arg-type]


def recommended(call: Call, *users: str, **fields: object) -> set[str]:
    answers = [
        call.recommend(user_id=user, page_size=EVERYTHING, timeout=60.0, **fields)
        for user in users or ("",)
    ]
    return {item.item_id for answer in answers for item in answer.items}


def neighbours(call: Call, item_id: str) -> set[str]:
    request = v1.SimilarItemsRequest(item_id=item_id, page_size=EVERYTHING)
    return {item.item_id for item in call.stub.SimilarItems(request, timeout=60.0).items}


def assert_gone(call: Call, item_id: str, shop: TrainedShop) -> None:
    assert item_id not in recommended(call, "", *shop.shoppers[:5])
    assert tier(call, item_id, _popular(shop)) == v1.Tier.TIER_UNKNOWN_ITEM
    code, _, _ = refusal(lambda: neighbours(call, item_id))
    assert code is grpc.StatusCode.NOT_FOUND
    for other in shop.tables.items["item_id"][:20]:
        if other != item_id:
            assert item_id not in neighbours(call, other)


def test_a_deleted_item_is_in_no_answer_from_the_acknowledgement_on(
    trained_shop: TrainedShop, call: Call, chosen: str
) -> None:
    assert chosen in recommended(call)
    assert delete(call, chosen, chosen, "never-known").deleted_count == 2
    assert_gone(call, chosen, trained_shop)


def test_changes_are_in_effect_after_a_restart_and_with_another_bundle(
    trained_shop: TrainedShop, store: SqliteStateStore, chosen: str
) -> None:
    with running(trained_shop.recommender, store) as (_, call):
        delete(call, chosen)
        upsert(call, NEW)
    with running(trained_shop.recommender, store) as (server, call):
        assert_gone(call, chosen, trained_shop)
        assert NEW.item_id in recommended(call)
        server.install(trained_shop.recommender)
        assert_gone(call, chosen, trained_shop)
        assert tier(call, NEW.item_id) == v1.Tier.TIER_RANKER


def test_an_unavailable_item_is_flagged_by_rank_and_left_out_elsewhere(
    trained_shop: TrainedShop, call: Call, chosen: str
) -> None:
    row = row_of(trained_shop, chosen)
    row.available = False
    assert upsert(call, row).accepted_count == 1
    assert chosen not in recommended(call, "", *trained_shop.shoppers[:5])
    ids = ["unknown", chosen, *trained_shop.tables.items.filter("available")["item_id"][:3]]
    ranked = call.stub.Rank(v1.RankRequest(item_ids=ids), timeout=60.0).items
    assert [item.item_id for item in ranked][-2:] == [chosen, "unknown"]
    assert [item.tier for item in ranked][-2:] == [
        v1.Tier.TIER_UNAVAILABLE_ITEM,
        v1.Tier.TIER_UNKNOWN_ITEM,
    ]
    assert ranked[-2].score == 0
    assert neighbours(call, chosen)
    row.available = True
    upsert(call, row)
    assert chosen in recommended(call)


def test_a_new_price_is_seen_by_cards_and_filters(
    trained_shop: TrainedShop, call: Call, chosen: str
) -> None:
    row = row_of(trained_shop, chosen)
    dearest = max(trained_shop.tables.items["price"])
    row.price = 10 * dearest
    assert upsert(call, row).accepted_count == 1
    only = call.recommend(filter=v1.ItemFilter(min_price=2 * dearest), timeout=60.0).items
    assert [(item.item_id, item.price) for item in only] == [(chosen, 10 * dearest)]
    row.price = 0.01
    upsert(call, row)
    assert recommended(call, filter=v1.ItemFilter(min_price=2 * dearest)) == set()


def test_columns_without_text_change_features_and_share_what_is_derived(
    trained_shop: TrainedShop, chosen: str
) -> None:
    recommender = trained_shop.recommender
    row = row_of(trained_shop, chosen)
    record = ItemRecord(
        chosen,
        row.title,
        row.description or None,
        tuple(row.category),
        tuple(row.tags) or None,
        row.brand or None,
        123.0,
    )
    changed, taken = recommender.after([ItemChange(chosen, microseconds(NOW), record)])
    assert not taken.texts_read
    place = recommender._log.item_rows[chosen]
    assert changed._point._items.price[place] == np.float32(123.0)
    assert recommender._point._items.price[place] != np.float32(123.0)
    assert (
        changed._point.retriever.similar_shoppers is recommender._point.retriever.similar_shoppers
    )


def test_a_new_item_is_found_ranked_and_compared(
    trained_shop: TrainedShop, call: Call, chosen: str
) -> None:
    assert tier(call, NEW.item_id) == v1.Tier.TIER_UNKNOWN_ITEM
    response = upsert(call, NEW)
    assert (response.accepted_count, list(response.deferred_item_ids)) == (1, [])
    assert tier(call, NEW.item_id) == v1.Tier.TIER_RANKER
    found = call.recommend(query=NEW.title, page_size=EVERYTHING, timeout=60.0).items
    (item,) = [item for item in found if item.item_id == NEW.item_id]
    assert "text" in item.sources
    assert (item.title, item.price) == (NEW.title, NEW.price)
    assert neighbours(call, NEW.item_id)
    twin = row_of(trained_shop, chosen)
    twin.item_id = "twin"
    upsert(call, twin)
    assert "twin" in neighbours(call, chosen)


def test_a_changed_text_is_read_again(trained_shop: TrainedShop, call: Call, chosen: str) -> None:
    row = row_of(trained_shop, chosen)
    before = neighbours(call, chosen)
    row.title, row.description = NEW.title, ""
    upsert(call, row, NEW)
    assert NEW.item_id in neighbours(call, chosen)
    assert neighbours(call, chosen) != before


def test_a_deleted_item_can_come_back(trained_shop: TrainedShop, call: Call, chosen: str) -> None:
    delete(call, chosen)
    row = row_of(trained_shop, chosen)
    row.updated_at.FromDatetime(NOW - timedelta(seconds=1))
    assert upsert(call, row).accepted_count == 0, "its row is from before"
    assert tier(call, chosen) == v1.Tier.TIER_UNKNOWN_ITEM
    row.ClearField("updated_at")
    upsert(call, row)
    assert chosen in recommended(call)


def test_a_row_from_before_the_last_known_change_is_rejected(call: Call) -> None:
    def dated(hours: float, price: float) -> v1.Item:
        time = stamp(NOW - timedelta(hours=hours))
        return v1.Item(item_id="x", title="t", price=price, updated_at=time)

    assert upsert(call, dated(2, 2.0)).accepted_count == 1
    (rejected,) = upsert(call, dated(3, 3.0)).rejected_items
    assert rejected.reason.startswith("updated_at: not before")
    assert upsert(call, dated(2, 2.5)).accepted_count == 1, "the same moment may be sent again"
    assert upsert(call, dated(1, 1.0)).accepted_count == 1
    ranked = call.stub.Rank(v1.RankRequest(item_ids=["x"]), timeout=60.0).items
    assert ranked[0].price == 1.0


def test_what_is_not_dated_takes_effect_whatever_times_are_known(call: Call) -> None:
    ahead = stamp(NOW + timedelta(minutes=4))
    upsert(call, v1.Item(item_id="x", title="t", updated_at=ahead))
    delete(call, "x")
    assert tier(call, "x") == v1.Tier.TIER_UNKNOWN_ITEM
    upsert(call, v1.Item(item_id="x", title="t", price=3.0))
    assert tier(call, "x") == v1.Tier.TIER_RANKER


def later_bundle(shop: TrainedShop, item_id: str, updated_at: int) -> Recommender:
    """The shop's recommender as if its own row of an item had been changed at that time."""
    recommender = shop.recommender
    row = row_of(shop, item_id)
    record = ItemRecord(item_id, row.title, category=tuple(row.category), updated_at=updated_at)
    changed, _ = recommender.after([ItemChange(item_id, updated_at, record)])
    return changed


def test_a_bundle_with_a_later_row_absorbs_a_change_and_one_with_an_earlier_row_does_not(
    trained_shop: TrainedShop, store: SqliteStateStore, chosen: str
) -> None:
    at = microseconds(NOW)
    store.change_catalogue([ItemChange(chosen, at, None)])
    earlier = later_bundle(trained_shop, chosen, at - 1)
    with running(earlier, store) as (_, call):
        assert tier(call, chosen) == v1.Tier.TIER_UNKNOWN_ITEM
    with running(later_bundle(trained_shop, chosen, at + 1), store) as (server, call):
        assert tier(call, chosen) == v1.Tier.TIER_RANKER
        server.install(earlier)
        assert tier(call, chosen) == v1.Tier.TIER_UNKNOWN_ITEM, "lost by the way back"


def test_a_bundle_that_can_t_read_new_texts_defers_them_and_takes_all_else(
    trained_shop: TrainedShop, store: SqliteStateStore, chosen: str
) -> None:
    recommender = trained_shop.recommender
    contents = recommender._contents
    texts = replace(contents.texts, upkeep=None)
    old = Recommender(replace(contents, texts=texts), recommender.version, recommender.horizon)
    with running(old, store) as (_, call):
        row = row_of(trained_shop, chosen)
        row.price = 3.21
        response = upsert(call, row, NEW)
        assert response.accepted_count == 2
        assert NEW.item_id in response.deferred_item_ids
        assert tier(call, NEW.item_id) == v1.Tier.TIER_UNKNOWN_ITEM
        ranked = call.stub.Rank(v1.RankRequest(item_ids=[chosen]), timeout=60.0).items
        assert ranked[0].price == 3.21
        delete(call, chosen)
        assert tier(call, chosen) == v1.Tier.TIER_UNKNOWN_ITEM


def test_calls_that_begin_after_an_acknowledgement_never_see_what_was_deleted(
    trained_shop: TrainedShop, call: Call
) -> None:
    ids = trained_shop.tables.items.filter("available")["item_id"].to_list()[:12]
    deleted: set[str] = set()
    stop = Event()

    def ask() -> int:
        asked = 0
        while not stop.is_set():
            known = set(deleted)
            assert not known & recommended(call)
            asked += 1
        return asked

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        for item_id in ids:
            delete(call, item_id)
            deleted.add(item_id)
        stop.set()
        assert sum(one.result() for one in asking) > 0


def test_many_callers_at_once_lose_no_change(call: Call, store: SqliteStateStore) -> None:
    def send(number: int) -> int:
        items = [v1.Item(item_id=f"n{number}-{one}", title=NEW.title) for one in range(3)]
        return upsert(call, *items).accepted_count

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(send, range(6))) == 18
    ids = [f"n{number}-{one}" for number in range(6) for one in range(3)]
    ranked = call.stub.Rank(v1.RankRequest(item_ids=ids), timeout=60.0).items
    assert {item.tier for item in ranked} == {v1.Tier.TIER_RANKER}
    assert len(store.catalogue_changes()) == 18
