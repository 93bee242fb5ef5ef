"""Callers who leave: nothing more is computed for them, and nothing of them stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from shelf_ranker import ShelfRanker
from shelf_server import Call, running, until, waits
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.errors import CallCancelledError
from recsys.recommender import UNWATCHED, Deadline, PointInTime, RankRequest, Recommender
from recsys.text.joined_layers import JoinedLayers
from serving.server import SERVICE, Server

CLIENT = """
import os, socket, struct, sys, threading
import grpc
from recsys import v1
channel = grpc.insecure_channel(sys.argv[1])
grpc.channel_ready_future(channel).result(60)
stub = v1.RecommendationServiceStub(channel)
calls = [stub.Recommend.future(v1.RecommendRequest(), timeout=60) for _ in range(4)]
reset = 0
for descriptor in map(int, os.listdir("/proc/self/fd")):
    if os.path.exists(f"/proc/self/fd/{descriptor}"):
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
            with socket.socket(fileno=os.dup(descriptor)) as one:
                if one.family in (socket.AF_INET, socket.AF_INET6):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    reset += 1
print("will reset" if reset else "has no connection", flush=True)
threading.Event().wait()
"""
"""A client whose connection is reset (RST) rather than closed when it is killed."""


def metric(server: Server, name: str, **labels: str) -> float:
    return server.metrics.registry.get_sample_value(f"recsys_{name}", labels) or 0.0


def ended(server: Server, code: str, method: str = "Recommend") -> float:
    return metric(server, "call_seconds_count", method=f"/{SERVICE}/{method}", code=code)


@pytest.fixture
def recommender(trained_shop: TrainedShop) -> Iterator[Recommender]:
    contents = trained_shop.recommender._contents
    contents.texts.scorer.forget()
    yield Recommender(contents, trained_shop.recommender.version, UNTIL)
    contents.texts.scorer.forget()


class Gate:
    """Lets a method run but for its n-th call, which waits until it is opened."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, closed_at: int
    ) -> None:
        self.calls = 0
        self.open = threading.Event()
        method = getattr(owner, name)

        def gated(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == closed_at:
                waits(self.open)
            return method(*arguments)

        monkeypatch.setattr(owner, name, gated)


def test_scoring_stops_at_the_next_chunk_once_the_caller_is_gone(
    recommender: Recommender, trained_shop: TrainedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = trained_shop.tables.items["item_id"].to_list()
    monkeypatch.setattr("recsys.text.scorer.TOKENS_PER_CHUNK", 200)
    with running(recommender, max_answer_seconds=60.0) as (server, call):
        gate = Gate(monkeypatch, JoinedLayers, "logits", closed_at=2)
        leave(call, gate, 2, v1.RankRequest(item_ids=items, as_of=UNTIL))
        until(lambda: ended(server, "CANCELLED", "Rank") == 1)
        assert gate.calls == 2
        assert metric(server, "calls_under_way") == metric(server, "calls_scoring") == 0
        complete = call.stub.Rank(v1.RankRequest(item_ids=items, as_of=UNTIL), timeout=30.0)
    assert len(complete.items) == len(items)
    assert gate.calls > 2 + 2


def test_no_stage_begins_for_a_caller_who_is_gone(
    recommender: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Gate(monkeypatch, PointInTime, "read", closed_at=0)
    with running(recommender, max_answer_seconds=60.0) as (server, call):
        read.calls = 0
        gate = Gate(monkeypatch, PointInTime, "unread", closed_at=1)
        leave(call, gate, 1, v1.RecommendRequest(as_of=UNTIL))
        until(lambda: ended(server, "CANCELLED") == 1)
        assert read.calls == 0
        assert metric(server, "calls_under_way") == 0


def leave(
    call: Call, gate: Gate, calls: int, request: v1.RankRequest | v1.RecommendRequest
) -> None:
    """Send a request, cancel it at the gate, open the gate once the server knows."""
    method = call.stub.Rank if isinstance(request, v1.RankRequest) else call.stub.Recommend
    future = method.future(request, timeout=30.0)
    until(lambda: gate.calls == calls)
    future.cancel()
    call.health_of("")  # the cancellation went before it on the same connection
    gate.open.set()


def test_a_hundred_callers_who_leave_at_once_leave_nothing_behind() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with running(ranker, workers=2, max_waiting_calls=98, max_wait_seconds=60.0) as (server, call):
        ranker.before_answering = lambda: waits(gate, 60.0)
        futures = [
            call.stub.Recommend.future(v1.RecommendRequest(), timeout=30) for _ in range(100)
        ]
        until(lambda: metric(server, "calls_waiting") == 98)
        for future in futures:
            future.cancel()
        until(lambda: metric(server, "calls_waiting") == 0)
        gate.set()
        until(lambda: metric(server, "calls_under_way") == 0)
        ranker.before_answering = lambda: None
        assert call.recommend().items
        assert metric(server, "refused_calls_total", reason="cancelled_in_queue") == 98
        assert ended(server, "CANCELLED") == 98
    assert len(ranker.asked) == 2 + 1


def test_a_client_that_is_killed_leaves_no_call_and_no_file_open(project_root: Path) -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with running(ranker, workers=2) as (server, call):
        assert call.recommend().items
        ranker.before_answering = lambda: waits(gate)
        before = open_files()
        for _ in range(3):
            command = [sys.executable, "-c", CLIENT, f"127.0.0.1:{call.port}"]
            with subprocess.Popen(command, cwd=project_root, stdout=subprocess.PIPE) as client:
                assert client.stdout
                assert client.stdout.readline() == b"will reset\n"
                until(lambda: metric(server, "calls_under_way") >= 4)
                client.send_signal(signal.SIGKILL)
        gate.set()
        until(lambda: metric(server, "calls_under_way") == 0)
        ranker.before_answering = lambda: None
        assert call.recommend().items
        until(lambda: open_files() <= before)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Gone:
    """A caller who left."""

    wanted = False

    def __getattr__(self, name: str) -> Any:
        return getattr(UNWATCHED, name)


def test_a_recommender_computes_nothing_for_somebody_who_left(
    recommender: Recommender, trained_shop: TrainedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread = Gate(monkeypatch, PointInTime, "queries", closed_at=0)
    items = tuple(trained_shop.tables.items["item_id"][:3])
    with pytest.raises(CallCancelledError):
        recommender.rank(
            RankRequest(items, as_of=UNTIL), Deadline.after(9, lambda: 0.0, watcher=Gone())
        )
    assert unread.calls == 0


def test_calls_with_hardly_any_time_never_end_with_an_unknown_status(
    recommender: Recommender,
) -> None:
    with running(recommender) as (server, call), ThreadPoolExecutor(8) as pool:

        def code(number: int) -> str:
            try:
                call.recommend(timeout=0.001 * (1 + number % 8), as_of=UNTIL)
            except grpc.RpcError as error:
                return str(error.code().name)
            return "OK"

        codes = set(pool.map(code, range(200)))
        until(lambda: metric(server, "calls_under_way") == 0)
    assert codes <= {"OK", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
