"""Pairs for the bi-encoder: what goes together, what was searched for, and nothing from later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import START_US, item_ids, log_of, random_events, random_log
from visits import ITEMS, VISITS, Row, events_of
from visits import log_of as log_of_visits

from recsys.config import BiEncoderConfig
from recsys.interactions import DAY_US, InteractionLog
from recsys.retrieval import ItemNeighbours
from training.item_pairs import (
    Pairs,
    TextPairs,
    near_and_taken_together,
    pairs_taken_together,
    searches_of,
    text_pairs,
)

QUERIES = ["Red  Lamp", "blue cup", "big <b>vase</b>", "", "item text 4"]


def baskets(*bought: Sequence[int], items: int = 12) -> InteractionLog:
    """Each shopper's purchases."""
    rows = [(user, item) for user, own in enumerate(bought) for item in own]
    events = pl.DataFrame(
        {
            "event_id": [str(place) for place in range(len(rows))],
            "user_id": [f"user-{user:03}" for user, _ in rows],
            "item_id": [item_ids(items)[item] for _, item in rows],
            "event_type": ["purchase"] * len(rows),
            "event_time": [datetime(2031, 1, 1, tzinfo=UTC)] * len(rows),
        }
    )
    return log_of(events, items)


def counted(pairs: Pairs) -> dict[tuple[int, int], int]:
    """How often each pair came, in either order."""
    ends = np.sort([pairs.anchor, pairs.positive], axis=0).T
    distinct, counts = np.unique(ends, axis=0, return_counts=True)
    return {(int(a), int(b)): int(n) for (a, b), n in zip(distinct, counts, strict=True)}


def drawn(log: InteractionLog, wanted: int = 2_000, seed: int = 0) -> Pairs:
    return pairs_taken_together(log, wanted, np.random.default_rng(seed))


def test_what_everybody_takes_comes_less_often_than_it_is_taken() -> None:
    """Everybody took item 0; 1 and 2 have the same shoppers, and 3 and 4 have the others."""
    found = counted(drawn(baskets(*[[0, 1, 2]] * 20, *[[0, 3, 4]] * 20, [1, 3], [2, 4])))
    assert set(found) == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (3, 4)}
    information = np.log(20 * 244 / (41 * 41)), np.log(20 * 244 / (80 * 41))
    assert found[1, 2] / found[0, 1] == pytest.approx(information[0] / information[1], rel=0.15)


def test_pairs_that_chance_explains_never_come() -> None:
    """Items 0 and 1 are everywhere; that some take both is no more than chance."""
    common = [[0, item] for item in range(2, 12)] * 8 + [[1, item] for item in range(2, 12)] * 8
    found = counted(drawn(baskets(*common, [0, 1], [0, 1])))
    assert (0, 1) not in found
    assert {item for pair in found for item in pair} == set(range(12))


def test_every_take_counts_alike_whoever_made_it() -> None:
    """Two shoppers of ten items each do not outweigh ten shoppers of two."""
    log = baskets(*[range(10)] * 2, *[[10, 11]] * 10)
    found = counted(drawn(log, 4_000))
    few = sum(count for (low, _), count in found.items() if low == 10)
    many = sum(found.values()) - few
    information = np.log(10 * 200 / 100), np.log(2 * 200 / 18**2)
    assert few / many == pytest.approx(information[0] / information[1], rel=0.15)


def test_what_one_shopper_alone_took_says_nothing() -> None:
    assert len(drawn(baskets([0, 1, 2], [3, 4], [5])).anchor) == 0
    assert len(drawn(baskets([0], [0], [1])).anchor) == 0


def item_texts(items: int) -> list[str]:
    """Every fifth item has the text of another."""
    return [f"item text {row - 1 if row % 5 == 4 else row}" for row in range(items)]


def searching_events(seed: int, items: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    events = random_events(rng, 25, items, 900)
    return events.with_columns(query=pl.Series(rng.choice(np.array(QUERIES), events.height)))


def texts_of(found: TextPairs) -> list[tuple[str, str]]:
    pairs = zip(found.pairs.anchor, found.pairs.positive, strict=True)
    return [(found.texts[anchor], found.texts[positive]) for anchor, positive in pairs]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 1_000), limit=st.integers(1, 80), cap=st.integers(1, 9))
