"""The client and `recsys recommend`, against a real server."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from shelf_ranker import SHELF, ShelfRanker
from shelf_server import raising, running, waits

from recsys import v1
from recsys.errors import (
    DeadlineError,
    OverloadedError,
    RequestError,
    ServiceError,
    UnavailableError,
    UnknownItemError,
)
from recsys.recommender import ItemFilter, RecommendRequest
from serving.cli.main import main
from serving.client import RecommendationClient


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[ShelfRanker, str]]:
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        yield ranker, f"127.0.0.1:{call.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def recsys(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["recommend", *arguments])
    return ended.value.code


def test_the_client_offers_every_call(served: tuple[ShelfRanker, str]) -> None:
    with RecommendationClient(served[1]) as client:
        assert len(client.recommend(v1.RecommendRequest()).items) == len(SHELF)
        assert [i.item_id for i in client.rank(v1.RankRequest(item_ids=["x"])).items] == ["x"]
        assert client.similar_items(v1.SimilarItemsRequest(item_id="mug")).items[0].item_id == "cup"


def test_the_client_raises_our_own_errors(served: tuple[ShelfRanker, str]) -> None:
    with RecommendationClient(served[1]) as client:
        with pytest.raises(RequestError, match=r"^page_size: is -1") as refused:
            client.recommend(v1.RecommendRequest(page_size=-1))
        assert refused.value.field == "page_size"
        with pytest.raises(UnknownItemError, match="'x' is not in the catalogue"):
            client.similar_items(v1.SimilarItemsRequest(item_id="x"))


def test_a_fault_of_the_server_s_is_a_service_error() -> None:
    ranker = ShelfRanker()
    with running(ranker) as (_, call), RecommendationClient(f"127.0.0.1:{call.port}") as client:
        ranker.before_answering = raising(KeyError("gone"))
        with pytest.raises(ServiceError, match=r"^INTERNAL from ") as failed:
            client.recommend(v1.RecommendRequest())
    assert type(failed.value) is ServiceError


def test_late_overloaded_and_starting_servers_are_told_apart() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with running(None, workers=1, max_waiting_calls=0) as (server, call):
        address = f"127.0.0.1:{call.port}"
        with RecommendationClient(address, deadline_seconds=0.2) as client:
            with pytest.raises(UnavailableError, match="the server is starting"):
                client.recommend(v1.RecommendRequest())
            server.install(ranker)
            ranker.before_answering = lambda: waits(gate)
            with pytest.raises(DeadlineError, match=r"did not answer within 0\.2 s"):
                client.recommend(v1.RecommendRequest())
            with pytest.raises(OverloadedError, match="limit of calls"):
                client.recommend(v1.RecommendRequest())
        gate.set()


def test_no_server_is_a_message_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert recsys("17841", "--address", address) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"no server answers at {address}; start one with `recsys serve" in shown.err
    assert "Traceback" not in shown.err


def test_the_table_shows_title_price_score_and_reasons(
    served: tuple[ShelfRanker, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert recsys("u[bold]1", "--address", served[1], "--as-of", "2030-04-01") == 0
    shown = capsys.readouterr()
    rows = shown.out.splitlines()
    assert rows[0] == "6 items for u[bold]1 · as of 2030-04-01 00:00 UTC · bundle v000007"
    [mug] = [row for row in rows if "Red mug" in row]
    expected = r"1 +Red mug +mug +£4\.50 +5\.00 █+ +text match · bought before · popular now"
    assert re.search(expected, mug)
    [card] = [row for row in rows if "Birthday card" in row]
    assert re.search(r"card +- ", card)
    assert "bought before" not in card
    assert any("8.00 SEK" in row for row in rows)
    assert "knows no event of the last day" in shown.err


def test_options_become_the_request(served: tuple[ShelfRanker, str]) -> None:
    ranker, address = served
    options = "-k 3 --query tea --context mug --context cup --category Mugs --category Cups"
    flags = "--exclude-purchased --no-explain --json --as-of 2030-04-01T02:00:00+02:00"
    assert recsys("u1", "--address", address, *options.split(), *flags.split()) == 0
    assert ranker.asked[-1] == RecommendRequest(
        user_id="u1",
        query="tea",
        context_item_ids=("mug", "cup"),
        page_size=3,
        filter=ItemFilter(categories=("Mugs", "Cups"), exclude_purchased=True),
        as_of=datetime(2030, 4, 1, tzinfo=UTC),
    )


def test_json_is_one_object_and_nothing_else(
    served: tuple[ShelfRanker, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recsys("u1", "--address", served[1], "--json", "-k", "2") == 0
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    answer = json.loads(shown)
    assert [item["title"] for item in answer["items"]] == ["Red mug", "Blue cup"]
    assert answer["bundle_version"] == "v000007"


def test_an_empty_answer_says_so(
    served: tuple[ShelfRanker, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recsys("", "--address", served[1], "--category", "Garden") == 0
    assert capsys.readouterr().out.startswith("No item passes the filter · bundle")


@pytest.mark.parametrize("wrong", [["--as-of", "yesterday"], ["-k", "0"], ["-k", "201"], []])
def test_wrong_usage_exits_2(wrong: list[str]) -> None:
    assert recsys(*(["u1", *wrong] if wrong else [])) == 2


def test_an_as_of_before_the_horizon_exits_3_naming_the_field(
    served: tuple[ShelfRanker, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert recsys("u1", "--address", served[1], "--as-of", "2020-01-01") == 3
    assert "as_of: is before the bundle's horizon" in capsys.readouterr().err
