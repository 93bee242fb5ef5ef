"""Follows the registry's pointer: what it names is served."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

from recsys.bundle import Registry
from recsys.errors import (
    BundleDiskError,
    RecsysError,
    StateUnavailableError,
    SwapInProgressError,
)
from serving.logs import serving_log
from serving.swapping import BundleSwapper
from serving.watch import Mark, Watch, file_mark

log = serving_log()


class PointerWatch(Watch):
    """Looks at the pointer every so often, and changes to the bundle it names once it is replaced.

    A bundle that is refused is not tried again until the pointer is replaced once more; one that
    has to wait for the state store is, and so is a pointer that can't be read. While pointer or
    registry are gone, what is served is served on.

    Args:
        registry: whose pointer.
        swapper: changes the bundle.
        seconds: between two looks.
        stopping: ends it once set; a change under way is given up then.
        is_ready: whether a change can succeed; until then, none is tried.
        on_refused: called for each pointer that names no bundle that may be served.
    """

    def __init__(
        self,
        registry: Registry,
        swapper: BundleSwapper,
        seconds: float,
        stopping: Event,
        is_ready: Callable[[], bool] = lambda: True,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__("pointer watch", seconds, stopping)
        self._registry = registry
        self._swapper = swapper
        self._seen = file_mark(registry.pointer)
        self._is_ready = is_ready
        self._on_refused = on_refused
        self._unreadable: Mark | None = None

    def _look(self) -> None:
        mark = file_mark(self._registry.pointer)
        if mark != self._seen and self._followed(mark):
            self._seen = mark

    def _followed(self, mark: Mark | None) -> bool:
        """Whether this state of the pointer is dealt with."""
        if mark is None:
            log.error("pointer_missing", serving=self._swapper.status.version)
            return True
        status = self._swapper.status
        try:
            version = self._registry.current(seen=status.newest or None)
        except RecsysError as error:
            return self._refused(mark, error)
        self._unreadable = None
        if version == status.version or not self._is_ready():
            return version == status.version
        try:
            self._swapper.change_to(version, self._time_left)
        except (SwapInProgressError, StateUnavailableError):
            return False
        except Exception:  # noqa: BLE001
            return True  # the swapper has said why
        return True

    def _refused(self, mark: Mark, error: RecsysError) -> bool:
        """Whether a pointer that leads to this error is dealt with; each is counted once."""
        can_be_read = not isinstance(error, BundleDiskError)
        if can_be_read or mark != self._unreadable:
            self._on_refused()
            self._swapper.note_failure("", str(error))
        self._unreadable = None if can_be_read else mark
        return can_be_read
