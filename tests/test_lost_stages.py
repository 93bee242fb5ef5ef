"""What fails within an answer is gone without, one stage at a time, and the answer says so."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from log_lines import CANARY, lines
from shelf_server import Call, refusal, running
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.ranker import RankerTier
from recsys.recommender import RankRequest, Recommender, RecommendRequest
from recsys.recommender.cascade import Cascade
from recsys.text import BiEncoder, TextScorer
from serving.server import Server

WITHOUT = v1.Tier.TIER_RANKER_WITHOUT_CROSS_ENCODER


def failing(*_: Any, **__: Any) -> Any:
    raise RuntimeError(CANARY)


@pytest.fixture
def recommender(trained_shop: TrainedShop) -> Iterator[Recommender]:
    """One whose scores are not remembered from other tests."""
    contents = trained_shop.recommender._contents
    contents.texts.scorer.forget()
    yield Recommender(contents, trained_shop.recommender.version, UNTIL)
    contents.texts.scorer.forget()


@pytest.fixture
def served(recommender: Recommender) -> Iterator[tuple[Server, Call]]:
    with running(recommender) as (server, call):
        yield server, call


def ids(answer: v1.RecommendResponse | v1.RankResponse) -> list[str]:
    return [item.item_id for item in answer.items]


def assert_said(log: io.StringIO, server: Server, *losses: str) -> None:
    """Each loss once: in the log under an id, and in the metrics."""
    found = [line for line in lines(log) if line["event"] == "stage failed"]
    assert [line["loss"] for line in found] == list(losses)
    assert all(len(line["fault_id"]) == 32 for line in found)
    assert all("test_lost_stages.py" in str(line["error"]) for line in found)
    assert CANARY not in log.getvalue()
    for loss in losses:
        counted = server.metrics.registry.get_sample_value(
            "recsys_degraded_answers_total", {"reason": loss}
        )
        assert counted == 1


def test_without_the_cross_encoder_the_ranker_without_it_orders_all(
    recommender: Recommender,
    served: tuple[Server, Call],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = RecommendRequest("never-seen", as_of=UNTIL)
    lower = recommender.recommend_by_tier([request]).answers[RankerTier.BI_ENCODER][0]
    monkeypatch.setattr(TextScorer, "scores", failing)
    recommender._contents.texts.scorer.forget()
    answer = served[1].recommend(user_id="never-seen", as_of=UNTIL)
    assert list(answer.degraded) == ["cross_encoder_failed"]
    assert ids(answer) == [item.item_id for item in lower.items]
    assert {item.tier for item in answer.items} == {WITHOUT}
    assert not any(item.HasField("cross_encoder_score") for item in answer.items)
    assert_said(log, served[0], "cross_encoder_failed")


def test_without_the_final_ranker_the_one_before_it_orders_all(
    recommender: Recommender,
    served: tuple[Server, Call],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recommender._cascade._final, "rank", failing)
    answer = served[1].recommend(user_id="never-seen", as_of=UNTIL, explain=True)
    assert list(answer.degraded) == ["ranker_failed"]
    assert {item.tier for item in answer.items} == {WITHOUT}
    assert all(item.explanation for item in answer.items)
    assert_said(log, served[0], "ranker_failed")


def test_without_any_ranker_candidates_stand_as_their_sources_found_them(
    recommender: Recommender,
    served: tuple[Server, Call],
    trained_shop: TrainedShop,
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = trained_shop.shoppers[0]
    for ranker in (recommender._cascade._final, recommender._cascade._first):
        monkeypatch.setattr(ranker, "rank", failing)
    answer = served[1].recommend(user_id=user, as_of=UNTIL, explain=True)
    assert list(answer.degraded) == ["ranker_failed"]
    assert len(answer.items) == 10
    assert {item.tier for item in answer.items} == {v1.Tier.TIER_RETRIEVAL}
    scores = [item.score for item in answer.items]
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0
    assert not any(item.explanation for item in answer.items)
    losses = [line["loss"] for line in lines(log) if line["event"] == "stage failed"]
    assert losses == ["ranker_failed"] * 2


def test_without_the_querys_vector_the_answer_is_the_one_without_a_query(
    served: tuple[Server, Call], log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = served[1].recommend(user_id="never-seen", as_of=UNTIL)
    monkeypatch.setattr(BiEncoder, "embed", failing)
    answer = served[1].recommend(user_id="never-seen", query="blue lamp", as_of=UNTIL)
    assert list(answer.degraded) == ["query_encoder_failed"]
    assert ids(answer) == ids(plain)
    assert_said(log, served[0], "query_encoder_failed")


def test_the_callers_own_items_all_come_back_whatever_fails(
    recommender: Recommender,
    served: tuple[Server, Call],
    trained_shop: TrainedShop,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = [*trained_shop.tables.items["item_id"][:7].to_list(), "no such item"]
    monkeypatch.setattr(TextScorer, "scores", failing)
    for ranker in (recommender._cascade._final, recommender._cascade._first):
        monkeypatch.setattr(ranker, "rank", failing)
    answer = served[1].stub.Rank(v1.RankRequest(item_ids=asked, as_of=UNTIL), timeout=5.0)
    assert sorted(ids(answer)) == sorted(asked)
    assert list(answer.degraded) == ["cross_encoder_failed", "ranker_failed"]


def hurried(monkeypatch: pytest.MonkeyPatch, fits: Callable[[int], bool]) -> None:
    """Let there be no time for everything at once; for the n-th chunk where it `fits`."""
    asked = iter(range(1_000))

    def in_time(*_: Any) -> bool:
        turn = next(asked)
        return turn > 0 and fits(turn)

    monkeypatch.setattr(Cascade, "_fits", in_time)


def test_a_chunk_that_fails_ends_reading(
    served: tuple[Server, Call], log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried(monkeypatch, lambda _: True)
    monkeypatch.setattr(TextScorer, "scores", failing)
    answer = served[1].recommend(user_id="never-seen", as_of=UNTIL)
    assert list(answer.degraded) == ["cross_encoder_failed"]
    assert {item.tier for item in answer.items} == {WITHOUT}
    assert_said(log, served[0], "cross_encoder_failed")


def test_in_a_hurry_too_the_order_before_the_final_ranker_stands(
    recommender: Recommender,
    served: tuple[Server, Call],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurried(monkeypatch, lambda turn: turn < 2)
    monkeypatch.setattr(recommender._cascade._final, "rank", failing)
    answer = served[1].recommend(user_id="never-seen", as_of=UNTIL)
    assert list(answer.degraded) == ["ranker_failed"]
    assert {item.tier for item in answer.items} == {WITHOUT}
    assert_said(log, served[0], "ranker_failed")


def test_what_no_answer_does_without_fails_with_an_id_only(
    recommender: Recommender,
    served: tuple[Server, Call],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(type(recommender._point.retriever), "retrieve", failing)
    code, text, _ = refusal(lambda: served[1].recommend(user_id=CANARY, as_of=UNTIL))
    assert code is grpc.StatusCode.INTERNAL
    assert CANARY not in text + log.getvalue()


def test_where_nobody_watches_what_fails_fails(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextScorer, "scores", failing)
    with pytest.raises(RuntimeError, match=CANARY):
        recommender.recommend(RecommendRequest("never-seen", as_of=UNTIL))
    with pytest.raises(RuntimeError, match=CANARY):
        recommender.rank_many([RankRequest(tuple(recommender.catalogue["item_id"][:3]))])