def test_texts_of_a_pair_differ_none_comes_twice_and_none_too_often(
    seed: int, limit: int, cap: int
) -> None:
    items = 20
    events = searching_events(seed, items)
    config = BiEncoderConfig(max_pairs=limit, max_pairs_per_item=cap, query_share=0.5)
    log = log_of(events, items)
    rng = np.random.default_rng(seed)
    found = text_pairs(log, events.lazy(), item_texts(items), config, rng)
    texts = texts_of(found)
    assert len(texts) <= limit
    assert found.from_queries <= round(0.5 * limit)
    assert all(anchor != positive for anchor, positive in texts)
    assert len({frozenset(pair) for pair in texts}) == len(texts)
    kinds = found.pairs.anchor >= items
    for kind in (kinds, ~kinds):
        ends = [end for pair, own in zip(texts, kind, strict=True) if own for end in pair]
        assert max((ends.count(end) for end in set(ends)), default=0) <= cap
    assert (found.pairs.positive < items).all()


def test_pairs_come_from_the_slice_alone() -> None:
    items, cut = 20, START_US + 60 * DAY_US
    past = searching_events(1, items).filter(pl.col("event_time").dt.epoch("us") < cut)
    later = searching_events(2, items).filter(pl.col("event_time").dt.epoch("us") >= cut)
    config = BiEncoderConfig(max_pairs=200)

    def pairs(events: pl.DataFrame) -> TextPairs:
        known = events.lazy().filter(pl.col("event_time").dt.epoch("us") < cut)
        log = log_of(events, items).before(cut)
        return text_pairs(log, known, item_texts(items), config, np.random.default_rng(3))

    short = pairs(past)
    renamed = later.with_columns(
        pl.col("user_id").replace_strict(
            {f"user-{r:03}": f"user-{(r + 7) % 25:03}" for r in range(25)}
        ),
        event_id=pl.format("later-{}", "event_id"),
        query=pl.lit("never searched before"),
    )
    long = pairs(pl.concat([past, renamed]))
    assert len(short.pairs.anchor) > 60
    assert texts_of(long) == texts_of(short)
    assert long.texts == short.texts
    assert "never searched before" not in long.texts


def test_the_same_seed_draws_the_same_pairs() -> None:
    log = random_log(4, users=30, items=20, events=900)
    found = [counted(drawn(log, 500, seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]


def described(rows: Sequence[Row], columns: Sequence[str] = ()) -> list[tuple[str, str]]:
    found = searches_of(log_of_visits(rows), events_of(rows).drop(columns).lazy())
    return [(found.queries[q], ITEMS[i]) for q, i in zip(found.query, found.item, strict=True)]


def test_a_search_leads_to_what_its_session_took_up() -> None:
    assert sorted(described(VISITS)) == [
        ("blue lamp", "c"),
        ("cup", "g"),
        ("other shopper", "h"),
        ("red lamp", "b"),
    ]


def test_without_sessions_an_event_speaks_for_itself() -> None:
    assert sorted(described(VISITS, ["session_id"])) == [("blue lamp", "c"), ("red lamp", "b")]


def test_without_queries_there_are_no_searches() -> None:
    assert described(VISITS, ["query"]) == []


def test_one_session_keeps_its_searches_together() -> None:
    found = searches_of(log_of_visits(VISITS), events_of(VISITS).lazy())
    by_session: dict[int, set[str]] = {}
    for session, item in zip(found.session, found.item, strict=True):
        by_session.setdefault(int(session), set()).add(ITEMS[item])
    assert sorted(map(sorted, by_session.values())) == [["b", "c"], ["g"], ["h"]]


def table_of(lists: Sequence[Sequence[int]]) -> ItemNeighbours:
    lengths: NDArray[np.int64] = np.array([len(own) for own in lists])
    flat = np.array([item for own in lists for item in own], np.int32)
    return ItemNeighbours(
        np.concatenate([[0], np.cumsum(lengths)]), flat, np.ones(len(flat), np.float32)
    )


def test_near_items_of_the_same_shopper_are_no_negatives() -> None:
    log = baskets([0, 1], [2, 3], items=5)
    near = table_of([[1, 2, 4], [0], [3, 1], [2], []])
    found = near_and_taken_together(log, near, np.array([0, 2, 4]))
    assert list(zip(found.anchor.tolist(), found.positive.tolist(), strict=True)) == [
        (0, 1),
        (2, 3),
    ]
