"""A server in a process of its own, as a shop runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from recsys.errors import UnavailableError


class ServerProcess(NamedTuple):
    """A server that answers.

    Attributes:
        address: host and port.
        pid: of its process.
    """

    address: str
    pid: int


@contextmanager
def running_server(registry: Path, *options: str) -> Iterator[str]:
    """The address of a `server_process`."""
    with server_process(registry, *options) as server:
        yield server.address


@contextmanager
def server_process(registry: Path, *options: str) -> Iterator[ServerProcess]:
    """`recsys serve` on a free port; stopped at the end.

    Raises:
        UnavailableError: it ended before it was ready; the message has its log.
    """
    command = [sys.executable, "-m", "serving.cli.main", "serve", "--registry", str(registry)]
    command += ["--port", "0", *options]
    with TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        with (
            log.open("w") as file,
            subprocess.Popen(command, stderr=file) as server,  # noqa: S603 (our own command)
        ):
            try:
                yield ServerProcess(_ready(server, log), server.pid)
            finally:
                server.terminate()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address, once the server answers."""
    while process.poll() is None:
        lines = log.read_text().splitlines(keepends=True)
        for event in (json.loads(line) for line in lines if line.endswith("\n")):
            if event["event"] == "ready":
                return str(event["address"])
        time.sleep(0.2)
    raise UnavailableError(f"the server ended before it was ready: {log.read_text()}")
