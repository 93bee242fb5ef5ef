"""A real gRPC server on a free port, the shelf's recommender behind it, and a way to call it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from shelf_ranker import ShelfRanker

from recsys import v1
from recsys.pseudonyms import Pseudonyms
from recsys.state import StateStore
from serving.ranking import Ranker
from serving.server import IDS_AS_THEY_ARE, Server
from serving.settings import ServerSettings

LIST: Final = reflection_pb2.ServerReflectionRequest(list_services="")
NOW: Final = datetime(2030, 3, 2, 12, tzinfo=UTC)


class Call:
    """One connection: the service's methods by name, health, and nothing in between."""

    def __init__(self, address: str) -> None:
        self.port = int(address.rpartition(":")[2])
        self.channel = grpc.insecure_channel(address)
        self.stub = v1.RecommendationServiceStub(self.channel)
        self.events = v1.EventServiceStub(self.channel)
        self.catalogue = v1.CatalogServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def recommend(self, timeout: float | None = 5.0, **fields: object) -> v1.RecommendResponse:
        request = v1.RecommendRequest(**fields)  # type: ignore[arg-type]
        response: v1.RecommendResponse = self.stub.Recommend(request, timeout=timeout)
        return response

    def send(self, request: Message) -> Message:
        method = type(request).__name__.removesuffix("Request")
        response: Message = getattr(self.stub, method)(request, timeout=5.0)
        return response

    def health_of(self, service: str) -> int:
        status: int = self.health.Check(health_pb2.HealthCheckRequest(service=service)).status
        return status


@contextmanager
def running(
    ranker: Ranker | None,
    store: StateStore | None = None,
    names: Pseudonyms = IDS_AS_THEY_ARE,
    /,
    **given_settings: object,
) -> Iterator[tuple[Server, Call]]:
    """A started server, with `ranker` installed unless it is None, and a connection to it."""
    chosen = {"port": 0, "drain_seconds": 2.0, "max_answer_seconds": 30.0, **given_settings}
    server = Server(
        ServerSettings.model_validate(chosen), clock=lambda: NOW, store=store, names=names
    )
    call = Call(server.start())
    if ranker:
        server.install(ranker)
    if isinstance(ranker, ShelfRanker):
        ranker.asked.clear()
    try:
        yield server, call
    finally:
        call.channel.close()
        server.drain()


def refusal(action: Callable[[], object]) -> tuple[grpc.StatusCode, str, list[str]]:
    """Status, text and blamed fields of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        action()
    failure = cast("grpc.Call", caught.value)
    said = rpc_status.from_call(failure)
    blamed = []
    for detail in said.details if said else ():
        bad = error_details_pb2.BadRequest()
        detail.Unpack(bad)
        blamed += [violation.field for violation in bad.field_violations]
    return failure.code(), failure.details() or "", blamed


def is_unavailable(call: Call) -> bool:
    try:
        call.recommend(timeout=0.2)
    except grpc.RpcError as failure:
        return failure.code() is grpc.StatusCode.UNAVAILABLE
    return False


def failed_loads(server: Server) -> float:
    counted = server.metrics.registry.get_sample_value(
        "recsys_bundle_loads_total", {"outcome": "failed"}
    )
    assert counted is not None
    return counted


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for it; long enough for a process to start where others take the cores."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s in vain"
        time.sleep(0.01)


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def waits(gate: threading.Event, seconds: float = 10.0) -> None:
    assert gate.wait(seconds)


def waiting_for(gate: threading.Event) -> Iterator[reflection_pb2.ServerReflectionRequest]:
    waits(gate)
    yield LIST
