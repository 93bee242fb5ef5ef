"""The operators' port: a gRPC server of its own, for this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import grpc

from recsys import v1
from recsys.errors import ConfigurationError
from serving.call_guard import CallGuard
from serving.calls import CallsUnderWay

OnEnd = Callable[[str, grpc.StatusCode, float], None]
"""Told of each call that ended: method, status, seconds."""

LOOPBACK: Final = "127.0.0.1"
ADMIN_THREADS: Final = 4
LAST_WORDS_SECONDS: Final = 1.0


@contextmanager
def admin_server(
    service: v1.AdminServiceServicer, port: int, on_end: OnEnd = lambda *_: None
) -> Iterator[str]:
    """Offer the service on a port of the loopback interface, 0 for any free one; gives the address.

    Raises:
        ConfigurationError: another process has the port.
    """
    with ThreadPoolExecutor(ADMIN_THREADS, "admin") as pool:
        guard = CallGuard(CallsUnderWay(), pool, pool, lambda _: None, on_end)
        server = grpc.server(pool, interceptors=[guard], options=[("grpc.so_reuseport", 0)])
        v1.add_AdminServiceServicer_to_server(service, server)
        try:
            bound = server.add_insecure_port(f"{LOOPBACK}:{port}")
        except RuntimeError as error:
            raise ConfigurationError(
                f"can't listen on {LOOPBACK}:{port}: another process has the port; choose another "
                "--admin-port, 0 takes any free port"
            ) from error
        server.start()
        try:
            yield f"{LOOPBACK}:{bound}"
        finally:
            server.stop(LAST_WORDS_SECONDS).wait()
