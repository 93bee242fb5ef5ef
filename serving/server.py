"""A gRPC server around a recommender, from bind to drain."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from recsys import v1
from recsys.errors import ConfigurationError
from serving.logs import serving_log
from serving.ranking import Ranker, RankerSlot
from serving.recommendation_service import RecommendationService
from serving.settings import ServerSettings
from serving.status_mapping import StatusMapping
from serving.stop_signals import StopSignals

SERVICE: Final = "recsys.v1.RecommendationService"
NAMES: Final = ("", SERVICE)
"""What health is reported for: the server as a whole, and each service."""

SPARE_THREADS: Final = 4
"""Beside those of admitted calls, so that health checks and refusals never wait."""


log = serving_log()


def utc_now() -> datetime:
    """The time now."""
    return datetime.now(UTC)


class Server:
    """A server that starts empty, answers calls once a recommender is installed, and drains.

    Until then, and while it drains, health says NOT_SERVING and calls end with UNAVAILABLE.

    Args:
        settings: where it listens and what it takes on.
        clock: the time now, aware of its time zone.
    """

    def __init__(self, settings: ServerSettings, clock: Callable[[], datetime] = utc_now) -> None:
        self._settings = settings
        self._rankers = RankerSlot()
        self._health = health.HealthServicer()
        self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._pool = _pool(settings)
        self._server = _grpc_server(settings, self._pool)
        service = RecommendationService(self._rankers, settings, clock)
        v1.add_RecommendationServiceServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, self._server)

    def start(self) -> str:
        """Listen. Returns: host and port, the port as bound.

        Raises:
            ConfigurationError: the address can't be listened on, as when another server holds it.
        """
        host, port = self._settings.host, self._settings.port
        host = f"[{host}]" if ":" in host else host
        try:
            bound = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise ConfigurationError(
                f"can't listen on {host}:{port}: another process has the port, or the address is"
                " not this machine's; choose another --port or --host, 0 takes any free port"
            ) from error
        self._server.start()
        return f"{host}:{bound}"

    def install(self, ranker: Ranker) -> None:
        """Let `ranker` answer calls, once it is warm.

        What it holds stays, so the garbage collector need not look through it again and again.
        """
        ranker.warm_up(time.monotonic)
        gc.collect()
        gc.freeze()
        self._rankers.put(ranker)
        self._set_health(health_pb2.HealthCheckResponse.SERVING)

    def drain(self) -> None:
        """Say NOT_SERVING, refuse new calls, let calls under way finish, then stop listening."""
        self._health.enter_graceful_shutdown()
        self._server.stop(self._settings.drain_seconds).wait()
        self._pool.shutdown(wait=False)

    def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in NAMES:
            self._health.set(name, status)


def _pool(settings: ServerSettings) -> ThreadPoolExecutor:
    threads = settings.workers + settings.max_waiting_calls + SPARE_THREADS
    return ThreadPoolExecutor(max_workers=threads, thread_name_prefix="call")


def _grpc_server(settings: ServerSettings, pool: ThreadPoolExecutor) -> grpc.Server:
    return grpc.server(
        pool,
        interceptors=[StatusMapping()],
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", settings.max_request_bytes),
            ("grpc.max_send_message_length", settings.max_response_bytes),
        ],
    )


def serve_until_stopped(
    settings: ServerSettings, load: Callable[[], Ranker], on_ready: Callable[[str, str], None]
) -> None:
    """Listen, load, answer calls until SIGTERM or SIGINT, drain; for a process's main thread.

    Args:
        settings: where to listen and what to take on.
        load: opens the recommender, once the address is known to be free.
        on_ready: called with address and bundle version when calls are answered.
    """
    stop = StopSignals()
    server = Server(settings)
    address = server.start()
    log.info("listening", address=address)
    try:
        ranker = load()
        server.install(ranker)
        log.info("ready", address=address, bundle=ranker.version)
        on_ready(address, ranker.version)
        stop.wait()
        log.info("draining")
    finally:
        server.drain()
    log.info("stopped")
