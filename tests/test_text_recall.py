"""Recall of the text neighbours in a slice: who is asked, what counts, and what is served."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from random_shop import item_ids, log_of

from recsys.config import Configuration, RetrievalConfig
from recsys.interactions import DAY_US
from training.embed_catalogue import EncodedCatalogue
from training.text_recall import RecallTask, recall_tasks
from training.time_split import Slice

ITEMS = 12
START = datetime(2031, 1, 1, tzinfo=UTC)
CUT_US = int(START.timestamp()) * 1_000_000 + 10 * DAY_US
PART = Slice(CUT_US, CUT_US + 10 * DAY_US)
RETRIEVAL = RetrievalConfig(text_neighbours=4, neighbours_per_item=6, recent_items=2)
Row = tuple[str, float, str, int, str | None]
"""User, day, event type, item, query."""

ROWS: list[Row] = [
    ("ann", 1, "purchase", 0, None),
    ("ann", 2, "purchase", 1, None),
    ("ann", 11, "purchase", 2, None),
    ("ann", 12, "purchase", 0, None),  # again: not new to her
    ("bob", 3, "click", 5, None),
    ("bob", 19, "purchase", 6, "a lamp"),
    ("bob", 20, "purchase", 7, "a lamp"),  # after the slice
    ("cat", 15, "purchase", 8, "A  Lamp"),  # without a history
    ("cat", 15.1, "click", 9, "mug"),
    ("dan", 4, "purchase", 3, None),
    ("dan", 16, "purchase", 3, None),
    ("eve", 5, "click", 4, "mug"),
    ("eve", 17, "click", 6, None),  # a click, where others buy
]


def table(rows: Sequence[Row]) -> pl.DataFrame:
    columns = ["user_id", "day", "event_type", "item", "query"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_row_index("event_id")
    return frame.select(
        pl.col("event_id").cast(pl.String),
        "user_id",
        "event_type",
        "query",
        item_id=pl.Series([item_ids(ITEMS)[item] for item in frame["item"]]),
        event_time=pl.lit(START) + pl.col("day") * timedelta(days=1),
        session_id=pl.format("{}-{}", "user_id", pl.col("day").cast(pl.Int32)),
    )


def tasks_of(rows: Sequence[Row] = ROWS, limit: int = 100) -> dict[str, RecallTask]:
    events = table(rows)
    rng = np.random.default_rng(1)
    return recall_tasks(log_of(events, ITEMS), events.lazy(), PART, limit, rng)


def sets(task: RecallTask) -> list[set[int]]:
    offsets = task.truth.offsets
    return [set(task.truth.item[a:b].tolist()) for a, b in pairwise(offsets)]


def test_shoppers_with_a_history_should_be_shown_what_they_take_and_had_not() -> None:
    task = tasks_of()["history"]
    assert sets(task) == [{2}, {6}]
    visible = task.requests.visible
    assert visible.item.tolist() == [0, 1, 5]
    assert task.searches == ()


def test_a_search_should_find_what_its_session_took_up() -> None:
    task = tasks_of()["search"]
    assert sorted(zip(task.searches, map(tuple, sets(task)), strict=True)) == [
        ("a lamp", (6,)),
        ("a lamp", (8,)),
        ("mug", (9,)),
    ]
    assert len(task.requests.visible.item) == 0


def test_what_comes_after_the_slice_changes_nothing() -> None:
    later: list[Row] = [("ann", 20.5, "purchase", 10, "mug"), ("new", 30, "purchase", 1, "lamp")]
    for name, task in tasks_of([*ROWS, *later]).items():
        assert sets(task) == sets(tasks_of()[name])
        assert task.searches == tasks_of()[name].searches


def test_tasks_that_nobody_asks_are_left_out() -> None:
    assert set(tasks_of(ROWS[:4])) == {"history"}
    assert set(tasks_of(ROWS[7:9])) == {"search"}
    assert tasks_of([ROWS[0], ROWS[3]]) == {}


def test_there_are_no_more_requests_than_wanted() -> None:
    assert {name: task.truth.count for name, task in tasks_of(limit=1).items()} == {
        "history": 1,
        "search": 1,
    }


def on_a_circle(angles: Sequence[float]) -> NDArray[np.float32]:
    """Unit vectors; the nearer the angles (degrees), the nearer the items."""
    radians = np.radians(angles)
    return np.column_stack([np.cos(radians), np.sin(radians)]).astype(np.float32)


ANGLES = [0, 90, 88, 180, 182, 270, 268, 4, 300, 310, 320, 200]
"""Nearest to item 0 are 7, to item 1 item 2, to item 5 item 6; item 0 is also ann's."""


def test_the_list_is_what_the_text_source_serves_without_what_the_shopper_had() -> None:
    catalogue = EncodedCatalogue.of(
        on_a_circle(ANGLES), item_ids(ITEMS), Configuration(retrieval=RETRIEVAL)
    )
    tasks = tasks_of()

    def embed(queries: Sequence[str]) -> NDArray[np.float32]:
        return on_a_circle([300 if query == "a lamp" else 180 for query in queries])

    found = {name: task.recalls(catalogue, embed, RETRIEVAL) for name, task in tasks.items()}
    assert found["history"]["recall@10"].tolist() == [1.0, 1.0]
    by_query = dict(zip(tasks["search"].searches, found["search"]["recall@100"], strict=True))
    assert by_query["mug"] == 0.0
    lamps = [
        r
        for q, r in zip(tasks["search"].searches, found["search"]["recall@10"], strict=True)
        if q == "a lamp"
    ]
    assert sorted(lamps) == [0.0, 1.0]  # 8, 9, 10 and 5 are nearest; 6 is not


def test_owned_items_take_no_place_among_the_first() -> None:
    owned: list[Row] = [("ann", 1 + row / 50, "purchase", row, None) for row in range(11)]
    rows: list[Row] = [*owned, ("ann", 11, "purchase", 11, None)]
    (task,) = tasks_of(rows).values()
    config = RETRIEVAL.model_copy(update={"text_neighbours": 12, "neighbours_per_item": 12})
    near = on_a_circle([*np.linspace(0, 20, 11), 24])
    catalogue = EncodedCatalogue.of(near, item_ids(ITEMS), Configuration(retrieval=config))
    assert task.recalls(catalogue, on_a_circle, config)["recall@10"].tolist() == [1.0]  # type: ignore[arg-type]


@pytest.mark.parametrize("text_neighbours", [0, 1])
def test_a_short_list_counts_as_it_is(text_neighbours: int) -> None:
    config = RETRIEVAL.model_copy(update={"text_neighbours": text_neighbours})
    catalogue = EncodedCatalogue.of(
        on_a_circle(ANGLES), item_ids(ITEMS), Configuration(retrieval=config)
    )
    found = tasks_of()["history"].recalls(catalogue, on_a_circle, config)  # type: ignore[arg-type]
    assert found["recall@100"].tolist() == [float(text_neighbours), float(text_neighbours)]
