"""The server as a process: its log on stderr, and what signals do to it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2
from shelf_ranker import SHELF
from shelf_server import Call, is_unavailable, refusal, until

from recsys import v1
from recsys.errors import UnavailableError
from serving.bench.child import process_status, resident_mib
from serving.client import RecommendationClient
from serving.server import SERVICE

TESTS = Path(__file__).parent
MOST_MIB = 20e6 / 2**20
"""Of memory beside what calls take anyway, for requests that are far too large."""

PROCESS = """
import sys, time
from contextlib import contextmanager
from shelf_ranker import ShelfRanker
from serving.logs import configure_logs
from serving.server import serve_until_stopped
from serving.settings import ServerSettings

ranker = ShelfRanker()
@contextmanager
def served(server):
    server.install(ranker)
    yield ranker.version
def slow_from_now_on(address, version):
    ranker.before_answering = lambda: {pause}
configure_logs()
settings = ServerSettings(port=0, drain_seconds=30, metrics_port=0)
serve_until_stopped(settings, served, slow_from_now_on)
"""


@contextmanager
def process(seconds: float | None) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A server process whose calls take `seconds`; with its address and its log so far.

    Without a number they take until the process's stdin is closed.
    """
    pause = "sys.stdin.read()" if seconds is None else f"time.sleep({seconds})"
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS.format(pause=pause)],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr
        seen: list[str] = []
        try:
            while not seen or json.loads(seen[-1])["event"] != "ready":
                seen.append(server.stderr.readline())
            yield server, json.loads(seen[-1])["address"], seen
        finally:
            server.kill()


def metrics_address(seen: list[str]) -> str:
    (address,) = [line["address"] for line in map(json.loads, seen) if line["event"] == "metrics"]
    return str(address)


def metrics_page(seen: list[str]) -> str:
    with urlopen(f"http://{metrics_address(seen)}/metrics") as page:
        return str(page.read().decode())


def calls_under_way(seen: list[str]) -> float:
    (calls,) = re.findall(r"^recsys_calls_under_way (\S+)$", metrics_page(seen), re.MULTILINE)
    return float(calls)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_lets_calls_under_way_finish_and_exits_0(number: signal.Signals) -> None:
    with process(seconds=0.5) as (server, address, seen), ThreadPoolExecutor(2) as pool:
        with RecommendationClient(address) as client:
            answers = [pool.submit(client.recommend, v1.RecommendRequest()) for _ in range(2)]
            time.sleep(0.2)  # let it arrive
            server.send_signal(number)
            assert all(len(answer.result().items) == len(SHELF) for answer in answers)
        assert server.stderr
        rest = server.stderr.read().splitlines()
        assert server.wait(10) == 0
    events = [json.loads(line)["event"] for line in (*seen, *rest)]
    assert [event for event in events if event != "call"] == [
        "listening",
        "metrics",
        "ready",
        "draining",
        "stopped",
    ]


def test_a_stopping_server_says_so_and_takes_no_new_call_while_calls_under_way_finish() -> None:
    with process(seconds=None) as (server, address, seen), ThreadPoolExecutor(6) as pool:
        call = Call(address)
        answers = [pool.submit(call.recommend, 60.0) for _ in range(6)]
        until(lambda: calls_under_way(seen) == 6)
        assert call.health_of(SERVICE) == health_pb2.HealthCheckResponse.SERVING
        server.send_signal(signal.SIGTERM)
        until(lambda: call.health_of(SERVICE) == health_pb2.HealthCheckResponse.NOT_SERVING)
        until(lambda: is_unavailable(call))
        code, text, _ = refusal(call.recommend)
        assert (code, text) == (
            grpc.StatusCode.UNAVAILABLE,
            "the server is stopping; call another one",
        )
        assert call.health_of("") == health_pb2.HealthCheckResponse.NOT_SERVING
        until(lambda: calls_under_way(seen) == 6)
        assert not any(answer.done() for answer in answers)
        assert server.stdin
        server.stdin.close()
        assert all(len(answer.result().items) == len(SHELF) for answer in answers)
        assert server.wait(10) == 0
        call.channel.close()


@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is read from /proc")
def test_requests_of_a_hundred_thousand_ids_are_refused_with_little_memory() -> None:
    request = v1.RankRequest(item_ids=[f"i{number:06}" for number in range(100_000)])
    with process(seconds=0) as (server, address, _):
        call = Call(address)
        for _ in range(20):
            call.recommend()
        status = process_status(server.pid)
        before = resident_mib("VmRSS", status)
        for _ in range(10):
            code, _, blamed = refusal(lambda: call.send(request))
            assert (code, blamed) == (grpc.StatusCode.INVALID_ARGUMENT, ["item_ids"])
        assert resident_mib("VmHWM", status) - before < MOST_MIB
        assert call.recommend().items
        call.channel.close()


def test_a_second_signal_ends_the_process_at_once() -> None:
    with process(seconds=20) as (server, address, _), RecommendationClient(address) as client:
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(client.recommend, v1.RecommendRequest())
            time.sleep(0.2)  # let it arrive
            server.send_signal(signal.SIGTERM)
            assert server.stderr
            assert json.loads(server.stderr.readline())["event"] == "draining"
            server.send_signal(signal.SIGTERM)
            assert server.wait(5) == 3
        assert isinstance(hanging.exception(timeout=5), UnavailableError)


def test_metrics_are_served_on_a_port_of_their_own_until_the_end() -> None:
    with process(seconds=0) as (server, address, seen):
        metrics = metrics_address(seen)
        with RecommendationClient(address) as client:
            client.recommend(v1.RecommendRequest())
        text = metrics_page(seen)
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert metrics.startswith("127.0.0.1:")
    assert metrics != address
    assert 'recsys_call_seconds_count{code="OK",method="/recsys.v1.Recomm' in text
