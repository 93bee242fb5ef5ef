"""Connections to the server: how old they may get, and who asks whom whether they still stand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import grpc
import psutil
from shelf_ranker import SHELF, ShelfRanker
from shelf_server import Call, refusal, running, until, waits

from recsys import v1

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
PING: Final = bytes([0, 0, 8, 6, 0, 0, 0, 0, 0]) + b"are you?"
HEAD_BYTES: Final = 9
PINGED: Final = (6, 0)
PING_ANSWERED: Final = (6, 1)
SENT_AWAY: Final = (7, 0)
ENHANCE_YOUR_CALM: Final = 11


class BareClient:
    """A connection that says of HTTP/2 what it is told to, and answers nothing by itself."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10.0)
        self._received = self.socket.makefile("rb")
        self.socket.sendall(PREFACE + SETTINGS)

    def received(self, wanted: tuple[int, int]) -> bytes | None:
        """Content of the next frame of a type and flags; None if the connection ends before."""
        while len(head := self._read(HEAD_BYTES)) == HEAD_BYTES:
            content = self._read(int.from_bytes(head[:3]))
            if (head[3], head[4]) == wanted:
                return content
        return None

    def close(self) -> None:
        self._received.close()
        self.socket.close()

    def _read(self, size: int) -> bytes:
        try:
            return self._received.read(size)
        except ConnectionResetError:
            return b""


@contextmanager
def bare_client(**settings: object) -> Iterator[BareClient]:
    """Such a connection to a server of its own."""
    with running(ShelfRanker(), **settings) as (_, call):
        client = BareClient(call.port)
        try:
            yield client
        finally:
            client.close()


def answered(asked: bytes) -> bytes:
    """The answer to whether this side is there."""
    return bytes([0, 0, 8, *PING_ANSWERED, 0, 0, 0, 0]) + asked


def ports_to(call: Call) -> set[int]:
    """This side's ports of the connections to a server that stand."""
    return {
        found.laddr.port
        for found in psutil.Process().net_connections("tcp")
        if found.raddr and found.raddr.port == call.port and found.status == psutil.CONN_ESTABLISHED
    }


def test_calls_go_on_without_an_error_over_many_ages_of_their_connections() -> None:
    seen: set[int] = set()
    with running(ShelfRanker(), max_connection_age_seconds=0.2) as (_, call):

        def has_changed_often() -> bool:
            assert len(call.recommend().items) == len(SHELF)
            seen.update(ports_to(call))
            return len(seen) >= 6

        until(has_changed_often)
        until(lambda: len(ports_to(call)) <= 1)


def test_calls_share_a_connection_that_is_young_enough() -> None:
    seen: set[int] = set()
    with running(ShelfRanker()) as (_, call):
        for _ in range(100):
            call.recommend()
            seen |= ports_to(call)
    assert len(seen) == 1


def test_a_call_under_way_ends_well_though_its_connection_is_too_old() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, max_connection_age_seconds=0.2) as (_, call),
        ThreadPoolExecutor(1) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        answer = pool.submit(call.recommend, 30.0)
        until(lambda: len(ranker.asked) == 1)
        (old,) = ports_to(call)
        until(lambda: bool(call.health_of("") and ports_to(call) - {old}))
        assert old in ports_to(call)
        gate.set()
        assert len(answer.result().items) == len(SHELF)
        until(lambda: old not in ports_to(call))


def test_a_call_that_outlasts_the_grace_of_an_old_connection_is_cut_off() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    age = {"max_connection_age_seconds": 0.2, "max_connection_age_grace_seconds": 0.2}
    with running(ranker, **age) as (_, call), ThreadPoolExecutor(1) as pool:
        ranker.before_answering = lambda: waits(gate, 30.0)
        answer = pool.submit(call.recommend, 20.0)
        code, _, _ = refusal(answer.result)
        gate.set()
        ranker.before_answering = lambda: None
        assert code is grpc.StatusCode.UNAVAILABLE
        assert call.recommend().items


def test_a_client_that_asks_as_often_as_it_may_is_answered_every_time() -> None:
    with bare_client(min_client_ping_seconds=0.2) as client:
        for _ in range(8):
            client.socket.sendall(PING)
            assert client.received(PING_ANSWERED) == b"are you?"
            time.sleep(0.25)  # a little longer than it has to wait


def test_a_client_that_asks_far_more_often_than_it_may_is_sent_away() -> None:
    with bare_client() as client:
        for _ in range(4):
            client.socket.sendall(PING)
        said = client.received(SENT_AWAY)
        assert said is not None
        assert int.from_bytes(said[4:8]) == ENHANCE_YOUR_CALM
        assert said[8:] == b"too_many_pings"
        assert client.received(SENT_AWAY) is None


def test_a_grpc_client_that_asks_too_often_loses_its_calls_under_way_and_hears_why() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    options = [
        ("grpc.keepalive_time_ms", 200),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with (
        running(ranker) as (_, call),
        grpc.insecure_channel(f"127.0.0.1:{call.port}", options=options) as channel,
    ):
        ranker.before_answering = lambda: waits(gate, 30.0)
        stub = v1.RecommendationServiceStub(channel)
        code, text, _ = refusal(lambda: stub.Recommend(v1.RecommendRequest(), timeout=20.0))
        gate.set()
        ranker.before_answering = lambda: None
        assert (code, text) == (grpc.StatusCode.UNAVAILABLE, "Too many pings")
        assert call.recommend().items


def test_a_silent_client_is_asked_again_and_again_whether_it_is_there() -> None:
    with bare_client(keepalive_seconds=0.2) as client:
        for _ in range(3):
            asked = client.received(PINGED)
            assert asked is not None
            client.socket.sendall(answered(asked))


def test_a_silent_client_that_does_not_answer_is_cut_off() -> None:
    with bare_client(keepalive_seconds=0.2, keepalive_timeout_seconds=0.2) as client:
        assert client.received(PINGED) is not None
        assert client.received(PINGED) is None
