"""What callers say of shoppers turns up in no log, no metric and no error, whatever happens."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.request import urlopen

import grpc
import pytest
from shelf_ranker import ShelfRanker
from shelf_server import Call, raising, running
from test_event_service import event
from trained_shop import TrainedShop

from recsys import v1
from recsys.errors import ModelError
from recsys.state import SqliteStateStore

CANARY: Final = "canary-4711"
USER: Final = f"{CANARY}-user"
EMAIL: Final = f"{CANARY}@example.org"
QUERY: Final = f"gift for {CANARY}"
SECRET: Final = f"Bearer {CANARY}-token"
METADATA: Final = (("authorization", SECRET), ("x-user", EMAIL))


@dataclass(frozen=True)
class Process:
    """A `recsys serve`: its process, a connection to it, its metrics' address, its log so far."""

    process: subprocess.Popen[str]
    call: Call
    metrics: str
    log: list[str]


@pytest.fixture(scope="module")
def server(
    trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    state = tmp_path_factory.mktemp("state") / "state.sqlite"
    command = [sys.executable, "-m", "serving.cli.main", "serve", "--port", "0"]
    options = ["--registry", str(trained_shop.registry), "--state", str(state)]
    with subprocess.Popen(
        [*command, *options, "--metrics-port", "0"], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        log: list[str] = []
        try:
            while not log or json.loads(log[-1])["event"] != "ready":
                log.append(process.stderr.readline())
            told = {line["event"]: line.get("address", "") for line in map(json.loads, log)}
            call = Call(told["ready"])
            yield Process(process, call, told["metrics"], log)
            call.channel.close()
        finally:
            process.kill()


def ask(call: Call) -> list[str]:
    """Good and failing calls of every kind; gives all that the failing ones were told."""
    raw = {
        name: call.channel.unary_unary(f"/recsys.v1.{name}", bytes, bytes)
        for name in ("RecommendationService/Recommend", "EventService/RecordEvents", f"{CANARY}/X")
    }
    good = v1.RecommendRequest(user_id=USER, session_id=EMAIL, query=QUERY, explain=True)
    bad_events = [
        event(CANARY, user_id=EMAIL * 30),
        event(CANARY, user_id=USER, event_type=CANARY),
        event(f"{CANARY}-2", user_id=USER, query=QUERY * 200, text=EMAIL, price=-1.0),
    ]
    good_events = [event(EMAIL, user_id=USER, query=QUERY, text=EMAIL, attribution_token=SECRET)]
    calls: list[Callable[[], object]] = [
        lambda: call.stub.Recommend(good, timeout=20.0, metadata=METADATA),
        lambda: call.stub.Rank(
            v1.RankRequest(user_id=USER, query=QUERY, item_ids=[EMAIL, "I00001"]), timeout=20.0
        ),
        lambda: call.events.RecordEvents(v1.RecordEventsRequest(events=good_events), timeout=20.0),
        lambda: call.events.RecordEvents(v1.RecordEventsRequest(events=bad_events), timeout=20.0),
        lambda: call.recommend(user_id=USER, query=QUERY, page_size=-1),
        lambda: call.recommend(user_id=USER * 99),
        lambda: call.recommend(session_id=EMAIL * 99),
        lambda: call.recommend(query=QUERY * 99_000),
        lambda: call.recommend(user_id=USER, query=QUERY, timeout=0.002),
        lambda: call.recommend(user_id=USER, context_item_ids=[EMAIL, ""]),
        lambda: call.stub.Rank(v1.RankRequest(user_id=USER, query=QUERY), timeout=5.0),
        lambda: call.events.RecordEvents(v1.RecordEventsRequest(), timeout=5.0, metadata=METADATA),
        *(lambda send=send: send(f"\xff{EMAIL}".encode(), timeout=5.0) for send in raw.values()),
    ]
    told = []
    for one in calls:
        try:
            one()
        except grpc.RpcError as error:
            failed = cast("grpc.Call", error)
            told.append(f"{failed.code()} {failed.details()} {failed.trailing_metadata()}")
    return told


def test_nobody_is_in_logs_metrics_and_errors_of_a_server_nor_in_cores(server: Process) -> None:
    limits = Path(f"/proc/{server.process.pid}/limits").read_text().splitlines()
    (core,) = (line.split() for line in limits if line.startswith("Max core"))
    assert core[4:6] == ["0", "0"]
    told = ask(server.call)
    with urlopen(f"http://{server.metrics}/metrics") as answer:
        metrics = answer.read().decode()
    server.process.send_signal(signal.SIGTERM)
    assert server.process.stderr
    log = "".join([*server.log, server.process.stderr.read()])
    assert server.process.wait(20) == 0
    assert len(told) >= 10
    assert "recsys_call_seconds_count" in metrics
    assert [json.loads(line)["event"] for line in log.splitlines()][-1] == "stopped"
    for text in (*told, metrics, log):
        assert CANARY not in text


def test_nobody_is_in_the_log_when_the_server_s_own_parts_fail(
    log: io.StringIO, tmp_path: Path
) -> None:
    ranker = ShelfRanker()
    store = SqliteStateStore(tmp_path / "state.sqlite")
    with closing(store), running(ranker, store) as (_, call):
        ranker.before_answering = raising(ModelError(f"{USER} {QUERY}"))
        told = ask(call)
        ranker.before_answering = raising(ValueError(f"{USER} {QUERY}"))
        told += ask(call)
        store.close()
        told += ask(call)
    assert sum("StatusCode.INTERNAL" in one for one in told) >= 4
    assert sum("StatusCode.UNAVAILABLE" in one for one in told) >= 2
    assert '"event": "state_store"' in log.getvalue()
    for text in (*told, log.getvalue()):
        assert CANARY not in text
