"""Ranking against the clock: what is read in the time there is, and in which order it comes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from trained_shop import UNTIL, TrainedShop

from recsys.errors import DeadlineError
from recsys.ranker import RankerTier
from recsys.recommender import (
    Deadline,
    RankedList,
    RankRequest,
    Recommender,
    RecommendRequest,
    Tier,
)
from recsys.recommender.cascade import CHUNK, NOT_READ, PARTLY_READ

PER_PAIR = 0.001
"""Seconds that the cross-encoder takes to read a candidate."""

PER_RANK = 0.000_1
PER_FEATURES = 0.000_2
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
        cascade = self.recommender._cascade
        point = cascade._point
        taking(monkeypatch, self, point, "unread", lambda *asked: PER_FEATURES * len(asked[2].item))
        taking(monkeypatch, self, point, "read", self._reading)
        for ranker in (cascade._first, cascade._final):
            taking(monkeypatch, self, ranker, "predict", lambda values, _: PER_RANK * len(values))

    def _reading(self, scored: Any, which: Any) -> float:
        new = int(self.recommender._cascade._point.not_remembered(scored, which).sum())
        self.read.append(new)
        return PER_PAIR * new

    def answer(self, request: RecommendRequest, seconds: float) -> RankedList:
        return self.recommender.recommend(request, Deadline.after(seconds, lambda: self.now))


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
    """One that has learnt from a first shopper how long its steps take."""
    contents = trained_shop.recommender._contents
    nearest = replace_candidates(contents.configuration, 60)
    contents = replace(contents, configuration=nearest)
    slow = SlowRecommender(Recommender(contents, "v000001", UNTIL))
    contents.texts.scorer.pair_scores.clear()
    slow.slow_down(monkeypatch)
    slow.answer(RecommendRequest(trained_shop.shoppers[9], as_of=UNTIL), 1e6)
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
    return rows * (PER_FEATURES + PER_RANK)


CHUNK_SECONDS = CHUNK * (PER_PAIR + PER_RANK)


def test_with_time_enough_the_answer_is_the_one_without_a_deadline(
    slow: SlowRecommender, request_: RecommendRequest
) -> None:
    found = slow.answer(request_, 1.0)
    assert slow.read == [60]
    slow.recommender._contents.texts.scorer.pair_scores.clear()
    assert found == slow.recommender.recommend(request_)
    assert found.degraded == ()


def test_in_less_time_the_most_promising_are_read_and_come_first(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    found = slow.answer(request_, first_ranking + 1.5 * CHUNK_SECONDS)
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
    first = slow.recommender.recommend_by_tier([request_]).answers[RankerTier.BI_ENCODER][0]
    order = [item.item_id for item in first.items]
    unread = [item.item_id for item in found.items[CHUNK:]]
    assert unread == [item_id for item_id in order if item_id in set(unread)]


def test_without_time_to_read_the_first_ranker_alone_decides(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    found = slow.answer(request_, first_ranking + 0.5 * CHUNK_SECONDS)
    assert slow.read == []
    assert found.degraded == (NOT_READ,)
    first = slow.recommender.recommend_by_tier([request_]).answers[RankerTier.BI_ENCODER][0]
    assert [item.item_id for item in found.items] == [item.item_id for item in first.items]
    assert {item.tier for item in found.items} == {Tier.RANKER_WITHOUT_CROSS_ENCODER}
    np.testing.assert_allclose(
        [item.score for item in found.items], [item.score for item in first.items]
    )


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.9])
def test_a_call_whose_time_is_too_short_for_any_ranking_is_refused_and_reads_nothing(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float, share: float
) -> None:
    before = slow.now
    with pytest.raises(DeadlineError, match="time"):
        slow.answer(request_, share * first_ranking)
    assert (slow.now, slow.read) == (before, [])


def test_times_that_were_long_once_do_not_keep_everybody_out(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    slow.recommender._cascade._times._expected["features"] *= 20
    refused = 0
    while refused < 200:
        try:
            found = slow.answer(request_, first_ranking + 1.5 * CHUNK_SECONDS)
        except DeadlineError:
            refused += 1
        else:
            break
    assert 0 < refused < 100
    assert found.degraded == (PARTLY_READ,)


def test_what_was_read_before_takes_no_time(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    full = slow.answer(request_, 1.0)
    assert slow.answer(request_, 1.5 * first_ranking) == full
    assert slow.read == [60, 0]


def test_every_deadline_is_kept_and_more_time_reads_no_less(
    slow: SlowRecommender, request_: RecommendRequest, first_ranking: float
) -> None:
    counts = []
    for seconds in np.linspace(1.01 * first_ranking, 2 * first_ranking + 0.1, 20):
        slow.recommender._contents.texts.scorer.pair_scores.clear()
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
    first_ranking = 80 * (PER_FEATURES + PER_RANK)
    deadline = Deadline.after(first_ranking + 1.5 * CHUNK_SECONDS, lambda: slow.now)
    found = slow.recommender.rank(request, deadline)
    assert found.degraded == (PARTLY_READ,)
    assert {item.item_id for item in found.items} == set(ids)
    tiers = [item.tier for item in found.items]
    assert tiers.count(Tier.RANKER) == CHUNK
    assert tiers[-1] == Tier.UNKNOWN_ITEM
