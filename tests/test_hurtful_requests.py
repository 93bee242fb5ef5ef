"""Requests that name nobody and nothing known, or say what hurts: answered like any other."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from shelf_ranker import ShelfRanker
from shelf_server import Call, refusal, running
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from serving.server import Server

HURTFUL = [
    "",
    " \t\n\u00a0\u3000",
    "\u05de\u05e0\u05d5\u05e8\u05d4 \u202e\u05db\u05d7\u05d5\u05dc\u05d4",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 mug",
    "e\u0301" * 5_000 + "\u0301" * 10_000,
    "mug\x00lamp\x1b[31m",
    "\U0001f1e9\U0001f1ea \U00020000 red",
    "%s %d {0} ${HOME} \\N '; DROP TABLE items; --",
    "[CLS] [SEP] [PAD] [MASK]",
    "\ufeff\u2028\u2029\x85",
    "0" * 100_000,
]


@pytest.fixture(scope="module")
def served(trained_shop: TrainedShop) -> Iterator[tuple[Server, Call]]:
    with running(trained_shop.recommender, max_answer_seconds=30.0) as (server, call):
        yield server, call


def answer(call: Call, **fields: object) -> v1.RecommendResponse:
    return call.recommend(timeout=30.0, as_of=UNTIL, **fields)


def assert_sound(found: v1.RecommendResponse, shop: TrainedShop, size: int = 10) -> None:
    """What holds of every answer."""
    ids = [item.item_id for item in found.items]
    scores = [item.score for item in found.items]
    assert len(ids) <= size
    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(shop.tables.items["item_id"])
    assert np.isfinite(scores).all()
    assert scores == sorted(scores, reverse=True)
    assert found.bundle_version == shop.summary.version


def unknown(server: Server, kind: str) -> float:
    found = server.metrics.registry.get_sample_value("recsys_unknown_ids_total", {"kind": kind})
    return found or 0.0


def test_an_unknown_shopper_gets_everybodys_list_and_is_counted(
    served: tuple[Server, Call], trained_shop: TrainedShop
) -> None:
    server, call = served
    before = unknown(server, "shopper")
    nobody = answer(call)
    stranger = answer(call, user_id="never-seen")
    known = answer(call, user_id=trained_shop.shoppers[0])
    assert_sound(stranger, trained_shop)
    assert list(stranger.items) == list(nobody.items)
    assert list(stranger.degraded) == []
    assert list(known.items) != list(nobody.items)
    assert unknown(server, "shopper") == before + 1


def test_unknown_items_count_for_nothing_and_are_counted(
    served: tuple[Server, Call], trained_shop: TrainedShop
) -> None:
    server, call = served
    before = unknown(server, "item")
    plain = answer(call, user_id="never-seen")
    found = answer(call, user_id="never-seen", context_item_ids=["no such", "nor this", "no such"])
    assert list(found.items) == list(plain.items)
    assert unknown(server, "item") == before + 2
    assert_sound(found, trained_shop)


@pytest.mark.parametrize("query", HURTFUL, ids=range(len(HURTFUL)))
def test_any_query_is_answered(
    served: tuple[Server, Call], trained_shop: TrainedShop, query: str
) -> None:
    found = answer(served[1], query=query, page_size=20)
    assert_sound(found, trained_shop, 20)
    assert not [token for token in found.degraded if token.endswith("_failed")]
    ranked = served[1].stub.Rank(
        v1.RankRequest(query=query, item_ids=[query[:200] or "x", "no such"], as_of=UNTIL),
        timeout=30.0,
    )
    assert len(ranked.items) == 2


@pytest.mark.parametrize("query", HURTFUL[:2], ids=["empty", "blank"])
def test_a_query_without_words_is_none(served: tuple[Server, Call], query: str) -> None:
    assert list(answer(served[1], query=query).items) == list(answer(served[1]).items)


def test_a_query_means_the_same_in_every_normal_form(
    served: tuple[Server, Call], trained_shop: TrainedShop
) -> None:
    composed, *others = (
        answer(served[1], query=unicodedata.normalize(form, "rosé crème mug"))
        for form in ("NFC", "NFD", "NFKC", "NFKD")
    )
    assert_sound(composed, trained_shop)
    for other in others:
        assert list(other.items) == list(composed.items)


@pytest.mark.parametrize(
    "method",
    [
        "/recsys.v1.AdminService/GetStatus",
        "/recsys.v1.AdminService/ActivateBundle",
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_shops_are_offered_nothing_of_the_operators(method: str) -> None:
    with running(ShelfRanker()) as (_, call):
        send = call.channel.unary_unary(method, bytes, bytes)
        code, _, _ = refusal(lambda: send(b"", timeout=5.0))
    assert code is grpc.StatusCode.UNIMPLEMENTED
