"""Who is scored, who waits and who is refused, and what a refused caller is told."""

from __future__ import annotations

import gc
import io
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from log_lines import lines
from shelf_ranker import ShelfRanker
from shelf_server import NOW, Call, raising, refusal, running, until, waits

from recsys import v1
from recsys.errors import CallCancelledError, DeadlineError, ModelError, OverloadedError
from recsys.state import Appended, EventRecord, SqliteStateStore
from serving.admission import MIN_PUSHBACK_SECONDS, Admission, Refusal
from serving.client import RecommendationClient
from serving.threads import ThreadPlan, Workers


class Caller:
    """A call as far as admission looks at one; it ends when told to."""

    def __init__(self, seconds: float = 30.0) -> None:
        self.seconds = seconds
        self.active = True
        self.on_end: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return self.active

    def time_remaining(self) -> float:
        return self.seconds

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.on_end.append(callback)
        return self.active

    def end(self, *, seconds: float) -> None:
        self.active, self.seconds = False, seconds
        for callback in self.on_end:
            callback()


class Arrays:
    """What a failed call had made."""


class Desk:
    """An admission, and calls that hold their turn until they are let go."""

    def __init__(self, pool: ThreadPoolExecutor, **settings: Any) -> None:
        self.refused: Counter[Refusal] = Counter()
        given = {"scoring": 1, "waiting": 2, "max_wait_seconds": 30.0, **settings}
        self.admission = Admission(
            Workers(given["scoring"], ThreadPlan(1)),
            **given,
            on_refusal=lambda why: self.refused.update([why]),
        )
        self.served: list[Caller] = []
        self.done = threading.Event()
        self._pool = pool

    def serve(self, caller: Caller) -> None:
        def score() -> None:
            self.served.append(caller)
            waits(self.done)

        self.admission.scored(cast("grpc.ServicerContext", caller), score)

    def queue(self, caller: Caller) -> Any:
        waiting, busy = self.admission.waiting, self.admission.scoring
        future = self._pool.submit(self.serve, caller)
        until(lambda: (self.admission.waiting, self.admission.scoring) != (waiting, busy))
        return future


def test_turns_come_first_come_first_served() -> None:
    with ThreadPoolExecutor(6) as pool:
        desk = Desk(pool, waiting=5)
        callers = [Caller() for _ in range(6)]
        for caller in callers:
            desk.queue(caller)
        desk.done.set()
        until(lambda: desk.served == callers)
        until(lambda: desk.admission.scoring == 0)
    assert not desk.refused


@pytest.mark.parametrize(
    ("seconds", "error", "why"),
    [
        (0.0, DeadlineError, Refusal.EXPIRED_IN_QUEUE),
        (9.0, CallCancelledError, Refusal.CANCELLED_IN_QUEUE),
    ],
    ids=["expired", "cancelled"],
)
def test_a_call_that_ends_in_the_queue_leaves_its_place_at_once(
    seconds: float, error: type[Exception], why: Refusal
) -> None:
    with ThreadPoolExecutor(4) as pool:
        desk = Desk(pool)
        callers = [Caller() for _ in range(4)]
        _, second, third = [desk.queue(caller) for caller in callers[:3]]
        callers[1].end(seconds=seconds)
        with pytest.raises(error):
            second.result(5)
        desk.queue(callers[3])  # there is a place again
        desk.done.set()
        third.result(5)
    assert desk.served == [callers[0], callers[2], callers[3]]
    assert desk.refused == {why: 1}


def test_a_call_that_ended_before_it_came_takes_no_turn() -> None:
    with ThreadPoolExecutor(1) as pool:
        desk = Desk(pool)
        gone = Caller()
        gone.end(seconds=9.0)
        with pytest.raises(CallCancelledError):
            desk.serve(gone)
        assert (desk.served, desk.admission.scoring) == ([], 0)


def test_what_goes_wrong_reaches_the_call_and_the_worker_goes_on() -> None:
    admission = Admission(Workers(1, ThreadPlan(1)), 1, 2, 30.0)
    caller = cast("grpc.ServicerContext", Caller())
    with pytest.raises(ModelError, match="broken"):
        admission.scored(caller, raising(ModelError("broken")))
    assert admission.scored(caller, lambda: 3) == 3


