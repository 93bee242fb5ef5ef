"""Answers Prometheus on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

from recsys.errors import ConfigurationError


@contextmanager
def metrics_served(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Serve `http://HOST:PORT/metrics` as long as the block runs; gives host and port as bound.

    There is no authentication: keep the address within the machine or the cluster.

    Raises:
        ConfigurationError: the address can't be listened on.
    """
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigurationError(
            f"can't serve metrics on {host}:{port}: {error.strerror}; choose another --metrics-port"
        ) from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
