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

from recsys.errors import UnavailableError


@contextmanager
def running_server(registry: Path, *options: str) -> Iterator[str]:
    """The address of `recsys serve` on a free port; stopped at the end.

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
                yield _ready(server, log)
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
