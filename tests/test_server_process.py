"""The server as a process: its log on stderr, and what signals do to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from shelf_ranker import SHELF

from recsys import v1
from recsys.errors import UnavailableError
from serving.client import RecommendationClient

TESTS = Path(__file__).parent
PROCESS = """
import time
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
    ranker.before_answering = lambda: time.sleep({seconds})
configure_logs()
settings = ServerSettings(port=0, drain_seconds=30, metrics_port=0)
serve_until_stopped(settings, served, slow_from_now_on)
"""


@contextmanager
def process(seconds: float) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """A server process whose calls take `seconds`; with its address and its log so far."""
    code = PROCESS.format(seconds=seconds)
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=TESTS, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr
        seen: list[str] = []
        try:
            while not seen or json.loads(seen[-1])["event"] != "ready":
                seen.append(server.stderr.readline())
            yield server, json.loads(seen[-1])["address"], seen
        finally:
            server.kill()


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
        (metrics,) = [
            line["address"] for line in map(json.loads, seen) if line["event"] == "metrics"
        ]
        with RecommendationClient(address) as client:
            client.recommend(v1.RecommendRequest())
        with urlopen(f"http://{metrics}/metrics") as page:
            text = page.read().decode()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    assert metrics.startswith("127.0.0.1:")
    assert metrics != address
    assert 'recsys_call_seconds_count{code="OK",method="/recsys.v1.Recomm' in text
