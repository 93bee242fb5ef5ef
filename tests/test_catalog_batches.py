"""Batches of changes of the catalogue: bad items are named, the others are taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from catalogue_calls import NEW, delete, stamp, upsert
from google.protobuf.timestamp_pb2 import Timestamp
from shelf_server import NOW, Call, refusal, running
from trained_shop import TrainedShop

from recsys import v1
from recsys.state import SqliteStateStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStateStore]:
    with closing(SqliteStateStore(tmp_path / "state.sqlite")) as opened:
        yield opened


@pytest.fixture
def call(trained_shop: TrainedShop, store: SqliteStateStore) -> Iterator[Call]:
    with running(trained_shop.recommender, store) as (_, connection):
        yield connection


BROKEN: dict[str, tuple[v1.Item, str]] = {
    "no id": (v1.Item(title="t"), "item_id: not blank"),
    "no title": (v1.Item(item_id="x"), "title: not blank"),
    "blank title": (v1.Item(item_id="x", title=" \t\n"), "title: not blank"),
    "NaN price": (v1.Item(item_id="x", title="t", price=math.nan), "price: finite, >= 0"),
    "negative price": (v1.Item(item_id="x", title="t", price=-1.0), "price: finite, >= 0"),
    "infinite price": (v1.Item(item_id="x", title="t", price=math.inf), "price: finite, >= 0"),
    "long id": (v1.Item(item_id="x" * 257, title="t"), "item_id: at most 256"),
    "long title": (v1.Item(item_id="x", title="t" * 10_001), "title: at most 10000"),
    "long description": (
        v1.Item(item_id="x", title="t", description="d" * 100_001),
        "description: at most 100000",
    ),
    "long tag": (v1.Item(item_id="x", title="t", tags=["t" * 257]), "tags: at most 256"),
    "many tags": (v1.Item(item_id="x", title="t", tags=["t"] * 101), "tags: at most 100 entries"),
    "future": (
        v1.Item(item_id="x", title="t", updated_at=stamp(NOW + timedelta(seconds=301))),
        "updated_at: at most 5 minutes ahead",
    ),
    "year": (
        v1.Item(item_id="x", title="t", created_at=Timestamp(seconds=2**60)),
        "created_at: between the years",
    ),
}


def test_bad_items_are_rejected_with_their_reasons_and_keep_no_other_out(
    call: Call, store: SqliteStateStore
) -> None:
    response = upsert(call, *(item for item, _ in BROKEN.values()), NEW)
    assert response.accepted_count == 1
    reasons = {one.index: one.reason for one in response.rejected_items}
    for index, (name, (_, reason)) in enumerate(BROKEN.items()):
        assert reason in reasons.get(index, ""), name
    assert [change.item_id for change in store.catalogue_changes()] == [NEW.item_id]


def test_of_equal_ids_in_a_batch_the_first_counts(call: Call, store: SqliteStateStore) -> None:
    other = v1.Item(item_id=NEW.item_id, title="another")
    (rejected,) = upsert(call, NEW, other).rejected_items
    assert (rejected.index, rejected.reason) == (1, "item_id: unique")
    (kept,) = store.catalogue_changes()
    assert kept.item is not None
    assert kept.item.title == NEW.title


def test_texts_that_hurt_are_taken_and_served(call: Call) -> None:
    titles = [
        "\0 nul \0",
        "\u202eright to left\u202c \u05d0\u05d1\u05d2",
        "👩‍👩‍👧 \U0001f600",
        "e" + "\u0301" * 9_000,
        "\u200b\u200d",
        "t" * 10_000,
        "<script>alert(1)</script>",
        "%s %n {0} \\ \" '",
    ]
    items = [
        v1.Item(item_id=f"hurt-{number}", title=title, description="d" * 100_000 * (number == 0))
        for number, title in enumerate(titles)
    ]
    response = upsert(call, *items)
    assert (response.accepted_count, list(response.deferred_item_ids)) == (len(titles), [])
    shown = {item.item_id: item for item in call.recommend(page_size=200, timeout=60.0).items}
    for item in items:
        ranked = call.stub.Rank(v1.RankRequest(item_ids=[item.item_id]), timeout=60.0).items
        assert ranked[0].tier == v1.Tier.TIER_RANKER
        assert math.isfinite(ranked[0].score)
        assert ranked[0].title == item.title[:1_000]
        near = v1.SimilarItemsRequest(item_id=item.item_id)
        assert len(call.stub.SimilarItems(near, timeout=60.0).items) > 0
    assert len({shown[item.item_id].title for item in items if item.item_id in shown}) > 1


def test_a_10_mb_description_is_refused_before_it_is_read(call: Call) -> None:
    huge = v1.Item(item_id="x", title="t", description="d" * (10 << 20))
    code, _, _ = refusal(lambda: upsert(call, huge))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert upsert(call, NEW).accepted_count == 1


@pytest.mark.parametrize("ids", [[], [str(n) for n in range(1_001)], ["a", ""], ["i" * 257]])
def test_a_bad_list_of_ids_is_refused(call: Call, ids: list[str]) -> None:
    code, _, blamed = refusal(lambda: delete(call, *ids))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert blamed[0].startswith("item_ids")


@pytest.mark.parametrize("count", [0, 1_001])
def test_an_empty_or_too_long_batch_of_items_is_refused(call: Call, count: int) -> None:
    code, _, blamed = refusal(lambda: upsert(call, *([NEW] * count)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert blamed == ["items"]
