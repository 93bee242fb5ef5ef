"""What a process uses over time: memory, threads, open files."""

from __future__ import annotations

import time
from typing import Final

import psutil
from pydantic import BaseModel

from serving.bench.repeated import Repeated

SAMPLE_SECONDS: Final = 0.25


class Usage(BaseModel):
    """A process at one time, in seconds from the start of the probe."""

    at: float
    memory_mib: float
    """Resident."""

    threads: int
    files: int


class UsageProbe(Repeated):
    """Looks at a process again and again while in use.

    Args:
        pid: of the process.
        seconds: between two looks.

    Attributes:
        samples: what was seen, the first before anything else.
    """

    def __init__(self, pid: int, seconds: float = SAMPLE_SECONDS) -> None:
        super().__init__(seconds)
        self._process = psutil.Process(pid)
        self._started = time.monotonic()
        self._forgotten = 0
        self.samples = [self.now()]

    def now(self) -> Usage:
        """The process now."""
        with self._process.oneshot():
            return Usage(
                at=time.monotonic() - self._started,
                memory_mib=self._process.memory_info().rss / 2**20,
                threads=self._process.num_threads(),
                files=self._process.num_fds(),
            )

    def forget(self) -> None:
        """Let what was seen before the latest look count no more for the peak."""
        self._forgotten = len(self.samples) - 1

    @property
    def peak_mib(self) -> float:
        """Most memory that was seen since then, or altogether."""
        return max(one.memory_mib for one in self.samples[self._forgotten :])

    def once(self) -> None:
        """Look."""
        self.samples.append(self.now())
