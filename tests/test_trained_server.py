"""The trained bundle behind a real server: what clients get is what the recommender says."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Protocol

import grpc
import numpy as np
import pytest
from shelf_server import NOW, Call, running
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.recommender import (
    ItemFilter,
    RankedList,
    RankRequest,
    Recommender,
    RecommendRequest,
    SimilarItemsRequest,
)
from recsys.recommender.cascade import NOT_READ
from recsys.text import PairScoreCounts
from serving.loading import open_recommender


class Response(Protocol):
    """What all answers have."""

    @property
    def items(self) -> Sequence[v1.RankedItem]: ...
    @property
    def bundle_version(self) -> str: ...
    @property
    def degraded(self) -> Sequence[str]: ...


def assert_same_answer(recommender: Recommender, response: Response, expected: RankedList) -> None:
    assert [item.item_id for item in response.items] == [i.item_id for i in expected.items]
    assert response.bundle_version == expected.bundle_version
    assert tuple(response.degraded) == expected.degraded
    for sent, item in zip(response.items, expected.items, strict=True):
        assert sent.score == np.float32(item.score) or sent.score == item.score
        assert tuple(sent.sources) == item.sources
        assert v1.Tier.Name(sent.tier) == f"TIER_{item.tier.name}"
        parts = [(part.group, part.value) for part in sent.explanation]
        expected_parts = [(part.group, part.value) for part in item.explanation]
        assert [name for name, _ in parts] == [name for name, _ in expected_parts]
        np.testing.assert_allclose(
            [value for _, value in parts], [value for _, value in expected_parts], rtol=1e-6
        )
        if item.cross_encoder_score is not None:
            assert sent.cross_encoder_score == pytest.approx(item.cross_encoder_score, rel=1e-6)
        card = recommender.card(item.item_id)
        assert sent.title == (card.title if card else "")


def test_recommend_over_the_wire(trained_shop: TrainedShop) -> None:
    recommender, shoppers = trained_shop.recommender, trained_shop.shoppers
    asked = [
        RecommendRequest(shoppers[0], as_of=UNTIL, explain=True),
        RecommendRequest(shoppers[1], query="blue lamp", page_size=3, as_of=UNTIL),
        RecommendRequest("never-seen", page_size=200, as_of=NOW),
        RecommendRequest(shoppers[2], filter=ItemFilter(exclude_purchased=True), as_of=UNTIL),
    ]
    with running(recommender) as (_, call):
        for request in asked:
            fields = {name: value for name, value in asdict(request).items() if value}
            fields["filter"] = v1.ItemFilter(exclude_purchased=request.filter.exclude_purchased)
            expected = recommender.recommend(request)
            assert_same_answer(recommender, call.recommend(**fields), expected)


def test_calls_that_expire_never_reach_the_cross_encoder(trained_shop: TrainedShop) -> None:
    recommender = trained_shop.recommender
    with running(recommender, workers=1) as (_, call):
        for user in trained_shop.shoppers[:10]:
            with pytest.raises(grpc.RpcError) as failed:
                call.recommend(timeout=0.003, user_id=user)
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert recommender.remembered_pairs == PairScoreCounts(hits=0, misses=0, size=0)
    with running(recommender, workers=1) as (_, call):
        assert call.recommend(user_id=trained_shop.shoppers[0]).items
    counts = recommender.remembered_pairs
    assert counts.misses == counts.size > 0


def test_a_call_without_time_for_the_cross_encoder_is_answered_in_time_and_says_so(
    trained_shop: TrainedShop,
) -> None:
    contents, user = trained_shop.recommender._contents, trained_shop.shoppers[0]
    contents.texts.scorer.forget()
    recommender = Recommender(contents, "v000001", UNTIL)
    with running(recommender) as (server, call):
        recommender._times._expected["read"] = 10.0
        found = call.recommend(timeout=20.0, user_id=user)
        lost = {"reason": NOT_READ}
        counted = server.metrics.registry.get_sample_value("recsys_degraded_answers_total", lost)
    assert NOT_READ in found.degraded
    assert len(found.items) == 10
    assert counted == 1
    assert contents.texts.scorer.pair_scores.counts.misses == 0


def test_rank_and_similar_items_over_the_wire(trained_shop: TrainedShop) -> None:
    recommender = trained_shop.recommender
    ids = (*trained_shop.tables.items["item_id"][:7], "no such item")
    user = trained_shop.shoppers[0]
    with running(recommender) as (_, call):
        ranked = call.stub.Rank(
            v1.RankRequest(user_id=user, item_ids=ids, as_of=UNTIL, explain=True), timeout=5.0
        )
        near = call.stub.SimilarItems(
            v1.SimilarItemsRequest(item_id=ids[0], page_size=4), timeout=5.0
        )
    expected = recommender.rank(RankRequest(ids, user, as_of=UNTIL, explain=True))
    assert_same_answer(recommender, ranked, expected)
    assert len(ranked.items) == 8
    expected = recommender.similar_items(SimilarItemsRequest(ids[0], 4))
    assert_same_answer(recommender, near, expected)
    assert near.items


def ask_everybody(call: Call, shoppers: list[str]) -> list[bytes]:
    requests = [v1.RecommendRequest(user_id=user, explain=True) for user in shoppers]
    return [
        call.stub.Recommend(request, timeout=10.0).SerializeToString(deterministic=True)
        for request in requests
    ]


def test_a_server_that_was_restarted_gives_the_same_bytes(trained_shop: TrainedShop) -> None:
    shoppers = [*trained_shop.shoppers[:6], "never-seen"]
    answers = []
    for _ in range(2):
        with running(open_recommender(trained_shop.registry)) as (_, call):
            answers.append(ask_everybody(call, shoppers))
    assert answers[0] == answers[1]
    assert len(set(answers[0])) == len(shoppers)


def test_calls_at_the_same_time_do_not_disturb_each_other(trained_shop: TrainedShop) -> None:
    shoppers = trained_shop.shoppers[:10]
    with running(trained_shop.recommender, workers=4) as (_, call), ThreadPoolExecutor(4) as pool:
        alone = ask_everybody(call, shoppers)
        crowd = list(pool.map(lambda _: ask_everybody(call, shoppers), range(4)))
    assert crowd == [alone] * 4
