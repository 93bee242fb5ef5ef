"""Ranking against the clock: what is read in the time there is, and in which order it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from trained_shop import UNTIL, TrainedShop

from recsys.errors import DeadlineError
from recsys.interactions import Candidates
from recsys.ranker import TieredRanker
from recsys.recommender import (
    Deadline,
    RankedList,
    RankRequest,
    Recommender,
    RecommendRequest,
    Tier,
)
from recsys.recommender.cascade import (
    CHUNK,
    NOT_READ,
    OVERHEADS,
    PARTLY_RANKED,
    PARTLY_READ,
    Ranking,
)

SECONDS = {"features": 0.000_01, "read": 0.001, "rank": 0.000_1, "rank quickly": 0.000_03}
"""What a step takes of one candidate, and of each unit of its overhead."""

PER_SHOPPER = 0.005
PER_RETRIEVAL = 0.004
PER_ANSWER = 0.001
EVERYTHING = 200


@dataclass
class SlowRecommender:
    """A recommender whose steps take exactly known times on a clock of its own.

    Attributes:
        recommender: what answers.
        now: the clock.
        read: candidates that the cross-encoder read, call by call.
    """

    recommender: Recommender
    now: float = 0.0
    read: list[int] = field(default_factory=list)

    def slow_down(self, monkeypatch: pytest.MonkeyPatch) -> None:
        owner, cascade = self.recommender, self.recommender._cascade
        point = cascade._point
        taking(monkeypatch, self, owner._finder, "_retrieved", lambda *_: PER_RETRIEVAL)
        taking(monkeypatch, self, owner, "_answers", lambda *_: PER_ANSWER)
        taking(
            monkeypatch, self, point, "unread", lambda *asked: taken("features", len(asked[2].item))
        )
        taking(monkeypatch, self, point, "read_shopper", lambda _: PER_SHOPPER)
        taking(monkeypatch, self, point, "read", self._reading)
        taking(monkeypatch, self, cascade._quick, "rank", ranking("rank quickly"))
        for ranker in (cascade._first, cascade._final):
            taking(monkeypatch, self, ranker, "rank", ranking("rank"))

    def _reading(self, scored: Any, which: Any, *_: Any) -> float:
        point = self.recommender._cascade._point
        new = int(point.not_remembered(scored, which).sum())
        assert not new or point.has_read_shopper(scored)
        self.read.append(new)
        return taken("read", new)

    def answer(self, request: RecommendRequest, seconds: float) -> RankedList:
        return self.recommender.recommend(request, Deadline.after(seconds, lambda: self.now))


def taken(step: str, units: int) -> float:
    return (units + OVERHEADS[step]) * SECONDS[step] if units else 0.0


def of_features(candidates: Candidates) -> float:
    return taken("features", len(candidates.item))


def ranking(step: str) -> Callable[..., float]:
    return lambda values, *_: taken(step, len(values))


def reading(units: int) -> float:
    """Reading so many candidates and ranking them."""
    return taken("read", units) + taken("rank", units)


def taking(
    monkeypatch: pytest.MonkeyPatch, slow: SlowRecommender, owner: Any, name: str, seconds: Any
) -> None:
    """Let a method take time on the slow recommender's clock."""
    method = getattr(owner, name)

    def slowed(*arguments: Any) -> Any:
        slow.now += seconds(*arguments)
        return method(*arguments)

    monkeypatch.setattr(owner, name, slowed)


@pytest.fixture
def slow(trained_shop: TrainedShop, monkeypatch: pytest.MonkeyPatch) -> SlowRecommender:
    """One that has learnt in its warm-up how long its steps take."""
    contents = trained_shop.recommender._contents
    nearest = replace_candidates(contents.configuration, 60)
    contents = replace(contents, configuration=nearest)
    monkeypatch.setattr("recsys.recommender.cascade.QUICK_ROUNDS", 3)
    slow = SlowRecommender(Recommender(contents, "v000001", UNTIL))
    slow.slow_down(monkeypatch)
    slow.recommender.warm_up(lambda: slow.now)
    slow.read.clear()
    return slow


def replace_candidates(configuration: Any, nearest: int) -> Any:
    cross_encoder = configuration.cross_encoder.model_copy(update={"candidates": nearest})
    return configuration.model_copy(update={"cross_encoder": cross_encoder})


@pytest.fixture
def request_(trained_shop: TrainedShop) -> RecommendRequest:
    user = trained_shop.shoppers[0]
    return RecommendRequest(user, page_size=EVERYTHING, as_of=UNTIL, explain=True)


