"""Requests that name nobody and nothing known, or say what hurts: answered like any other."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
from log_lines import lines
from shelf_ranker import ShelfRanker
from shelf_server import Call, refusal, running, until
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
    known = (answer(call, user_id=user) for user in sorted(trained_shop.shoppers)[:3])
    assert_sound(stranger, trained_shop)
    assert list(stranger.items) == list(nobody.items)
    assert list(stranger.degraded) == []
    assert all(list(own.items) != list(nobody.items) for own in known)
    assert unknown(server, "shopper") == before + 1
    ids = trained_shop.tables.items["item_id"][:9].to_list()
    ranked = [
        call.stub.Rank(v1.RankRequest(item_ids=ids, user_id=user, as_of=UNTIL), timeout=30.0)
        for user in ("", "never-seen")
    ]
    assert list(ranked[0].items) == list(ranked[1].items)
    assert unknown(server, "shopper") == before + 2


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
    known = trained_shop.tables.items["item_id"][0]
    beside_it, alone = (answer(call, context_item_ids=[known, *more]) for more in (["none"], []))
    assert list(beside_it.items) == list(alone.items)
    assert list(alone.items) != list(plain.items)
    assert unknown(server, "item") == before + 3


def test_unknown_candidates_come_last_flagged_and_counted(
    served: tuple[Server, Call], trained_shop: TrainedShop
) -> None:
    server, call = served
    before = unknown(server, "item")
    known = trained_shop.tables.items.filter("available")["item_id"][:3].to_list()

    def rank(*ids: str) -> list[v1.RankedItem]:
        request = v1.RankRequest(item_ids=ids, user_id="never-seen", as_of=UNTIL)
        return list(call.stub.Rank(request, timeout=30.0).items)

    alone = rank(*known)
    assert unknown(server, "item") == before
    mixed = rank("no such", known[0], "nor this", *known[1:])
    assert mixed[:3] == alone
    assert [(item.item_id, item.tier) for item in mixed[3:]] == [
        ("no such", v1.Tier.TIER_UNKNOWN_ITEM),
        ("nor this", v1.Tier.TIER_UNKNOWN_ITEM),
    ]
    assert unknown(server, "item") == before + 2


@pytest.mark.parametrize("query", HURTFUL, ids=range(len(HURTFUL)))
def test_any_query_is_answered_and_logged_as_two_lines(
    served: tuple[Server, Call], trained_shop: TrainedShop, query: str, log: io.StringIO
) -> None:
    found = answer(served[1], query=query, page_size=20)
    assert_sound(found, trained_shop, 20)
    assert not [token for token in found.degraded if token.endswith("_failed")]
    ranked = served[1].stub.Rank(
        v1.RankRequest(query=query, item_ids=[query[:200] or "x", "no such"], as_of=UNTIL),
        timeout=30.0,
    )
    assert len(ranked.items) == 2
    until(lambda: log.getvalue().count("\n") >= 2)
    assert [(line["event"], line["code"]) for line in lines(log)] == [("call", "OK")] * 2


@pytest.mark.parametrize("text", HURTFUL[1:], ids=range(1, len(HURTFUL)))
def test_any_id_is_one_that_nothing_is_known_of(served: tuple[Server, Call], text: str) -> None:
    id_ = text[:200]
    found = answer(served[1], user_id=id_, session_id=id_, context_item_ids=[id_])
    assert list(found.items) == list(answer(served[1]).items)
    (ranked,) = served[1].stub.Rank(v1.RankRequest(item_ids=[id_], as_of=UNTIL)).items
    assert (ranked.item_id, ranked.tier) == (id_, v1.Tier.TIER_UNKNOWN_ITEM)


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


ADMIN = v1.admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"]


@pytest.mark.parametrize(
    "method",
    [
        *(f"/{ADMIN.full_name}/{method.name}" for method in ADMIN.methods),
        "/grpc.channelz.v1.Channelz/GetServers",
        "/grpc.channelz.v1.Channelz/GetTopChannels",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
def test_shops_are_offered_nothing_of_the_operators(method: str) -> None:
    with running(ShelfRanker()) as (_, call):
        send = call.channel.unary_unary(method, bytes, bytes)
        code, _, _ = refusal(lambda: send(b"", timeout=5.0))
    assert code is grpc.StatusCode.UNIMPLEMENTED
