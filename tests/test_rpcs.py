"""What callers may send, what comes back, and how a bad request is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf_ranker import HORIZON, ShelfRanker
from shelf_server import NOW, Call, refusal, running

from recsys import v1
from serving.response_writing import attribution_token
from serving.server import SERVICE


@pytest.fixture(scope="module")
def shelf() -> Iterator[tuple[ShelfRanker, Call]]:
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        yield ranker, call


def test_recommend_answers_with_cards_token_and_version(shelf: tuple[ShelfRanker, Call]) -> None:
    ranker, call = shelf
    response = call.recommend(user_id="u1", page_size=2, explain=True)
    assert [item.item_id for item in response.items] == ["mug", "cup"]
    first, second = response.items
    assert (first.title, first.price, first.currency) == ("Red mug", 4.5, "GBP")
    assert list(first.categories) == ["Kitchen", "Mugs"]
    assert list(first.sources) == ["own_items", "popular"]
    assert first.tier == v1.Tier.TIER_RANKER
    assert first.cross_encoder_score == 0.25
    assert not second.HasField("cross_encoder_score")
    assert [(part.group, part.value) for part in first.explanation][:2] == [
        ("base", -1.0),
        ("text", 0.8),
    ]
    assert response.bundle_version == ranker.version
    assert len(response.attribution_token) == 22
    assert list(response.degraded) == ["stale_bundle"]


def test_absent_fields_get_their_defaults(shelf: tuple[ShelfRanker, Call]) -> None:
    ranker, call = shelf
    call.recommend()
    asked = ranker.asked[-1]
    assert asked == type(asked)(page_size=10, as_of=NOW)  # type: ignore[call-arg]


def test_a_ranking_has_the_time_of_its_call_up_to_the_servers_limit() -> None:
    ranker = ShelfRanker()
    with running(ranker, max_answer_seconds=3.0, reserve_seconds=0.1) as (_, call):
        for timeout in (None, 60.0, 2.0):
            call.recommend(timeout=timeout)
        call.send(v1.RankRequest(item_ids=["mug"]))
    endless, late, soon, rank = ranker.seconds
    for capped in (endless, late, rank):
        assert 2.5 < capped <= 3.0
    assert 1.4 < soon < 1.95


def test_an_item_without_price_has_none_on_the_wire(shelf: tuple[ShelfRanker, Call]) -> None:
    items = shelf[1].recommend().items
    assert [item.item_id for item in items if not item.HasField("price")] == ["card"]


def test_equal_requests_get_equal_responses_and_tokens_tell_requests_apart(
    shelf: tuple[ShelfRanker, Call],
) -> None:
    _, call = shelf
    moment = Timestamp(seconds=int(NOW.timestamp()))
    asked = [call.recommend(user_id=user, as_of=moment) for user in ("a", "a", "b")]
    assert asked[0].SerializeToString() == asked[1].SerializeToString()
    later = call.recommend(user_id="a", as_of=Timestamp(seconds=moment.seconds + 1))
    tokens = {response.attribution_token for response in (*asked, later)}
    assert len(tokens) == 3


def test_a_token_stands_for_one_message_bundle_and_moment() -> None:
    tokens = {
        attribution_token(message, version, moment)
        for message in (v1.RecommendRequest(user_id="a"), v1.RankRequest(item_ids=["a"]))
        for version in ("v000001", "v000002")
        for moment in (NOW, HORIZON, None)
    }
    assert len(tokens) == 12


def test_rank_returns_every_id_once_unknown_ones_last_and_flagged(
    shelf: tuple[ShelfRanker, Call],
) -> None:
    request = v1.RankRequest(item_ids=["x", "lamp", "mug", "x", "a", "lamp"])
    response = shelf[1].send(request)
    assert isinstance(response, v1.RankResponse)
    assert [item.item_id for item in response.items] == ["mug", "lamp", "x", "a"]
    tiers = [item.tier for item in response.items]
    assert tiers == [v1.Tier.TIER_RANKER] * 2 + [v1.Tier.TIER_UNKNOWN_ITEM] * 2
    assert response.items[2].title == ""


def test_similar_items_leaves_the_item_out(shelf: tuple[ShelfRanker, Call]) -> None:
    response = shelf[1].send(v1.SimilarItemsRequest(item_id="mug", page_size=3))
    assert isinstance(response, v1.SimilarItemsResponse)
    assert [item.item_id for item in response.items] == ["cup", "vase", "lamp"]


def test_similar_items_of_an_unknown_item_is_not_found(shelf: tuple[ShelfRanker, Call]) -> None:
    code, text, blamed = refusal(lambda: shelf[1].send(v1.SimilarItemsRequest(item_id="x")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert blamed == ["item_id"]
    assert "'x'" in text


def wanted(**fields: object) -> v1.RecommendRequest:
    return v1.RecommendRequest(**fields)  # type: ignore[arg-type]


def filtered(**fields: object) -> v1.RecommendRequest:
    return v1.RecommendRequest(filter=v1.ItemFilter(**fields))  # type: ignore[arg-type]


BAD_REQUESTS: list[tuple[Message, str]] = [
    (wanted(page_size=-1), "page_size"),
    (wanted(page_size=201), "page_size"),
    (wanted(page_size=2**31 - 1), "page_size"),
    (wanted(user_id="u" * 257), "user_id"),
    (wanted(session_id="s" * 257), "session_id"),
    (wanted(query="q" * 131_073), "query"),
    (wanted(context_item_ids=["i"] * 1001), "context_item_ids"),
    (wanted(context_item_ids=["i", ""]), "context_item_ids[1]"),
    (wanted(as_of=Timestamp(seconds=2**60)), "as_of"),
    (wanted(as_of=Timestamp(nanos=-1)), "as_of"),
    (wanted(as_of=Timestamp(seconds=int(HORIZON.timestamp()) - 1)), "as_of"),
    (filtered(min_price=math.nan), "filter.min_price"),
    (filtered(min_price=-0.01), "filter.min_price"),
    (filtered(max_price=math.inf), "filter.max_price"),
    (filtered(min_price=2.0, max_price=1.0), "filter.min_price"),
    (filtered(categories=["c"] * 1001), "filter.categories"),
    (filtered(brands=["b" * 257]), "filter.brands"),
    (filtered(exclude_item_ids=[""]), "filter.exclude_item_ids[0]"),
    (v1.RankRequest(), "item_ids"),
    (v1.RankRequest(item_ids=[str(i) for i in range(1001)]), "item_ids"),
    (v1.RankRequest(item_ids=["mug"], query="q" * 131_073), "query"),
    (v1.SimilarItemsRequest(), "item_id"),
    (v1.SimilarItemsRequest(item_id="mug", page_size=201), "page_size"),
    (v1.SimilarItemsRequest(item_id="mug", page_size=-1), "page_size"),
    (v1.SimilarItemsRequest(item_id="mug", page_size=10**7), "page_size"),
]


@pytest.mark.parametrize(
    ("request_", "field"), BAD_REQUESTS, ids=[f"{n}-{f}" for n, (_, f) in enumerate(BAD_REQUESTS)]
)
def test_a_field_beyond_its_limit_is_named(
    shelf: tuple[ShelfRanker, Call], request_: Message, field: str
) -> None:
    asked = len(shelf[0].asked)
    code, text, blamed = refusal(lambda: shelf[1].send(request_))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert blamed == [field]
    if field != "as_of":  # what it may be, only the bundle knows
        assert len(shelf[0].asked) == asked
    assert text.startswith(f"{field}: ")
    assert len(text) < 1024


@pytest.mark.parametrize(
    "request_",
    [
        wanted(page_size=200),
        wanted(query="q" * 131_072),
        wanted(query="\0 \u202e 👩‍👩‍👧 e\u0301"),
        wanted(context_item_ids=["i"] * 1000),
        wanted(as_of=Timestamp(seconds=int(HORIZON.timestamp()))),
        filtered(min_price=0.0, max_price=0.0),
        v1.RankRequest(item_ids=[str(i) for i in range(1000)]),
    ],
    ids=range(7),
)
def test_a_field_at_its_limit_is_taken(shelf: tuple[ShelfRanker, Call], request_: Message) -> None:
    assert shelf[1].send(request_).ByteSize() > 0


def test_only_the_start_of_a_long_query_is_read(shelf: tuple[ShelfRanker, Call]) -> None:
    ranker, call = shelf
    call.recommend(query="ab" * 5_000)
    assert ranker.asked[-1].query == "ab" * 1_000  # type: ignore[union-attr]


def test_a_message_over_the_size_limit_is_refused_and_the_next_call_answered(
    shelf: tuple[ShelfRanker, Call],
) -> None:
    code, _, _ = refusal(lambda: shelf[1].recommend(query="q" * (2 << 20)))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert shelf[1].recommend().items


@settings(max_examples=60, deadline=None)
@given(noise=st.binary(max_size=80))
def test_random_bytes_never_get_status_unknown(
    shelf: tuple[ShelfRanker, Call], noise: bytes
) -> None:
    send = shelf[1].channel.unary_unary(f"/{SERVICE}/Recommend", bytes, bytes)
    outcome = grpc.StatusCode.OK
    try:
        send(noise, timeout=5.0)
    except grpc.RpcError as failure:
        outcome = failure.code()
    assert outcome.name in {"OK", "INVALID_ARGUMENT"}
