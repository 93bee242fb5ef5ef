"""Health by service (grpc.health.v1): who is ready, and that nobody is while the server stops."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVER = health.OVERALL_HEALTH
"""The name of the server as a whole: ready when all its services are."""


class Readiness:
    """Says NOT_SERVING of every service until it is told that the service is ready.

    Args:
        services: full names.
        threads: run health checks and watches.
    """

    def __init__(self, services: Iterable[str], threads: ThreadPoolExecutor) -> None:
        self._lock = Lock()
        self._ready = dict.fromkeys(services, False)
        self._health = health.HealthServicer(experimental_thread_pool=threads)
        for name in (SERVER, *self._ready):
            self._health.set(name, NOT_SERVING)

    def add_to(self, server: grpc.Server) -> None:
        """Answer health checks."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)

    def set(self, service: str, *, ready: bool) -> None:
        """Say of one service whether it answers calls."""
        with self._lock:
            self._ready[service] = ready
            self._health.set(service, SERVING if ready else NOT_SERVING)
            self._health.set(SERVER, SERVING if all(self._ready.values()) else NOT_SERVING)

    def stop(self) -> None:
        """Say NOT_SERVING of everything, for good."""
        self._health.enter_graceful_shutdown()
