"""Lists that chance has a part in: how often they come out is what their propensities say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from test_composed_pages import composing, ids_of
from test_merchandising import bury, pin
from test_page_composition import Case, cases
from trained_shop import UNTIL, TrainedShop

from recsys.config import PageConfig
from recsys.experiments import draft_propensity, plackett_luce_draw, share_of, team_draft
from recsys.page import Composition
from recsys.ranker import RankerTier
from recsys.recommender import (
    Exploration,
    RankedBy,
    RankingPolicy,
    Recommender,
    RecommendRequest,
    Tier,
)

WEIGHTS = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 1.0, "e": 1.0}
LOG_WEIGHTS = np.log(list(WEIGHTS.values()))
RANKING = st.lists(st.sampled_from("abcdef"), unique=True, min_size=1, max_size=6)
PLAIN = RankingPolicy()


def chance_of(items: str) -> float:
    """Plackett and Luce's own formula."""
    left, chance = dict(WEIGHTS), 1.0
    for item in items:
        chance *= left[item] / sum(left.values())
        del left[item]
    return chance


def seeded(seed: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([share_of(seed, item) for item in WEIGHTS])


def test_lists_come_as_often_as_the_product_of_their_propensities_says() -> None:
    draws = 20_000
    found: Counter[str] = Counter()
    for number in range(draws):
        order, propensity = plackett_luce_draw(LOG_WEIGHTS, seeded(f"token {number}"))
        drawn = "".join(list(WEIGHTS)[n] for n in order)
        found[drawn] += 1
        if number < 200:
            for places in range(1, 6):
                assert propensity[:places].prod() == pytest.approx(chance_of(drawn[:places]))
    lists = ["".join(one) for one in permutations(WEIGHTS)]
    expected = np.array([chance_of(one) for one in lists]) * draws
    assert expected.sum() == pytest.approx(draws)
    often = expected >= 5
    observed = np.array([found[one] for one in lists])
    rare = [[observed[~often].sum()], [expected[~often].sum()]]
    observed = np.concatenate([observed[often], rare[0]])
    assert scipy.stats.chisquare(observed, np.concatenate([expected[often], rare[1]])).pvalue > 1e-3


def test_every_place_comes_as_often_as_its_own_propensity_says() -> None:
    """What is shown third below given items, against what was logged for it."""
    below: dict[str, Counter[str]] = {}
    logged: dict[str, float] = {}
    for number in range(20_000):
        order, propensity = plackett_luce_draw(LOG_WEIGHTS, seeded(f"another {number}"))
        drawn = "".join(list(WEIGHTS)[n] for n in order)
        below.setdefault(drawn[:2], Counter())[drawn[2]] += 1
        logged[drawn[:3]] = propensity[2]
    for above, found in below.items():
        count = sum(found.values())
        for item, times in found.items():
            chance = logged[above + item]
            assert times / count == pytest.approx(
                chance, abs=4.5 * np.sqrt(chance * (1 - chance) / count)
            )


def test_extreme_weights_give_finite_propensities() -> None:
    order, propensity = plackett_luce_draw(np.array([0.0, -1e7, -2e7]), np.array([0.0, 0.5, 0.99]))
    assert order.tolist() == [0, 1, 2]
    assert propensity.tolist() == [1.0, 1.0, 1.0]
    order, propensity = plackett_luce_draw(np.zeros(3), np.array([0.0, 1 - 2.0**-53, 0.5]))
    assert order.tolist() == [1, 2, 0]
    assert propensity == pytest.approx([1 / 3, 1 / 2, 1])
    nothing = plackett_luce_draw(np.zeros(0), np.zeros(0))
    assert [len(one) for one in nothing] == [0, 0]


@settings(max_examples=60, deadline=None)
@given(RANKING, RANKING, st.integers(0, 6))
def test_a_drafted_list_has_the_propensities_that_all_coins_give(
    first: list[str], second: list[str], length: int
) -> None:
    lists = Counter(
        team_draft(first, second, np.array(coins, np.bool_)).items
        for coins in product([False, True], repeat=length)
    )
    for drafted in lists:
        propensity = draft_propensity(first, second, drafted)
        for place in range(len(drafted)):
            above, until = (
                sum(times for other, times in lists.items() if other[:n] == drafted[:n])
                for n in (place, place + 1)
            )
            assert propensity[place] == pytest.approx(until / above)
    assert not draft_propensity("abc", "abc", "ca").any()


@settings(max_examples=150, deadline=None)
@given(case=cases(), pool=st.integers(0, 60), seed=st.text(max_size=3))
def test_a_page_is_what_its_pool_begins_with_and_what_cold_draws_give(
    case: Case, pool: int, seed: str
) -> None:
    composed = case.composer.compose(
        case.ranked, case.size, case.rules, searched=case.searched, pool=pool
    )
    short = composed.places[: case.size]
    whole = len(composed.places) >= case.size or len(composed.places) == len(case.ranked)
    if whole:
        assert short.tolist() == case.page.places.tolist()
    score = -np.arange(len(case.ranked), dtype=np.float64)
    ids = [str(item) for item in case.ranked[composed.places]]
    cold = Exploration(1e-6, pool, seed).drawn(composed, score, ids, case.size)
    assert cold.places.tolist() == short.tolist()
    assert cold.propensity is not None
    assert cold.propensity.tolist() == [1.0] * len(short)
    warm = Exploration(5.0, pool, seed).drawn(composed, score, ids, case.size)
    assert set(warm.places.tolist()) <= set(composed.places.tolist())
    assert len(set(warm.places.tolist())) == len(short)
    for place, drawn in zip(short.tolist(), warm.places.tolist(), strict=True):
        if composed.labels.get(place) in {"pinned", "buried"}:
            assert drawn == place


def exploring(temperature: float, seed: str, pool: int = 100) -> RankingPolicy:
    return RankingPolicy(RankedBy.FULL, Exploration(temperature, pool, seed))


@pytest.fixture(scope="module")
def asked(trained_shop: TrainedShop) -> RecommendRequest:
    return RecommendRequest(trained_shop.shoppers[0], page_size=8, as_of=UNTIL)


def test_towards_temperature_0_the_bundle_s_own_list_comes_out(
    trained_shop: TrainedShop, asked: RecommendRequest
) -> None:
    page = PageConfig(diversity=0.3, category_cap=2, duplicate_similarity=0.97, pool=20)
    items = trained_shop.recommender.catalogue["item_id"]
    composed = composing(trained_shop, pin(items[7], 2), bury(items[9]), page=page)
    for recommender in (trained_shop.recommender, composed):
        for request in (asked, replace(asked, query="blue mug"), RecommendRequest(as_of=UNTIL)):
            plain = recommender.recommend(request)
            cold = recommender.recommend(request, policy=exploring(1e-6, "t"))
            assert replace(cold, items=plain.items) == plain
            assert [item.score for item in cold.items] == [item.score for item in plain.items]
            every = recommender.recommend(replace(request, page_size=100)).items
            times = Counter(item.score for item in every)  # of equals, any may come out first
            for drawn, own in zip(cold.items, plain.items, strict=True):
                assert drawn == own or times[own.score] > 1


def test_explored_answers_repeat_for_a_seed_and_differ_between_seeds(
    trained_shop: TrainedShop, asked: RecommendRequest
) -> None:
    recommender = trained_shop.recommender
    lists = [recommender.recommend(asked, policy=exploring(3.0, f"t{n}")) for n in range(8)]
    again = [recommender.recommend(asked, policy=exploring(3.0, f"t{n}")) for n in range(8)]
    assert lists == again
    assert len({tuple(ids_of(one)) for one in lists}) > 4
    plain = recommender.recommend(asked)
    own = {item.item_id: item.score for item in plain.items}
    for one in lists:
        assert all(item.score == own.setdefault(item.item_id, item.score) for item in one.items)
        assert all(0 < item.propensity < 1 for item in one.items)
        assert one.candidates == plain.candidates > len(own) > len(plain.items)


def test_what_stands_first_comes_as_often_as_logged(
    trained_shop: TrainedShop, asked: RecommendRequest
) -> None:
    draws, logged, found = 150, dict[str, float](), Counter[str]()
    for number in range(draws):
        answer = trained_shop.recommender.recommend(
            asked, policy=exploring(0.05, f"token {number}", pool=5)
        )
        first = answer.items[0]
        assert logged.setdefault(first.item_id, first.propensity) == first.propensity
        found[first.item_id] += 1
    assert sum(logged.values()) == pytest.approx(1.0, abs=0.05)
    for item, chance in logged.items():
        spread = 4 * np.sqrt(chance * (1 - chance) / draws)
        assert found[item] / draws == pytest.approx(chance, abs=spread)


def test_pinned_and_buried_items_stay_and_are_certain(
    trained_shop: TrainedShop, asked: RecommendRequest
) -> None:
    plain = ids_of(trained_shop.recommender.recommend(asked))
    recommender = composing(trained_shop, pin(plain[5], 1), bury(plain[0]))
    for number in range(6):
        answer = recommender.recommend(asked, policy=exploring(5.0, f"t{number}"))
        assert answer.items[1].item_id == plain[5]
        assert answer.items[1].propensity == 1.0
        assert plain[0] not in ids_of(answer)


@pytest.mark.parametrize("ranked_by", [RankedBy.WITHOUT_TEXT, RankedBy.BI_ENCODER])
def test_cheaper_rankers_answer_as_in_an_evaluation(
    trained_shop: TrainedShop, ranked_by: RankedBy
) -> None:
    recommender = trained_shop.recommender
    requests = [RecommendRequest(user, as_of=UNTIL) for user in trained_shop.shoppers[:6]]
    tiers = recommender.recommend_by_tier(requests).answers[RankerTier(ranked_by.value)]
    for request, expected in zip(requests, tiers, strict=True):
        found = recommender.recommend(request, policy=RankingPolicy(ranked_by))
        assert [(item.item_id, item.score) for item in found.items] == [
            (item.item_id, item.score) for item in expected.items
        ]
        assert {item.tier for item in found.items} == {Tier.RANKER_WITHOUT_CROSS_ENCODER}
        assert found.degraded == ()


def popular(recommender: Recommender, request: RecommendRequest) -> list[str]:
    answer = recommender.recommend(request, policy=RankingPolicy(RankedBy.POPULARITY))
    assert {item.tier for item in answer.items} <= {Tier.POPULARITY}
    scores = [item.score for item in answer.items]
    assert scores == sorted(scores, reverse=True)
    return ids_of(answer)


def test_the_popularity_ranking_is_that_of_purchases_lately(trained_shop: TrainedShop) -> None:
    past = trained_shop.tables.past
    days = trained_shop.configuration.retrieval.popular_days
    assert (past["event_time"].max() - past["event_time"].min()).days < days  # type: ignore[operator,union-attr]
    bought = Counter(past.filter(past["event_type"] == "purchase")["item_id"])
    items = trained_shop.tables.items
    there = items.filter(items["available"])["item_id"].to_list()
    expected = sorted(there, key=lambda item: (-bought[item], item))
    asked = RecommendRequest(trained_shop.shoppers[0], page_size=200, as_of=UNTIL)
    assert popular(trained_shop.recommender, asked) == expected
    assert popular(trained_shop.recommender, replace(asked, user_id="")) == expected
    short = replace(asked, page_size=5, context_item_ids=(expected[0],))
    assert popular(trained_shop.recommender, short) == expected[1:6]
    answer = trained_shop.recommender.recommend(short, policy=RankingPolicy(RankedBy.POPULARITY))
    assert answer.candidates == len(expected) - 1, "an item that no source brings may be popular"


def test_a_search_is_answered_with_what_it_found_whatever_ranks_it(
    trained_shop: TrainedShop,
) -> None:
    asked = RecommendRequest(query="blue mug", page_size=200, as_of=UNTIL)
    full = set(ids_of(trained_shop.recommender.recommend(asked)))
    assert len(full) > 5
    for ranked_by in RankedBy:
        found = trained_shop.recommender.recommend(asked, policy=RankingPolicy(ranked_by))
        assert set(ids_of(found)) == full


def test_a_composition_without_chance_says_nothing_of_it() -> None:
    assert Composition.first(3, np.arange(5, dtype=np.int32)).propensity is None
