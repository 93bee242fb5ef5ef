"""The recommender of a trained bundle: what it returns, to whom, and that it stays so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from trained_shop import UNTIL, TrainedShop

from recsys.errors import RequestError
from recsys.interactions import ItemLists
from recsys.ranker import BASE, RankerTier
from recsys.recommender import (
    PointInTime,
    RankedItem,
    RankedList,
    RankRequest,
    Recommender,
    RecommendRequest,
    Shoppers,
    SimilarItemsRequest,
    Tier,
)
from recsys.recommender.point_in_time import TEXT_SOURCES
from serving.loading import open_recommender

EVERYTHING = 200
NOBODY = "never-seen"


@pytest.fixture(scope="module")
def recommender(trained_shop: TrainedShop) -> Recommender:
    return trained_shop.recommender


@pytest.fixture(scope="module")
def available(trained_shop: TrainedShop) -> set[str]:
    return set(trained_shop.tables.items.filter("available")["item_id"])


@pytest.fixture(scope="module")
def requests(trained_shop: TrainedShop) -> list[RecommendRequest]:
    """Shoppers with much, little and no history; with context, with a query, with both."""
    known = trained_shop.shoppers
    titles = trained_shop.tables.items["title"]
    ids = trained_shop.tables.items["item_id"]
    return [
        RecommendRequest(known[0]),
        RecommendRequest(known[1], query=titles[7], page_size=7),
        RecommendRequest(known[-1], context_item_ids=(ids[3], "no such item", ids[4]), page_size=3),
        RecommendRequest(known[5], context_item_ids=(ids[9],), query="gift", explain=True),
        RecommendRequest(NOBODY, page_size=EVERYTHING),
        RecommendRequest("", query=titles[1]),
        RecommendRequest(known[2], as_of=UNTIL, page_size=1),
        RecommendRequest(known[2], as_of=UNTIL + timedelta(hours=3)),
        RecommendRequest(known[2], as_of=UNTIL + timedelta(days=300)),
    ]


def ids_of(answer: RankedList) -> list[str]:
    return [item.item_id for item in answer.items]


def test_a_page_has_the_size_asked_for_best_first_and_no_item_twice(
    recommender: Recommender, requests: list[RecommendRequest], available: set[str]
) -> None:
    for request in requests:
        answer = recommender.recommend(request)
        left = available - set(request.context_item_ids)
        assert len(answer.items) == min(request.page_size, len(left))
        assert len(set(ids_of(answer))) == len(answer.items)
        order = [(-item.score, item.item_id) for item in answer.items]
        assert order == sorted(order)
        assert {item.tier for item in answer.items} == {Tier.RANKER}
        assert answer.bundle_version == recommender.version


def test_with_a_query_only_what_the_text_search_finds_is_ranked(
    recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    for request in requests:
        asked = replace(request, query="blue ceramic mug", page_size=EVERYTHING)
        answer = recommender.recommend(asked)
        assert answer.items
        assert all("text" in item.sources for item in answer.items)


def test_items_that_are_not_available_are_never_returned(
    recommender: Recommender, requests: list[RecommendRequest], available: set[str]
) -> None:
    assert len(recommender.catalogue) > len(available)
    for request in requests:
        everything = recommender.recommend(replace(request, page_size=EVERYTHING))
        may_come = available - set(request.context_item_ids)
        assert set(ids_of(everything)) <= may_come
        assert request.query or set(ids_of(everything)) == may_come
        seed = ids_of(everything)[0]
        near = recommender.similar_items(SimilarItemsRequest(seed, EVERYTHING))
        assert set(ids_of(near)) <= available


def test_the_same_request_has_the_same_answer_also_after_loading_again(
    trained_shop: TrainedShop, recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    answers = [recommender.recommend(request) for request in requests]
    assert [recommender.recommend(request) for request in requests] == answers
    again = open_recommender(trained_shop.registry)
    assert [again.recommend(request) for request in reversed(requests)] == answers[::-1]


def test_requests_in_a_batch_are_answered_as_if_alone(
    recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    done: list[int] = []
    together = recommender.recommend_many(requests, done.append)
    assert together == [recommender.recommend(request) for request in requests]
    assert sum(done) == len(requests)
    assert recommender.recommend_many([]) == []


@pytest.mark.parametrize("page_size", [1, EVERYTHING])
def test_candidates_are_what_is_ranked_with_the_sources_that_brought_it(
    recommender: Recommender, requests: list[RecommendRequest], page_size: int
) -> None:
    asked = [replace(request, page_size=page_size) for request in requests]
    done: list[int] = []
    found = recommender.candidates_many(asked, done.append)
    assert sum(done) == found.count == len(asked)
    ids = recommender.catalogue["item_id"]
    for row, answer in enumerate(recommender.recommend_many(asked)):
        own = found.rows(row, row + 1)
        sources = {
            ids[int(item)]: tuple(
                sorted(n for n, r in zip(own.source_names, ranks, strict=True) if r >= 0)
            )
            for item, ranks in zip(own.item, own.source_ranks, strict=True)
        }
        assert {item.item_id: item.sources for item in answer.items}.items() <= sources.items()
        assert page_size == 1 or len(answer.items) == len(sources)


def test_nobody_has_no_candidates(recommender: Recommender) -> None:
    nothing = recommender.candidates_many([])
    assert (nothing.count, nothing.source_ranks.shape) == (0, (0, len(nothing.source_names)))
    assert "popular" in nothing.source_names


def test_rank_gives_the_scores_of_recommend_where_that_reads_all_texts_too(
    recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    contents = recommender._contents
    encoder = contents.configuration.cross_encoder.model_copy(update={"candidates": EVERYTHING})
    configuration = contents.configuration.model_copy(update={"cross_encoder": encoder})
    reading = Recommender(
        replace(contents, configuration=configuration), recommender.version, recommender.horizon
    )
    for request in requests:
        answer = reading.recommend(replace(request, page_size=EVERYTHING))
        assert recommender.rank(rank_request(request, sorted(ids_of(answer)))) == answer


def test_rank_reads_the_texts_of_all_items(
    recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    ids = recommender.catalogue.filter("available")["item_id"].head(150).to_list()
    answers = recommender.rank_many([rank_request(request, ids) for request in requests])
    limit = recommender._contents.configuration.cross_encoder.candidates
    assert limit < len(ids)
    for answer in answers:
        read = [item.cross_encoder_score is not None for item in answer.items]
        assert len(read) == len(ids)
        assert all(read)


def rank_request(request: RecommendRequest, item_ids: Sequence[str]) -> RankRequest:
    return RankRequest(
        tuple(item_ids),
        request.user_id,
        request.session_id,
        request.query,
        request.context_item_ids,
        request.as_of,
        request.explain,
    )


def test_rank_returns_each_id_once_with_unknown_ones_last_in_their_order(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    known = trained_shop.tables.items["item_id"].to_list()[:6]
    asked = ("zzz", known[2], known[0], "aaa", known[2], *known[3:], "zzz", "")
    answer = recommender.rank(RankRequest(asked, trained_shop.shoppers[0]))
    assert sorted(ids_of(answer)[:5]) == sorted({known[2], known[0], *known[3:]})
    assert answer.items[5:] == tuple(
        RankedItem(item_id, 0.0, Tier.UNKNOWN_ITEM) for item_id in ("zzz", "aaa", "")
    )
    shuffled = recommender.rank(RankRequest(asked[::-1], trained_shop.shoppers[0]))
    assert shuffled.items[:5] == answer.items[:5]


@pytest.mark.parametrize("item_ids", [(), ("no", "such")])
def test_rank_of_nothing_known_scores_nothing(
    recommender: Recommender, item_ids: tuple[str, ...]
) -> None:
    answer = recommender.rank(RankRequest(item_ids, explain=True))
    assert [item.tier for item in answer.items] == [Tier.UNKNOWN_ITEM] * len(item_ids)


def test_a_stranger_gets_what_a_shopper_without_history_gets(recommender: Recommender) -> None:
    stranger = recommender.recommend(RecommendRequest(NOBODY))
    assert stranger.items == recommender.recommend(RecommendRequest("")).items
    assert all(np.isfinite(item.score) for item in stranger.items)


def test_unknown_context_items_are_ignored(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    user, item = trained_shop.shoppers[0], trained_shop.tables.items["item_id"][5]
    plain, context = RecommendRequest(user), RecommendRequest(user, context_item_ids=(item,))
    assert recommender.recommend(
        replace(plain, context_item_ids=("no", "such"))
    ) == recommender.recommend(plain)
    assert recommender.recommend(
        replace(context, context_item_ids=("no", item, item))
    ) == recommender.recommend(context)
    assert recommender.recommend(context) != recommender.recommend(plain)


def test_what_the_shopper_looks_at_is_ranked_but_not_recommended_back(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    user = trained_shop.shoppers[0]
    looked_at = tuple(ids_of(recommender.recommend(RecommendRequest(user)))[:2])
    answer = recommender.recommend(
        RecommendRequest(user, context_item_ids=looked_at, page_size=EVERYTHING)
    )
    assert not set(looked_at) & set(ids_of(answer))
    ranked = recommender.rank(RankRequest(looked_at, user, context_item_ids=looked_at))
    assert sorted(ids_of(ranked)) == sorted(looked_at)


def test_a_query_changes_scores_and_brings_items_by_text(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    plain = RecommendRequest(trained_shop.shoppers[0], page_size=EVERYTHING)
    lamp = recommender.recommend(replace(plain, query="blue garden lamp"))
    cup = recommender.recommend(replace(plain, query="small white cup"))
    by_text = [
        {item.item_id for item in answer.items if "text" in item.sources}
        for answer in (recommender.recommend(plain), lamp, cup)
    ]
    assert all(by_text)
    assert by_text[1] != by_text[2]
    read = [{i.item_id: i.cross_encoder_score for i in a.items} for a in (lamp, cup)]
    assert read[0] != read[1]
    blank = replace(plain, query=" <b></b> \u200b")
    assert recommender.recommend(blank).items == recommender.recommend(plain).items


def test_contributions_add_up_to_the_score(
    recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    groups: set[frozenset[str]] = set()
    for request in requests:
        plain = recommender.recommend(replace(request, explain=False))
        answer = recommender.recommend(replace(request, explain=True))
        assert [item.score for item in answer.items] == [item.score for item in plain.items]
        assert all(not item.explanation for item in plain.items)
        for item in answer.items:
            assert sum(part.value for part in item.explanation) == pytest.approx(
                item.score, abs=1e-6
            )
            sizes = [abs(part.value) for part in item.explanation]
            assert sizes == sorted(sizes, reverse=True)
            groups.add(frozenset(part.group for part in item.explanation))
    assert len(groups) == 1
    assert {BASE, "text", "popularity", "rebuy"} <= next(iter(groups))


def test_a_time_before_the_horizon_would_leak(recommender: Recommender) -> None:
    early = UNTIL - timedelta(microseconds=1)
    with pytest.raises(RequestError, match="would leak") as caught:
        recommender.recommend(RecommendRequest("u", as_of=early))
    assert caught.value.field == "as_of"
    with pytest.raises(RequestError, match="would leak") as caught:
        recommender.rank(RankRequest(("i",), "u", as_of=early))
    assert caught.value.field == "as_of"


def test_a_time_without_zone_is_refused(recommender: Recommender) -> None:
    naive = datetime(2026, 6, 1)  # noqa: DTZ001
    with pytest.raises(RequestError, match="with a zone") as caught:
        recommender.recommend(RecommendRequest("u", as_of=naive))
    assert caught.value.field == "as_of"


def test_a_time_means_the_same_in_every_zone(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    request = RecommendRequest(trained_shop.shoppers[0], as_of=UNTIL + timedelta(hours=2))
    assert request.as_of
    elsewhere = replace(request, as_of=request.as_of.astimezone(timezone(timedelta(hours=-7))))
    assert recommender.recommend(elsewhere) == recommender.recommend(request)


def test_long_after_the_last_event_the_answer_is_marked_and_stands_still(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    request = RecommendRequest(trained_shop.shoppers[0])
    fresh = recommender.recommend(replace(request, as_of=UNTIL))
    late = [
        recommender.recommend(replace(request, as_of=UNTIL + timedelta(days=days)))
        for days in (2, 30, 5_000)
    ]
    assert fresh.degraded == ()
    assert {answer.degraded for answer in late} == {("stale_bundle",)}
    assert all(answer.items == late[0].items for answer in late)
    assert recommender.recommend(request).items == late[0].items


def test_a_card_shows_what_the_catalogue_says(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    row = trained_shop.tables.items.row(4, named=True)
    card = recommender.card(row["item_id"])
    assert card
    assert (card.title, card.price, card.currency) == (row["title"], row["price"], row["currency"])
    assert card.categories == tuple(row["category"])
    assert recommender.card("no such") is None


def test_what_is_served_is_what_training_would_compute(
    recommender: Recommender, trained_shop: TrainedShop
) -> None:
    """Features made the offline way, from raw events, through the ranker, give served scores."""
    contents, data = recommender._contents, trained_shop.data
    point = PointInTime(
        data.log,
        contents.co_occurrence,
        contents.texts,
        data.catalogue.columns,
        trained_shop.configuration,
    )
    users = [data.log.user_rows[user] for user in trained_shop.shoppers[:6]]
    shoppers = Shoppers(
        histories=data.log.histories(np.array(users)),
        shown=data.log.shown_to(np.array(users)),
        searched=data.log.searches.by(np.array(users)),
        context=ItemLists.empty(len(users)),
        queries=[""] * len(users),
        as_of=np.full(len(users), data.until),
    )
    queries = point.queries(shoppers)
    candidates = point.retriever.retrieve(queries)
    candidates = candidates.where(data.catalogue.available[candidates.item])
    limit = trained_shop.configuration.cross_encoder.candidates
    scored = point.score(shoppers, queries, candidates, nearest=limit)
    expected = (
        contents.rankers[RankerTier.FULL]
        .rank(scored.features.values, scored.candidates.request)
        .score
    )
    for place, user in enumerate(trained_shop.shoppers[:6]):
        rows = slice(candidates.offsets[place], candidates.offsets[place + 1])
        offline = {
            data.log.item_ids[item]: score
            for item, score in zip(candidates.item[rows], expected[rows], strict=True)
        }
        request = RecommendRequest(user, page_size=len(offline), as_of=UNTIL)
        served = recommender.recommend(request)
        assert {item.item_id: item.score for item in served.items} == offline


def test_the_full_tier_is_what_is_served_and_the_others_see_less(
    recommender: Recommender, requests: list[RecommendRequest]
) -> None:
    asked = [replace(request, explain=True) for request in requests]
    found = recommender.recommend_by_tier(asked)
    tiers = found.answers
    assert tiers[RankerTier.FULL] == recommender.recommend_many(asked)
    assert tiers[RankerTier.BI_ENCODER] != tiers[RankerTier.FULL]
    behaviour = [item for answer in tiers[RankerTier.WITHOUT_TEXT] for item in answer.items]
    brought = {item.sources for item in behaviour if item.sources}
    assert not [sources for sources in brought if set(sources) <= set(TEXT_SOURCES)]
    full = [item.sources for answer in tiers[RankerTier.FULL] for item in answer.items]
    assert any(set(sources) <= set(TEXT_SOURCES) for sources in full if sources)
    read = ~np.isnan(found.probability)
    assert len(read) == len(found.candidates.item)
    assert 0 < read.sum() < len(read)
    assert ((found.probability[read] >= 0) & (found.probability[read] <= 1)).all()
    groups = {part.group for item in behaviour for part in item.explanation}
    assert "rebuy" in groups
    assert "text" not in groups
    for name, place in (("text_cross_purchase", 2), ("text_words", 1), ("own_baskets", 0)):
        seen = [name in tier.columns((name,)) for tier in RankerTier]
        assert seen == [step >= place for step in range(3)]
