"""A Redis in a process of its own, durable, as a shop would run it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from recsys.errors import UnavailableError
from serving.bench.open_loop import free_port

PROGRAM: Final = "redis-server"
DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
START_SECONDS: Final = 10.0


class RedisProcess:
    """A `redis-server` on a port of its own, that keeps its data in a folder between two starts.

    Args:
        folder: where its data and its log are.
        options: of the program, above `DURABLE`.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it; returns when it answers.

        Raises:
            UnavailableError: it ended, or does not answer; the message has its log.
        """
        command = [PROGRAM, "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--dir", str(self._folder), *DURABLE, *self._options]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise UnavailableError((self._folder / "redis.log").read_text(encoding="utf-8"))
            time.sleep(0.01)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        """Whether it answers a command, be it to say that a password is wanted."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


@contextmanager
def redis_process(folder: Path, *options: str) -> Iterator[RedisProcess]:
    """A Redis that is started, and ended in the end."""
    process = RedisProcess(folder, *options)
    try:
        process.start()
        yield process
    finally:
        process.kill()


def is_redis_here() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None
