"""A small shop with random events, for tests of kernels that need a log."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from recsys.interactions import DAY_US, EventKind, InteractionLog, ItemLists
from recsys.retrieval import (
    DeepNeighbours,
    ItemNeighbours,
    RetrievalQueries,
    Taste,
    TastePrior,
    TextSpace,
    VectorIndex,
    VectorNearness,
)

START_US = int(datetime(2031, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
DAYS = 120
END_US = START_US + DAYS * DAY_US
DIMENSION = 8
QUERIES = ("blue", "red mug", "tray")
KINDS = [kind.name.lower() for kind in EventKind]


def item_ids(items: int) -> list[str]:
    """Ids that sort in the order of their rows."""
    return [f"item-{row:04}" for row in range(items)]


def random_events(rng: np.random.Generator, users: int, items: int, events: int) -> pl.DataFrame:
    """Rows of the `events` contract over 120 days; some items are far more popular than others."""
    seconds = rng.integers(0, DAYS * 86_400, events)
    item = (items * rng.random(events) ** 2).astype(int)
    return pl.DataFrame(
        {
            "event_id": [f"event-{row}" for row in range(events)],
            "user_id": [f"user-{row:03}" for row in rng.integers(0, users, events)],
            "item_id": [item_ids(items)[row] for row in item],
            "event_type": rng.choice(KINDS, events, p=[0.05, 0.25, 0.2, 0.05, 0.05, 0.1, 0.3]),
            "event_time": [datetime.fromtimestamp(START_US // 10**6 + s, UTC) for s in seconds],
            "session_id": [f"day-{s // 86_400}" for s in seconds],
            "price": np.round(rng.uniform(1, 20, events), 2),
            "quantity": rng.integers(1, 5, events).astype(np.int32),
        }
    )


def random_impressions(
    rng: np.random.Generator, users: int, items: int, impressions: int
) -> pl.DataFrame:
    """Impressions, some without a position, and the clicks of a minute later on a third of them.

    Two shoppers beside those of `random_events` never click.
    """
    shown = random_events(rng, users + 2, items, impressions).drop("price", "quantity")
    shown = shown.with_columns(
        event_id=pl.format("shown-{}", "event_id"),
        event_type=pl.lit("impression"),
        position=pl.Series(rng.integers(-2, 10, impressions), dtype=pl.Int32),
        query=pl.Series(rng.choice([*QUERIES, ""], impressions), dtype=pl.String),
    ).with_columns(position=pl.when(pl.col("position") >= 0).then("position"))
    clicking = pl.col("user_id") < f"user-{users:03}"
    clicked = (
        shown.gather_every(3)
        .filter(clicking)
        .with_columns(
            event_id=pl.format("clicked-{}", "event_id"),
            event_type=pl.lit("click"),
            event_time=pl.col("event_time") + pl.duration(seconds=pl.int_range(pl.len()) % 60),
        )
    )
    return pl.concat([shown, clicked])


def log_of(events: pl.DataFrame, items: int) -> InteractionLog:
    """The log of the events over a catalogue of `items` items."""
    return InteractionLog.build(pl.Series("item_id", item_ids(items)), events.lazy())


def random_log(
    seed: int, users: int = 15, items: int = 30, events: int = 600, impressions: int = 0
) -> InteractionLog:
    """The log of `random_events` and `random_impressions`."""
    rng = np.random.default_rng(seed)
    tables = [random_events(rng, users, items, events)]
    if impressions:
        tables.append(random_impressions(rng, users, items, impressions))
    return log_of(pl.concat(tables, how="diagonal"), items)


def random_queries(
    log: InteractionLog, seed: int, count: int, dimension: int | None = None
) -> RetrievalQueries:
    """Requests at random times; each third has a context, every second a query vector."""
    rng = np.random.default_rng(seed)
    users = rng.integers(-1, len(log.user_ids), count)
    items = len(log.item_ids)
    context = [rng.permutation(items)[: 3 * (row % 3 == 0)].tolist() for row in range(count)]
    vectors = None
    if dimension is not None:
        vectors = unit_rows(rng, count, dimension)
        vectors[::2] = np.nan
    return RetrievalQueries(
        histories=log.histories(users),
        context=ItemLists.of(context),
        as_of=rng.integers(START_US, END_US, count),
        query_vectors=vectors,
        shown=log.shown_to(users),
        searched=log.searches.by(users),
    )


def random_tastes(items: int) -> dict[str, Taste]:
    """Tastes in two spaces of random points; the queries are those of `random_impressions`."""
    rng = np.random.default_rng(2)
    tastes = {}
    for name, dimensions in (("meaning", 6), ("words", 4)):
        points = rng.standard_normal((items + len(QUERIES), dimensions)).astype(np.float16)
        space = TextSpace(points[:items], points[items:])
        tastes[name] = Taste(space, TastePrior.start(dimensions, click_rate=0.3))
    return tastes


def unit_rows(rng: np.random.Generator, rows: int, dimension: int) -> NDArray[np.float32]:
    """float32 (rows, dimension), unit length."""
    vectors = rng.standard_normal((rows, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def index_of(items: int, flat_limit: int) -> tuple[VectorIndex, NDArray[np.float32]]:
    """An index over random unit vectors, and the vectors."""
    vectors = unit_rows(np.random.default_rng(1), items, DIMENSION)
    return VectorIndex.build(item_ids(items), vectors, flat_limit), vectors


def nearest_by_text(index: VectorIndex, vectors: NDArray[np.float32], limit: int) -> ItemNeighbours:
    """The table of each item's nearest items by their vectors."""
    return DeepNeighbours.build(VectorNearness(vectors, index), len(vectors), limit).table


def dense(table: ItemNeighbours) -> NDArray[np.float64]:
    """The weights as (items, items), 0 where there is no entry."""
    matrix = sparse.csr_matrix(
        (table.weights, table.indices, table.indptr), shape=(table.items,) * 2
    )
    return np.asarray(matrix.todense(), np.float64)