@pytest.fixture
def first_ranking(slow: SlowRecommender, request_: RecommendRequest) -> float:
    """Seconds until the first ranker is done with all candidates of the request."""
    rows = len(slow.recommender.candidates_many([request_]).item)
    assert rows > 60
    return least(rows)


@pytest.fixture
def ranked_by(
    slow: SlowRecommender, request_: RecommendRequest
) -> Callable[[TieredRanker], list[tuple[str, float]]]:
    """Items and scores of the request by one ranker, with nothing read."""

    def order(ranker: TieredRanker) -> list[tuple[str, float]]:
        recommender = slow.recommender
        asked, compose = recommender._finder.to_rank([request_])
        scored = recommender._cascade._point.unread(*asked)
        ranking = Ranking.without_cross_encoder(ranker, scored)
        items = recommender._answers([request_], ranking, compose)[0].items
        return [(item.item_id, item.score) for item in items]

    return order


def least(rows: int) -> float:
    """Seconds until so many candidates are ranked quickly, and for the answer."""
    return taken("features", rows) + taken("rank quickly", rows) + PER_RETRIEVAL + PER_ANSWER


def test_with_time_enough_the_answer_is_the_one_without_a_deadline(
    slow: SlowRecommender, request_: RecommendRequest
) -> None:
    found = slow.answer(request_, 1.0)
    assert slow.read == [60]
    slow.recommender._contents.texts.scorer.forget()
    assert found == slow.recommender.recommend(request_)
    assert found.degraded == ()


def test_in_less_time_the_most_promising_are_read_and_come_first(
    slow: SlowRecommender,
    request_: RecommendRequest,
    first_ranking: float,
    ranked_by: Callable[[TieredRanker], list[tuple[str, float]]],
) -> None:
    found = slow.answer(request_, first_ranking + 1.5 * (PER_SHOPPER + reading(CHUNK)))
    assert slow.read == [CHUNK]
    assert found.degraded == (PARTLY_READ,)
    read = [item.cross_encoder_score is not None for item in found.items]
    assert read == [True] * CHUNK + [False] * (len(read) - CHUNK)
    tiers = [item.tier for item in found.items]
    assert tiers[:CHUNK] == [Tier.RANKER] * CHUNK
    assert set(tiers[CHUNK:]) == {Tier.RANKER_WITHOUT_CROSS_ENCODER}
    assert all(one.score >= other.score for one, other in pairwise(found.items))
    for item in found.items:
        assert sum(part.value for part in item.explanation) == pytest.approx(item.score)
    order = [item_id for item_id, _ in ranked_by(slow.recommender._cascade._quick)]
    unread = [item.item_id for item in found.items[CHUNK:]]
    assert unread == [item_id for item_id in order if item_id in set(unread)]


@pytest.mark.parametrize("has_time", [False, True])
def test_without_time_to_read_a_ranker_without_the_cross_encoder_alone_decides(
    slow: SlowRecommender,
    request_: RecommendRequest,
    first_ranking: float,
    ranked_by: Callable[[TieredRanker], list[tuple[str, float]]],
    has_time: bool,
) -> None:
    cascade = slow.recommender._cascade
    rows = len(slow.recommender.candidates_many([request_]).item)
    seconds = (1.4 if has_time else 0.01) * taken("rank", rows)
    assert seconds < PER_SHOPPER + reading(CHUNK)
    found = slow.answer(request_, first_ranking + seconds)
    assert slow.read == []
    assert found.degraded == (NOT_READ,)
    assert {item.tier for item in found.items} == {Tier.RANKER_WITHOUT_CROSS_ENCODER}
    expected, other = (cascade._first, cascade._quick)[:: 1 if has_time else -1]
    items = [(item.item_id, item.score) for item in found.items]
    assert items == ranked_by(expected) != ranked_by(other)
    for item in found.items:
        assert sum(part.value for part in item.explanation) == pytest.approx(item.score)


