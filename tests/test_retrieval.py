"""The suite that every candidate source must pass, and what each one promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import (
    DIMENSION,
    END_US,
    START_US,
    index_of,
    nearest_by_text,
    random_log,
    random_queries,
    random_tastes,
)

from recsys.interactions import (
    DAY_US,
    HOUR_US,
    EventKind,
    Histories,
    InteractionLog,
    ItemLists,
)
from recsys.retrieval import (
    CandidateSource,
    CoOccurrence,
    CoOccurrenceSource,
    NewArrivals,
    NextItems,
    OwnItems,
    Popular,
    RetrievalQueries,
    SimilarShoppers,
    Tastes,
    TextNeighbours,
    merge,
)
from recsys.retrieval.queries import Seeds, looked_at_or_recent, recent_items

ITEMS = 30


def text_source(log: InteractionLog) -> CandidateSource:
    index, vectors = index_of(len(log.item_ids), flat_limit=100)
    return TextNeighbours(index, nearest_by_text(index, vectors, 10), recent=5)


def new_arrivals(log: InteractionLog) -> CandidateSource:
    _, vectors = index_of(len(log.item_ids), flat_limit=100)
    listed = np.where(np.arange(ITEMS) % 3 == 0, START_US, START_US + 100 * DAY_US)
    return NewArrivals(vectors, listed.astype(np.int64), days=30, recent=5)


def taste(log: InteractionLog) -> CandidateSource:
    return Tastes.build(log, random_tastes(ITEMS), days=30)


SOURCES: dict[str, Callable[[InteractionLog], CandidateSource]] = {
    "text": text_source,
    "co_occurrence": lambda log: CoOccurrenceSource(CoOccurrence.build(log, 10), recent=5),
    "next_items": lambda log: NextItems(CoOccurrence.build(log, 10), recent=5),
    "similar_shoppers": SimilarShoppers.build,
    "taste": taste,
    "new_arrivals": new_arrivals,
    "popular": lambda log: Popular(log, days=30),
    "own_items": lambda _: OwnItems(),
}


@pytest.fixture(params=list(SOURCES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def log() -> InteractionLog:
    return random_log(12, impressions=80)


@pytest.fixture
def source(name: str, log: InteractionLog) -> CandidateSource:
    return SOURCES[name](log)


@pytest.fixture
def queries(log: InteractionLog) -> RetrievalQueries:
    return random_queries(log, 3, 24, DIMENSION)


class TestEverySource:
    def test_has_the_name_it_is_known_by(self, source: CandidateSource, name: str) -> None:
        assert source.name == name

    @pytest.mark.parametrize("k", [0, 1, 7, 1_000])
    def test_brings_at_most_k_valid_items_each_once(
        self, source: CandidateSource, queries: RetrievalQueries, k: int
    ) -> None:
        found = source.retrieve(queries, k)
        assert found.count == queries.count
        assert found.item.dtype == np.int32
        assert ((found.item >= 0) & (found.item < ITEMS)).all()
        for request in range(found.count):
            items = found.rows(request, request + 1).item
            assert len(items) == len(set(items.tolist())) <= k

    def test_a_shorter_list_is_the_beginning_of_a_longer_one(
        self, source: CandidateSource, queries: RetrievalQueries
    ) -> None:
        short, long = source.retrieve(queries, 3), source.retrieve(queries, 12)
        assert len(short.item) > 0
        for request in range(short.count):
            items = short.rows(request, request + 1).item
            np.testing.assert_array_equal(items, long.rows(request, request + 1).item[: len(items)])

    def test_answers_a_request_the_same_alone_and_twice(
        self, source: CandidateSource, queries: RetrievalQueries
    ) -> None:
        together = source.retrieve(queries, 8)
        for row in range(queries.count):
            alone = queries.rows(row, row + 1)
            expected = together.rows(row, row + 1).item
            np.testing.assert_array_equal(source.retrieve(alone, 8).item, expected)
        np.testing.assert_array_equal(source.retrieve(queries, 8).item, together.item)

    def test_takes_a_shopper_nothing_is_known_of(self, source: CandidateSource) -> None:
        nobody = RetrievalQueries(Histories.empty(2), ItemLists.empty(2), np.array([END_US] * 2))
        assert source.retrieve(nobody, 5).count == 2

    def test_takes_no_requests(self, source: CandidateSource) -> None:
        none = RetrievalQueries(Histories.empty(0), ItemLists.empty(0), np.zeros(0, np.int64))
        assert source.retrieve(none, 5).count == 0

    def test_sees_nothing_the_shopper_did_later(
        self, source: CandidateSource, queries: RetrievalQueries
    ) -> None:
        assert queries.shown is not None
        assert queries.searched is not None
        cut = replace(
            queries,
            histories=queries.histories.before(queries.as_of),
            shown=queries.shown.before(queries.as_of),
            searched=queries.searched.before(queries.as_of),
        )
        seen, expected = source.retrieve(queries, 9), source.retrieve(cut, 9)
        np.testing.assert_array_equal(seen.offsets, expected.offsets)
        np.testing.assert_array_equal(seen.item, expected.item)


def one_request(
    log: InteractionLog, as_of: int, context: list[int], vector: NDArray[np.float32] | None = None
) -> RetrievalQueries:
    return RetrievalQueries(
        log.histories(np.array([0])),
        ItemLists.of([context]),
        np.array([as_of]),
        None if vector is None else vector[None],
    )


def test_text_neighbours_prefer_the_query_then_the_context_then_the_history(
    log: InteractionLog,
) -> None:
    index, vectors = index_of(ITEMS, flat_limit=100)
    table = nearest_by_text(index, vectors, 10)
    source = TextNeighbours(index, table, recent=5)
    asked = source.retrieve(one_request(log, END_US, [2], vectors[9]), 4).item
    np.testing.assert_array_equal(asked, index.search(vectors[9:10], 4)[0][0])
    looking = source.retrieve(one_request(log, END_US, [2]), 4).item
    np.testing.assert_array_equal(looking, table.of(2)[0][:4])
    history = one_request(log, END_US, [])
    seeds = recent_items(history, 5, None)
    np.testing.assert_array_equal(
        source.retrieve(history, 4).item, table.retrieve(seeds, 4, "max").item
    )


def test_new_arrivals_are_young_untouched_and_near(queries: RetrievalQueries) -> None:
    _, vectors = index_of(ITEMS, flat_limit=100)
    listed = np.sort(np.random.default_rng(5).integers(START_US, END_US, ITEMS))
    found = NewArrivals(vectors, listed, days=20, recent=5).retrieve(queries, ITEMS)
    seeds = looked_at_or_recent(queries, 5).lists
    assert len(found.item) > 20
    for request in range(queries.count):
        items = found.item[found.offsets[request] : found.offsets[request + 1]]
        touched = set(queries.visible.rows(request, request + 1).item.tolist())
        young = np.flatnonzero(listed > queries.as_of[request] - 20 * DAY_US)
        if queries.query_vectors is not None and queries.has_query[request]:
            side = queries.query_vectors[[request]]
        else:
            side = vectors[seeds.item[seeds.offsets[request] : seeds.offsets[request + 1]]]
        expected = set(young.tolist()) - touched if len(side) else set()
        assert set(items.tolist()) == expected
        closeness = (vectors[items] @ side.T).max(axis=1) if len(items) else np.zeros(0)
        assert (np.diff(closeness) <= 1e-6).all()


def test_own_items_start_with_the_latest_purchase_and_end_with_mere_interest() -> None:
    item = np.array([3, 1, 3, 2, 4, 1, 5], np.int32)
    kinds = ["PURCHASE", "PURCHASE", "PURCHASE", "VIEW", "CLICK", "VIEW", "HIDE"]
    histories = Histories(
        offsets=np.array([0, 7]),
        item=item,
        time=np.arange(7),
        kind=np.array([EventKind[k] for k in kinds], np.uint8),
        price=np.ones(7, np.float32),
        quantity=np.ones(7, np.int32),
        basket=np.arange(7, dtype=np.int32),
    )
    queries = RetrievalQueries(histories, ItemLists.empty(1), np.array([100]))
    assert OwnItems().retrieve(queries, 9).item.tolist() == [3, 1, 4, 2]


def test_popular_counts_the_window_up_to_the_last_full_hour(log: InteractionLog) -> None:
    as_of = END_US - 10 * DAY_US + HOUR_US // 2
    hour = as_of - HOUR_US // 2
    found = Popular(log, days=20).retrieve(one_request(log, as_of, []), ITEMS).item
    bought = (log.kind == EventKind.PURCHASE) & (log.time < hour)
    lately = np.bincount(log.item[bought & (log.time >= hour - 20 * DAY_US)], minlength=ITEMS)
    ever = np.bincount(log.item[bought], minlength=ITEMS)
    expected = sorted(range(ITEMS), key=lambda row: (-lately[row], -ever[row], row))
    assert found.tolist() == [row for row in expected if ever[row]]


def test_popular_does_not_see_what_comes_later(log: InteractionLog) -> None:
    as_of = END_US - 30 * DAY_US
    query = one_request(log, as_of, [])
    seen = Popular(log, 30).retrieve(query, ITEMS).item
    np.testing.assert_array_equal(seen, Popular(log.before(as_of), 30).retrieve(query, ITEMS).item)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), unique=True), st.lists(st.integers(0, 9), unique=True)
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=40, deadline=None)
def test_merging_keeps_every_item_once_with_its_rank_in_each_source(
    requests: list[tuple[list[int], list[int]]],
) -> None:
    first, second = (ItemLists.of(lists) for lists in zip(*requests, strict=True))
    merged = merge({"first": first, "second": second})
    assert merged.source_names == ("first", "second")
    for row, lists in enumerate(requests):
        part = merged.rows(row, row + 1)
        assert part.item.tolist() == sorted(set(lists[0]) | set(lists[1]))
        for item, ranks in zip(part.item.tolist(), part.source_ranks.tolist(), strict=True):
            assert ranks == [found.index(item) if item in found else -1 for found in lists]


def test_recent_items_are_distinct_newest_first_and_fade() -> None:
    log = random_log(13, users=1)
    queries = one_request(log, END_US, [])
    seeds: Seeds = recent_items(queries, 5, half_life_days=10)
    wanted = log.kind != EventKind.HIDE
    newest = list(dict.fromkeys(log.item[wanted][::-1].tolist()))[:5]
    assert seeds.lists.item.tolist() == newest
    last = np.array([log.time[wanted][log.item[wanted] == item].max() for item in newest])
    np.testing.assert_allclose(seeds.weight, 0.5 ** ((END_US - last) / DAY_US / 10))
