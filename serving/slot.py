"""What calls use while something better may take its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

from recsys.errors import UnavailableError

Content = TypeVar("Content")


@dataclass
class _Held(Generic[Content]):
    """What is held, with the calls that use it."""

    content: Content
    on_drained: Callable[[], None]
    calls: int = 0
    replaced: bool = False

    @property
    def is_drained(self) -> bool:
        return self.replaced and self.calls == 0


class Slot(Generic[Content]):
    """Holds what calls use; empty until something is put in. For several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: _Held[Content] | None = None

    def put(self, content: Content, on_drained: Callable[[], None] = lambda: None) -> None:
        """Give `content` to the calls that come from now on; calls under way keep their own.

        Args:
            content: takes the place of the one before it.
            on_drained: called once, when `content` has been replaced and its last call has ended;
                it runs in the thread of that call or of the next `put`, so it has to be quick.
        """
        with self._lock:
            before, self._held = self._held, _Held(content, on_drained)
            if before is None:
                return
            before.replaced = True
            drained = before.is_drained
        if drained:
            before.on_drained()

    @property
    def current(self) -> Content | None:
        """What calls get now, to be looked at: it may be on its way out."""
        held = self._held
        return held.content if held else None

    @contextmanager
    def take(self) -> Iterator[Content]:
        """The content for one call, whole until the end of the `with` whatever is put in.

        Raises:
            UnavailableError: nothing was put in yet.
        """
        with self._lock:
            held = self._held
            if held is None:
                raise UnavailableError("the server is starting; try again in a few seconds")
            held.calls += 1
        try:
            yield held.content
        finally:
            with self._lock:
                held.calls -= 1
                drained = held.is_drained
            if drained:
                held.on_drained()
