"""Something that is done again and again in a thread of its own, while other things go on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from threading import Event, Thread
from typing import Self


class Repeated(ABC):
    """Does `once` every so often while in use.

    Args:
        seconds: between two times.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stop = Event()
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @abstractmethod
    def once(self) -> None:
        """One time."""

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self.once()