def test_a_list_that_was_read_in_time_but_not_ranked_is_not_said_to_be_partly_read(
    slow: SlowRecommender,
    request_: RecommendRequest,
    first_ranking: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cascade = slow.recommender._cascade
    cascade._nearest = 10
    taking(monkeypatch, slow, cascade._point, "read", lambda *_: 0.006)
    found = slow.answer(request_, first_ranking + 1.31 * (PER_SHOPPER + reading(10)))
    assert slow.read == [10]
    assert found.degraded == (PARTLY_RANKED,)
    tiers = [item.tier for item in found.items]
    assert tiers[:10] == [Tier.RANKER] * 10
    assert set(tiers[10:]) == {Tier.RANKER_WITHOUT_CROSS_ENCODER}


def test_chunks_that_were_all_read_are_ranked_like_a_list_read_at_once(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    rows = len(slow.recommender.candidates_many([request_]).item)
    whole = slow.answer(request_, 1.0)
    slow.recommender._contents.texts.scorer.forget()
    slow.read.clear()
    slow.recommender._cascade._times._expected["read"] *= 2
    seconds = 1.5 * (PER_SHOPPER + taken("read", 60) + taken("rank", rows))
    assert slow.answer(request_, first_ranking + seconds) == whole
    assert slow.read == [CHUNK, CHUNK, 10]


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.9])
def test_a_call_whose_time_is_too_short_for_any_ranking_is_refused_and_reads_nothing(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float, share: float
) -> None:
    before = slow.now
    with pytest.raises(DeadlineError, match="time"):
        slow.answer(request_, share * first_ranking)
    assert slow.now - before < (1.01 * PER_RETRIEVAL if share > 0 else 1e-9)
    assert slow.read == []


def test_times_that_were_long_once_do_not_keep_everybody_out(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    slow.recommender._cascade._times._expected["features"] *= 20
    refused = 0
    while refused < 200:
        try:
            found = slow.answer(request_, first_ranking + 1.5 * (PER_SHOPPER + reading(CHUNK)))
        except DeadlineError:
            refused += 1
        else:
            break
    assert 0 < refused < 100
    assert found.degraded == (PARTLY_READ,)


def test_reading_that_took_long_once_is_not_left_out_for_good(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    times = slow.recommender._cascade._times
    times._expected["read"] *= 20
    seconds = first_ranking + 1.5 * (PER_SHOPPER + reading(CHUNK))
    unread = 0
    while slow.answer(request_, seconds).degraded == (NOT_READ,) and unread < 300:
        unread += 1
    assert 100 <= unread < 200
    assert slow.read == [CHUNK]


def test_reading_that_there_never_was_time_for_is_not_expected_to_be_quicker(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    times = slow.recommender._cascade._times
    before = dict(times._expected)
    for _ in range(110):
        found = slow.answer(request_, first_ranking + 0.9 * (PER_SHOPPER + reading(CHUNK)))
        assert found.degraded == (NOT_READ,)
    assert times._expected["read"] == before["read"]


def test_what_was_read_before_takes_no_time(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    full = slow.answer(request_, 1.0)
    rows = len(slow.recommender.candidates_many([request_]).item)
    assert slow.answer(request_, first_ranking + 1.4 * taken("rank", rows)) == full
    assert slow.read == [60, 0]


def test_every_deadline_is_kept_and_more_time_reads_no_less(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    counts = []
    for seconds in np.linspace(1.01 * first_ranking, 2 * first_ranking + 0.2, 20):
        slow.recommender._contents.texts.scorer.forget()
        slow.read.clear()
        started = slow.now
        slow.answer(request_, float(seconds))
        assert slow.now - started <= seconds
        counts.append(sum(slow.read))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 60


def test_a_callers_own_list_is_cut_short_in_the_same_way(
    slow: SlowRecommender, trained_shop: TrainedShop
) -> None:
    ids = (*trained_shop.data.log.item_ids[:80], "unknown")
    request = RankRequest(ids, trained_shop.shoppers[0], as_of=UNTIL)
    seconds = least(80) + 1.5 * (PER_SHOPPER + reading(CHUNK))
    deadline = Deadline.after(seconds, lambda: slow.now)
    found = slow.recommender.rank(request, deadline)
    assert found.degraded == (PARTLY_READ,)
    assert {item.item_id for item in found.items} == set(ids)
    tiers = [item.tier for item in found.items]
    assert tiers.count(Tier.RANKER) == CHUNK
    assert tiers[-1] == Tier.UNKNOWN_ITEM


def test_a_limit_of_the_servers_own_shortens_an_answer_but_refuses_nobody(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    limit = 0.5 * first_ranking
    deadline = Deadline.after(10.0, lambda: slow.now, at_most=limit)
    found = slow.recommender.recommend(request_, deadline)
    assert found.degraded == (NOT_READ,)
    assert slow.read == []
    with pytest.raises(DeadlineError):
        slow.answer(request_, limit)
