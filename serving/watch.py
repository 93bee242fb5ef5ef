"""Looks at something every so often, in a thread of its own."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from threading import Event, Thread

from serving.logs import describe_fault, serving_log

log = serving_log()
Mark = tuple[int, int, int]


class Watch(ABC):
    """Looks every so often, from its start until it is to stop; a look that fails is logged.

    Args:
        name: of the thread.
        seconds: between two looks.
        stopping: ends it once set; what a look has under way is given up then.
    """

    def __init__(self, name: str, seconds: float, stopping: Event) -> None:
        self._seconds = seconds
        self._stopping = stopping
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; what was changed since this was made counts as changed."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    @abstractmethod
    def _look(self) -> None:
        """Look once, and follow what has changed."""

    def _time_left(self) -> float:
        """Seconds that what follows may take."""
        return 0.0 if self._stopping.is_set() else math.inf

    def _run(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._look()
            except Exception as error:  # noqa: BLE001
                log.error("look_failed", watch=self._thread.name, error=describe_fault(error))  # noqa: TRY400


def file_mark(path: Path) -> Mark | None:
    """What changes when the file is replaced or written; None where it is not."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
