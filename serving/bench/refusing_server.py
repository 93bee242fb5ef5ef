"""A server that refuses every call: what refusals cost where there is nothing else to do."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

import grpc

from recsys import v1
from recsys.errors import OverloadedError
from serving.admission import LIMIT_REACHED, MIN_PUSHBACK_SECONDS
from serving.call_guard import CallGuard
from serving.calls import CallsUnderWay


@contextmanager
def refusing_server() -> Iterator[str]:
    """The address of a server, in a process of its own, that refuses as `recsys serve` does."""
    spawned = get_context("spawn")
    here, there = spawned.Pipe()
    process = spawned.Process(target=_refuse, args=(there,))
    process.start()
    try:
        yield f"127.0.0.1:{here.recv()}"
    finally:
        here.send("stop")
        process.join()


def _refuse(told: Connection) -> None:
    """Serve on any free port, which the connection is told, until a word comes back."""
    refusal = OverloadedError(LIMIT_REACHED, MIN_PUSHBACK_SECONDS)
    with ThreadPoolExecutor(1) as threads:
        guard = CallGuard(
            CallsUnderWay(), threads, threads, lambda _: lambda _: refusal, lambda *_: None
        )
        server = grpc.server(threads, interceptors=[guard])
        v1.add_RecommendationServiceServicer_to_server(v1.RecommendationServiceServicer(), server)
        told.send(server.add_insecure_port("127.0.0.1:0"))
        server.start()
        told.recv()
        server.stop(None).wait()
