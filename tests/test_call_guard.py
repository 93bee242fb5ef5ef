"""The outermost interceptor: how calls end that no handler of ours ever answers."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2_grpc
from log_lines import CANARY, lines
from shelf_ranker import ShelfRanker
from shelf_server import Call, raising, refusal, running, until, waiting_for

from recsys import v1
from recsys.errors import UnavailableError
from serving.call_guard import CallGuard
from serving.calls import CallsUnderWay
from serving.metrics import Metrics
from serving.server import SERVICE


def sent(call: Call, method: str, message: bytes) -> tuple[grpc.StatusCode, str, list[str]]:
    """How a call with raw bytes is refused."""
    return refusal(lambda: call.channel.unary_unary(method, bytes, bytes)(message, timeout=5.0))


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a\x03\xed\xa0\x80",  # a lone surrogate where UTF-8 is due
        b"\x0a\x7f" + CANARY.encode(),  # shorter than it says
        b"\xff" * 8,
        b"\x0b" * 10_000,  # groups within groups
    ],
    ids=["surrogate", "truncated", "garbage", "nested"],
)
def test_a_message_that_cannot_be_read_is_the_callers_fault(
    log: io.StringIO, message: bytes
) -> None:
    with running(ShelfRanker()) as (_, call):
        code, text, blamed = sent(call, f"/{SERVICE}/Recommend", message)
        assert call.recommend().items
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert blamed == ["request"]
    assert CANARY not in text + log.getvalue()
    assert [line["event"] for line in lines(log)] == ["call", "call"]


@pytest.mark.parametrize("method", [f"/{SERVICE}/{CANARY}", f"/{CANARY}/Recommend", "/%s/\x1b[31m"])
def test_an_unknown_method_is_refused_and_not_repeated(log: io.StringIO, method: str) -> None:
    with running(ShelfRanker()) as (_, call):
        code, text, _ = sent(call, method, b"")
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert text == "this server offers no such method"
    assert [line["method"] for line in lines(log)] == ["unknown"]
    assert CANARY not in log.getvalue()


@pytest.mark.parametrize("error", [SystemExit(CANARY), MemoryError(CANARY), RecursionError(CANARY)])
def test_even_an_error_that_would_end_a_program_ends_one_call(
    log: io.StringIO, error: BaseException
) -> None:
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        ranker.before_answering = raising(error)
        code, text, _ = refusal(call.recommend)
        ranker.before_answering = lambda: None
        assert call.recommend().items
    assert code is grpc.StatusCode.INTERNAL
    assert CANARY not in text + log.getvalue()


def test_an_answer_that_cannot_be_written_is_a_fault(log: io.StringIO) -> None:
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        ranker.version = f"\ud800 {CANARY}"  # no UTF-8 can hold it
        code, text, _ = refusal(call.recommend)
    assert code is grpc.StatusCode.INTERNAL
    assert CANARY not in text + log.getvalue()
    assert "fault" in [line["event"] for line in lines(log)]


class Broken(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Streams that raise, before and after a first answer."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        if handler_call_details.method == "/broken/lookup":
            raise KeyError(CANARY)
        first = [b"one"] if handler_call_details.method == "/broken/late" else []

        def answers(_: bytes, __: grpc.ServicerContext) -> Iterator[bytes]:
            yield from first
            raise KeyError(CANARY)

        return grpc.unary_stream_rpc_method_handler(answers)


@contextmanager
def broken_server() -> Iterator[grpc.Channel]:
    with ThreadPoolExecutor(2) as pool:
        guard = CallGuard(CallsUnderWay(), pool, pool, lambda _: None, Metrics().called)
        server = grpc.server(pool, interceptors=[guard])
        server.add_generic_rpc_handlers((Broken(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
        server.stop(0).wait()


@pytest.mark.parametrize("method", ["early", "late", "lookup"])
def test_a_stream_that_fails_tells_an_id_only(log: io.StringIO, method: str) -> None:
    with broken_server() as channel:
        stream = channel.unary_stream(f"/broken/{method}", bytes, bytes)
        code, text, _ = refusal(lambda: list(stream(b"", timeout=5.0)))
    fault = next(line for line in lines(log) if line["event"] == "fault")
    assert code is grpc.StatusCode.INTERNAL
    assert text == f"a fault of the server's, logged under {fault['fault_id']}"
    assert CANARY not in log.getvalue()


def test_a_caller_who_leaves_a_stream_is_no_fault(log: io.StringIO) -> None:
    with running(ShelfRanker(), reflection=True) as (_, call):
        gate = threading.Event()
        stub = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        stream = stub.ServerReflectionInfo(waiting_for(gate))
        time.sleep(0.1)  # let it arrive
        stream.cancel()
        until(lambda: bool(lines(log)))
        gate.set()
    assert [line["code"] for line in lines(log)] == ["CANCELLED"]


def test_health_of_a_service_nobody_offers_is_not_found(log: io.StringIO) -> None:
    with running(ShelfRanker()) as (_, call):
        request = health_pb2.HealthCheckRequest(service=CANARY)
        code, text, _ = refusal(lambda: call.health.Check(request, timeout=5.0))
        watch = call.health.Watch(request, timeout=5.0)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()
    assert code is grpc.StatusCode.NOT_FOUND
    assert CANARY not in text + log.getvalue()


def test_calls_are_counted_until_they_end_however_they_end() -> None:
    calls = CallsUnderWay()
    with calls.one():
        fault = raising(KeyError())
        with pytest.raises(KeyError):
            counted(calls, fault)
        counted(calls, lambda: None)
        assert len(calls) == 1
    assert len(calls) == 0
    assert calls.wait(0)
    calls.close()
    with pytest.raises(UnavailableError):
        counted(calls, lambda: None)
    assert len(calls) == 0


def counted(calls: CallsUnderWay, action: Callable[[], None]) -> None:
    before = len(calls)
    with calls.one():
        assert len(calls) == before + 1
        action()


def test_a_request_of_a_hundred_thousand_ids_is_refused_unranked() -> None:
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        refused = refusal(lambda: call.send(v1.RankRequest(item_ids=["x"] * 100_000)))
        larger = refusal(lambda: call.send(v1.RankRequest(item_ids=["x"] * 1_000_000)))
        assert call.recommend().items
    assert refused[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert refused[2] == ["item_ids"]
    assert larger[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(ranker.asked) == 1
