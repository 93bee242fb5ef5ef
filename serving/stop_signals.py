"""SIGTERM and SIGINT: the first asks for an orderly stop, the second ends the process at once."""

from __future__ import annotations

import os
import signal
from queue import SimpleQueue
from types import FrameType
from typing import Final

EXIT_FORCED: Final = 3
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Catches both signals from construction on; only the main thread may make one."""

    def __init__(self) -> None:
        # A signal handler may interrupt any code, so it must take no lock: SimpleQueue.put doesn't.
        self._caught: SimpleQueue[int] = SimpleQueue()
        self._count = 0
        for number in STOPPING:
            signal.signal(number, self._catch)

    def wait(self) -> None:
        """Return when the first signal comes; at once when it came already."""
        self._caught.get()

    def _catch(self, number: int, _: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            os._exit(EXIT_FORCED)
        self._caught.put(number)
