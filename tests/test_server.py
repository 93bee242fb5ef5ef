"""The server's life: start, health, limits, faults, logs, drain."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from log_lines import CANARY, lines
from shelf_ranker import HORIZON, SHELF, ShelfRanker
from shelf_server import (
    LIST,
    Call,
    is_unavailable,
    raising,
    refusal,
    running,
    until,
    waiting_for,
    waits,
)

from recsys import v1
from recsys.errors import BundleCorruptError, ConfigurationError, ModelError
from serving.server import SERVICE, SPARE_THREADS, Server
from serving.settings import ServerSettings

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_a_clock_behind_the_horizon_answers_for_the_horizon() -> None:
    ranker = ShelfRanker()
    server = Server(ServerSettings(port=0), clock=lambda: datetime(2001, 1, 1, tzinfo=UTC))
    call = Call(server.start())
    server.install(ranker)
    call.recommend()
    assert ranker.asked[-1].as_of == HORIZON  # type: ignore[union-attr]
    call.channel.close()
    server.drain()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyError(CANARY), grpc.StatusCode.INTERNAL),
        (ModelError(f"weights at {CANARY}"), grpc.StatusCode.INTERNAL),
        (BundleCorruptError(f"damaged: {CANARY}"), grpc.StatusCode.FAILED_PRECONDITION),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_fault_tells_the_caller_an_id_and_the_log_where(
    log: io.StringIO, error: Exception, code: grpc.StatusCode
) -> None:
    ranker = ShelfRanker()
    with running(ranker) as (_, call):
        ranker.before_answering = raising(error)
        found, text, _ = refusal(lambda: call.recommend(user_id=CANARY, query=CANARY))
    assert found is code
    assert CANARY not in text
    fault = next(line for line in lines(log) if line["event"] == "fault")
    assert str(fault["fault_id"]) in text
    assert type(error).__name__ in str(fault["error"])
    assert "shelf_ranker.py" in str(fault["error"])
    assert CANARY not in log.getvalue()


def test_every_call_is_one_json_line_without_what_was_asked(log: io.StringIO) -> None:
    with running(ShelfRanker()) as (_, call):
        call.recommend(user_id=CANARY, session_id=CANARY, query=f"{CANARY}\n%s\x1b[31m")
        refusal(lambda: call.recommend(user_id=CANARY, context_item_ids=[CANARY * 99]))
        refusal(lambda: call.send(v1.SimilarItemsRequest(item_id=CANARY)))
    calls = [line for line in lines(log) if line["event"] == "call"]
    assert [line["code"] for line in calls] == ["OK", "INVALID_ARGUMENT", "NOT_FOUND"]
    assert CANARY not in log.getvalue()


def test_health_follows_the_server_from_start_to_drain() -> None:
    with running(None) as (server, call):
        assert call.health_of("") == call.health_of(SERVICE) == NOT_SERVING
        assert refusal(call.recommend)[0] is grpc.StatusCode.UNAVAILABLE
        server.install(ShelfRanker())
        assert call.health_of("") == call.health_of(SERVICE) == SERVING
        watch = call.health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watch).status == SERVING
        server.drain()
        assert next(watch).status == NOT_SERVING
        assert refusal(call.recommend)[0] is grpc.StatusCode.UNAVAILABLE


def test_a_recommender_that_fails_its_first_call_never_serves() -> None:
    broken = ShelfRanker(raising(ModelError("no weights")))
    with running(None) as (server, call):
        with pytest.raises(ModelError):
            server.install(broken)
        assert call.health_of(SERVICE) == NOT_SERVING


def test_calls_under_way_finish_while_the_server_drains(log: io.StringIO) -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=6, drain_seconds=30.0) as (server, call),
        ThreadPoolExecutor(7) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        answers = [pool.submit(call.recommend) for _ in range(6)]
        until(lambda: len(ranker.asked) == 6)
        drained = pool.submit(server.drain)
        until(lambda: call.health_of(SERVICE) == NOT_SERVING)
        until(lambda: is_unavailable(call))
        assert not any(answer.done() for answer in answers)
        gate.set()
        assert all(len(answer.result().items) == len(SHELF) for answer in answers)
        drained.result()
    assert "cut_off" not in [line["event"] for line in lines(log)]


def test_health_and_answers_during_the_notice_before_a_drain() -> None:
    with (
        running(ShelfRanker(), drain_notice_seconds=0.5) as (server, call),
        ThreadPoolExecutor(1) as pool,
    ):
        drained = pool.submit(server.drain)
        until(lambda: call.health_of(SERVICE) == NOT_SERVING)
        assert call.health_of("") == NOT_SERVING
        assert call.recommend().items
        drained.result()


def test_a_call_that_outlasts_the_drain_is_cut_off(log: io.StringIO) -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with running(ranker, drain_seconds=0.1) as (server, call), ThreadPoolExecutor(1) as pool:
        ranker.before_answering = lambda: waits(gate)
        answer = pool.submit(call.recommend)
        until(lambda: len(ranker.asked) == 1)
        server.drain()
        code, _, _ = refusal(answer.result)
        gate.set()
    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert [line["calls"] for line in lines(log) if line["event"] == "cut_off"] == [1]


def test_an_old_connection_is_replaced_without_a_failed_call() -> None:
    seen: list[grpc.ChannelConnectivity] = []
    with running(ShelfRanker(), max_connection_age_seconds=0.3) as (_, call):
        call.channel.subscribe(seen.append)
        end = time.monotonic() + 10
        while grpc.ChannelConnectivity.IDLE not in seen[1:] and time.monotonic() < end:
            assert call.recommend().items
            time.sleep(0.01)
        assert call.recommend().items
    assert grpc.ChannelConnectivity.IDLE in seen[1:]


def test_health_and_refusals_come_while_every_thread_for_calls_is_taken() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=8, max_waiting_calls=0, reflection=True) as (_, call),
        ThreadPoolExecutor(8) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        answers = [pool.submit(call.recommend) for _ in range(8)]
        streams = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        lists = [streams.ServerReflectionInfo(waiting_for(gate)) for _ in range(SPARE_THREADS)]
        until(lambda: len(ranker.asked) == 8)
        late = streams.ServerReflectionInfo(waiting_for(gate))
        with pytest.raises(grpc.RpcError):
            next(streams.ServerReflectionInfo(iter([LIST]), timeout=0.2))  # no thread is left
        assert call.health_of(SERVICE) == SERVING
        assert refusal(call.recommend)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        gate.set()
        for answer in answers:
            answer.result()
        for each in (*lists, late):
            list(each)


def test_calls_beyond_the_limit_are_refused_at_once_while_health_answers() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=1, max_waiting_calls=2) as (_, call),
        ThreadPoolExecutor(10) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        answers = [pool.submit(call.recommend) for _ in range(10)]
        until(lambda: sum(answer.done() for answer in answers) == 7)
        assert call.health_of(SERVICE) == SERVING
        assert len(ranker.asked) == 1
        refused = [answer for answer in answers if answer.done()]
        gate.set()
        for answer in refused:
            assert refusal(answer.result)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert all(answer.result().items for answer in answers if answer not in refused)


def test_a_call_that_expires_or_is_cancelled_in_the_queue_is_never_scored() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with running(ranker, workers=1) as (_, call), ThreadPoolExecutor(1) as pool:
        ranker.before_answering = lambda: waits(gate)
        first = pool.submit(call.recommend)
        until(lambda: len(ranker.asked) == 1)
        late = refusal(lambda: call.recommend(timeout=0.1))
        cancelled = call.stub.Recommend.future(v1.RecommendRequest(), timeout=5.0)
        time.sleep(0.1)  # let it reach the queue
        cancelled.cancel()
        time.sleep(0.1)  # let the server hear of it
        gate.set()
        first.result()
        call.recommend()
        assert late[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        assert len(ranker.asked) == 2


def test_a_call_without_deadline_waits_no_longer_than_the_setting() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=1, max_wait_seconds=0.1) as (_, call),
        ThreadPoolExecutor(1) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        first = pool.submit(call.recommend)
        until(lambda: len(ranker.asked) == 1)
        code, _, _ = refusal(lambda: call.recommend(timeout=None))
        gate.set()
        first.result()
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_second_server_on_the_port_is_refused() -> None:
    with running(ShelfRanker()) as (_, call):
        second = Server(ServerSettings(port=call.port))
        with pytest.raises(ConfigurationError, match="another process has the port"):
            second.start()


def test_reflection_answers_only_when_asked_for() -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with running(None) as (_, call):
        stub = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        code, _, _ = refusal(lambda: list(stub.ServerReflectionInfo(iter([request]))))
        assert code is grpc.StatusCode.UNIMPLEMENTED
    with running(None, reflection=True) as (_, call):
        stub = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        [answer] = stub.ServerReflectionInfo(iter([request]))
        names = {service.name for service in answer.list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health"} <= names
