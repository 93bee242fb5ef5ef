"""What is recorded of a shopper changes the next answer, and nobody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from shelf_ranker import HORIZON, ShelfRanker
from shelf_server import NOW, Call, running
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.errors import StateError
from recsys.recommender import RankRequest, RecommendRequest
from recsys.state import ShopperKey, SqliteStateStore
from serving.recent_events import RECENT_EVENTS_MISSING, RecentEvents

AS_OF = Timestamp()
AS_OF.FromDatetime(UNTIL + timedelta(hours=2))


@pytest.fixture(scope="module")
def call(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    path = tmp_path_factory.mktemp("state") / "state.sqlite"
    with (
        closing(SqliteStateStore(path)) as store,
        running(trained_shop.recommender, store) as (_, call),
    ):
        yield call


def act(item_id: str, at: datetime, **fields: str) -> v1.Event:
    time = Timestamp()
    time.FromDatetime(at)
    kinds = {"event_type": "view", "event_id": f"{item_id} {fields}", **fields}
    return v1.Event(item_id=item_id, event_time=time, **kinds)  # type: ignore[arg-type]


def record(call: Call, *events: v1.Event) -> None:
    answer = call.events.RecordEvents(v1.RecordEventsRequest(events=events), timeout=10.0)
    assert answer.recorded_count == len(events)


def page(call: Call, **fields: str) -> list[tuple[str, float]]:
    answer = call.recommend(timeout=30.0, as_of=AS_OF, page_size=20, **fields)
    return [(item.item_id, item.score) for item in answer.items]


def test_a_view_changes_the_shopper_s_next_answer_and_no_other(
    call: Call, trained_shop: TrainedShop
) -> None:
    one, other = trained_shop.shoppers[:2]
    before = page(call, user_id=one), page(call, user_id=other)
    ids = trained_shop.tables.items["item_id"][:3]
    record(call, *(act(item_id, UNTIL + timedelta(hours=1), user_id=one) for item_id in ids))
    assert page(call, user_id=one) != before[0]
    assert page(call, user_id=other) == before[1]


def test_a_session_without_a_user_has_a_history_too(call: Call, trained_shop: TrainedShop) -> None:
    before = page(call, session_id="visit")
    ids = trained_shop.tables.items["item_id"][:3]
    record(call, *(act(one, UNTIL + timedelta(hours=1), session_id="visit") for one in ids))
    assert page(call, session_id="visit") != before
    assert page(call, session_id="another visit") == before


def test_what_was_just_bought_is_not_shown_where_that_is_asked(
    call: Call, trained_shop: TrainedShop
) -> None:
    user = trained_shop.shoppers[3]
    wanted = {"user_id": user, "as_of": AS_OF, "filter": v1.ItemFilter(exclude_purchased=True)}
    first = call.recommend(timeout=30.0, **wanted).items[0].item_id
    record(call, act(first, UNTIL + timedelta(hours=1), user_id=user, event_type="purchase"))
    left = call.recommend(timeout=30.0, page_size=200, **wanted).items
    assert left
    assert first not in {item.item_id for item in left}


def test_an_act_after_the_request_s_time_is_not_looked_at(
    call: Call, trained_shop: TrainedShop
) -> None:
    user = trained_shop.shoppers[4]
    before = page(call, user_id=user)
    ids = trained_shop.tables.items["item_id"][:3]
    record(call, *(act(item_id, UNTIL + timedelta(hours=2), user_id=user) for item_id in ids))
    assert page(call, user_id=user) == before


def test_only_acts_between_horizon_and_request_reach_the_ranker(tmp_path: Path) -> None:
    ranker = ShelfRanker()
    times = [HORIZON - timedelta(microseconds=1), HORIZON, NOW - timedelta(microseconds=1), NOW]
    with (
        closing(SqliteStateStore(tmp_path / "state.sqlite")) as store,
        running(ranker, store) as (_, call),
    ):
        record(
            call,
            *(act("mug", time, user_id="u", event_id=str(i)) for i, time in enumerate(times)),
        )
        call.recommend(user_id="u")
        call.send(v1.RankRequest(user_id="u", item_ids=["mug"]))
    for asked in ranker.asked:
        assert isinstance(asked, RecommendRequest | RankRequest)
        assert [event.time for event in asked.recent] == times[1:3]


class BrokenStore(SqliteStateStore):
    """A store whose disk fails when shoppers are looked up."""

    def shopper_events(self, shopper: ShopperKey, limit: int) -> tuple[()]:
        raise StateError(f"reading failed for {shopper.user_id} and {limit}")


def test_a_store_that_fails_costs_no_answer_and_says_so(tmp_path: Path) -> None:
    with (
        closing(BrokenStore(tmp_path / "state.sqlite")) as store,
        running(ShelfRanker(), store) as (_, call),
    ):
        answer = call.recommend(user_id="u")
        assert answer.items
        assert RECENT_EVENTS_MISSING in answer.degraded


def test_without_a_store_or_a_shopper_a_request_stays_as_it_is(tmp_path: Path) -> None:
    asked = RecommendRequest("u", as_of=NOW)
    assert RecentEvents(None, 9).added(asked, ShelfRanker()) == (asked, ())
    with closing(BrokenStore(tmp_path / "state.sqlite")) as store:
        nobody = replace(asked, user_id="")
        assert RecentEvents(store, 9).added(nobody, ShelfRanker()) == (nobody, ())