def test_an_answered_call_leaves_no_garbage() -> None:
    """Under overload a traceback that waits for the collector would hold a call's arrays."""
    admission = Admission(Workers(1, ThreadPlan(1)), 1, 2, 30.0)
    caller = cast("grpc.ServicerContext", Caller())
    large: list[weakref.ref[Arrays]] = []

    def fail() -> None:
        held = Arrays()
        large.append(weakref.ref(held))
        raise ModelError("broken")

    gc.disable()
    try:
        with suppress(ModelError):
            admission.scored(caller, fail)
        until(lambda: large[0]() is None)
    finally:
        gc.enable()


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    with ThreadPoolExecutor(3) as pool:
        desk = Desk(pool)
        for _ in range(3):
            desk.queue(Caller())
        with pytest.raises(OverloadedError) as refused:
            desk.serve(Caller())
        desk.done.set()
    assert refused.value.retry_after_seconds == MIN_PUSHBACK_SECONDS
    assert desk.refused == {Refusal.QUEUE_FULL: 1}


def test_a_call_that_would_wait_too_long_is_refused_when_it_comes() -> None:
    with ThreadPoolExecutor(4) as pool:
        desk = Desk(pool, waiting=9)
        first = desk.queue(Caller())
        until(lambda: bool(desk.served))
        time.sleep(0.2)  # what a call takes
        desk.done.set()
        first.result(5)
        desk.done.clear()
        desk.queue(Caller())
        desk.queue(Caller(seconds=5.0))  # would wait 0.2 s of its 5
        hurried = Caller(seconds=0.3)
        with pytest.raises(OverloadedError) as refused:
            desk.serve(hurried)
        assert not hurried.on_end  # it never stood in the queue
        assert refused.value.retry_after_seconds
        assert refused.value.retry_after_seconds >= 0.4
        assert desk.refused == {Refusal.WAIT_TOO_LONG: 1}
        desk.done.set()
        until(lambda: desk.admission.scoring == 0)
        desk.serve(Caller(seconds=0.3))  # with nobody before it, it is served


def test_a_refused_caller_is_told_when_to_come_back() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=1, max_waiting_calls=0) as (_, call),
        ThreadPoolExecutor(1) as pool,
        RecommendationClient(f"127.0.0.1:{call.port}") as client,
    ):
        ranker.before_answering = lambda: waits(gate)
        first = pool.submit(call.recommend)
        until(lambda: len(ranker.asked) == 1)
        with pytest.raises(grpc.RpcError) as caught:
            call.recommend()
        with pytest.raises(OverloadedError) as told:
            client.recommend(v1.RecommendRequest())
        gate.set()
        first.result()
    failure = cast("grpc.Call", caught.value)
    metadata = dict(failure.trailing_metadata() or ())
    pushback = int(metadata["grpc-retry-pushback-ms"])
    assert pushback >= 1_000 * MIN_PUSHBACK_SECONDS
    said = rpc_status.from_call(failure)
    info = error_details_pb2.RetryInfo()
    assert said is not None
    assert said.details[0].Unpack(info)
    assert info.retry_delay.ToMilliseconds() == pushback
    assert told.value.retry_after_seconds == pushback / 1_000


