"""Sees to it that a server that was just started can go back a bundle as quickly as any other."""

from __future__ import annotations

import math
from threading import Event, Thread

from recsys.bundle import Registry
from recsys.errors import BundleNotFoundError, DeadlineError, RecsysError
from serving.loading import BundleLoader
from serving.logs import serving_log

log = serving_log()


class RollbackCheck:
    """Tries out the bundle before the one that is served, once, a while after the start.

    To try one out takes most of the time that going back takes, and a server that was started anew
    has not done so for the bundle before, as one that has served it has. That it could not be
    served is better known before it is needed, too: the log's `rollback_refused` says so.

    Args:
        registry: where bundles are.
        loader: of the server.
        version: that is served.
        seconds: to wait before.
        stopping: ends it once set.
    """

    def __init__(
        self,
        registry: Registry,
        loader: BundleLoader,
        version: str,
        seconds: float,
        stopping: Event,
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._version = version
        self._seconds = seconds
        self._stopping = stopping
        self._thread = Thread(target=self._run, name="rollback check", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join()

    def _run(self) -> None:
        if self._stopping.wait(self._seconds):
            return
        try:
            before = self._registry.previous(self._version)
        except BundleNotFoundError:
            return
        try:
            self._loader.try_ahead(before, self._time_left)
        except DeadlineError:
            log.info("rollback_check_abandoned", bundle=before)
        except RecsysError as error:
            log.warning("rollback_refused", bundle=before, reason=str(error))
        else:
            log.info("rollback_ready", bundle=before)

    def _time_left(self) -> float:
        return 0.0 if self._stopping.is_set() else math.inf