class SlowStore(SqliteStateStore):
    """A store whose disk writes events only once a gate is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()

    def append_events(
        self, events: Sequence[EventRecord], received_at: int, late_before: int
    ) -> Appended:
        waits(self.gate)
        return super().append_events(events, received_at, late_before)


def test_calls_that_write_are_limited_and_leave_those_that_score_their_threads(
    tmp_path: Path,
) -> None:
    event = v1.Event(event_id="e", user_id="u", item_id="i", event_type="view")
    event.event_time.FromDatetime(NOW)
    request = v1.RecordEventsRequest(events=[event])
    with (
        closing(SlowStore(tmp_path / "state.sqlite")) as store,
        running(ShelfRanker(), store, max_writing_calls=3) as (server, call),
        ThreadPoolExecutor(3) as pool,
    ):

        def record() -> v1.RecordEventsResponse:
            response: v1.RecordEventsResponse = call.events.RecordEvents(request, timeout=20.0)
            return response

        def refused() -> float | None:
            return server.metrics.registry.get_sample_value(
                "recsys_refused_calls_total", {"reason": "queue_full"}
            )

        writing = [pool.submit(record) for _ in range(3)]
        until(lambda: server._writes.is_busy)
        for number in range(60):
            code, text, _ = refusal(record)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "limit of calls" in text
            assert refused() == number + 1
        assert call.recommend(timeout=5.0).items
        delete = v1.DeleteItemsRequest(item_ids=["i"])
        code, _, _ = refusal(lambda: call.catalogue.DeleteItems(delete, timeout=5.0))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        store.gate.set()
        assert sum(one.result().recorded_count for one in writing) == 1
        assert record().duplicate_count == 1


def test_twice_the_places_means_exactly_the_rest_is_refused() -> None:
    gate = threading.Event()
    ranker = ShelfRanker()
    with (
        running(ranker, workers=1, max_waiting_calls=7) as (_, call),
        ThreadPoolExecutor(10) as pool,
    ):
        ranker.before_answering = lambda: waits(gate)
        answers = [pool.submit(call.recommend) for _ in range(10)]
        until(lambda: sum(answer.done() for answer in answers) == 2)
        gate.set()
        codes = Counter(outcome(answer) for answer in answers)
    assert codes == {"OK": 8, "RESOURCE_EXHAUSTED": 2}


def outcome(answer: Any) -> str:
    error = answer.exception()
    return error.code().name if error else "OK"


@pytest.fixture
def busy() -> Iterator[tuple[ShelfRanker, Call, threading.Event]]:
    """A server whose one worker is held until the event is set, and whose calls take 0.2 s."""
    gate = threading.Event()
    ranker = ShelfRanker()
    with running(ranker, workers=1) as (_, call), ThreadPoolExecutor(1) as pool:
        ranker.before_answering = lambda: time.sleep(0.2)
        call.recommend()
        ranker.before_answering = lambda: waits(gate)
        first = pool.submit(call.recommend)
        until(lambda: len(ranker.asked) == 2)
        yield ranker, call, gate
        gate.set()
        assert first.result().items


def raw(call: Call, timeout: float) -> Any:
    """`Recommend` with a message that can't be read."""
    method = call.channel.unary_unary("/recsys.v1.RecommendationService/Recommend", bytes, bytes)
    return method.future(b"\xff" * 8, timeout=timeout)


def test_a_call_that_would_wait_too_long_is_refused_unread(
    busy: tuple[ShelfRanker, Call, threading.Event],
) -> None:
    _, call, _ = busy
    refused = raw(call, timeout=0.3)  # 0.2 s of 0.3
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" in dict(refused.trailing_metadata())


def test_calls_that_come_while_others_are_scored_end_as_any_other(
    busy: tuple[ShelfRanker, Call, threading.Event], log: io.StringIO
) -> None:
    ranker, call, gate = busy
    unread = raw(call, timeout=5.0)
    invalid = call.stub.Recommend.future(v1.RecommendRequest(page_size=-1), timeout=5.0)
    late = call.stub.Recommend.future(v1.RecommendRequest(), timeout=1.5)
    left = call.stub.Recommend.future(v1.RecommendRequest(), timeout=5.0)
    assert unread.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert invalid.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert invalid.details().startswith("page_size")
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    left.cancel()
    ended = ("DEADLINE_EXCEEDED", "CANCELLED")  # a caller's clock may end a call before ours
    until(lambda: sum(line.get("code") in ended for line in lines(log)) == 2)
    answered = call.stub.Recommend.future(v1.RecommendRequest(page_size=2), timeout=5.0)
    gate.set()
    assert len(answered.result().items) == 2
    assert len(ranker.asked) == 3


def test_a_caller_who_sends_no_message_is_not_answered(
    busy: tuple[ShelfRanker, Call, threading.Event],
) -> None:
    _, call, _ = busy
    method = call.channel.stream_unary("/recsys.v1.RecommendationService/Recommend", bytes, bytes)
    ended = method.future(iter(()), timeout=5.0)
    assert ended.code() is grpc.StatusCode.CANCELLED
