"""Changes the bundle that answers calls while calls are answered."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from threading import Event, Lock
from typing import Final, Protocol

from recsys.errors import DeadlineError, RecsysError, SwapInProgressError
from serving.canary import TimeLeft
from serving.loading import LoadedBundle
from serving.logs import serving_log
from serving.ranking import Ranker
from serving.threads import Background
from training.process import release_freed_memory

DRAIN_SECONDS: Final = 60.0
"""Longest wait for the calls on the bundle before; it is freed later if they take longer."""

log = serving_log()


class Install(Protocol):
    """`Server.install`."""

    def __call__(
        self,
        ranker: Ranker,
        on_drained: Callable[[], None],
        before_swap: Callable[[], None],
    ) -> None:
        """Warm the recommender up, run `before_swap`, let it answer calls."""
        ...


@dataclass(frozen=True)
class LoadFailure:
    """A bundle that was refused.

    Attributes:
        version: of the bundle.
        reason: names the file where one is to blame.
        at: when.
    """

    version: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class SwapStatus:
    """What is served, and how changing it went; counts are since the process began.

    Attributes:
        version: of the bundle that answers calls; empty before the first.
        newest: the newest version that ever answered calls; empty before the first.
        since: when it began to answer; None before the first.
        swaps: bundles that were put in, the first one included.
        load_failures: bundles that were refused.
        last_failure: the latest of them.
    """

    version: str = ""
    newest: str = ""
    since: datetime | None = None
    swaps: int = 0
    load_failures: int = 0
    last_failure: LoadFailure | None = None


@dataclass(frozen=True)
class ServingBundle:
    """A bundle that answers calls, and what to do when it does no more.

    Attributes:
        version: of the bundle.
        drained: set when its last call has ended.
        close: lets go of its folder.
        ranker: that was loaded; gone once its memory is free.
    """

    version: str
    drained: Event
    close: Callable[[], None]
    ranker: weakref.ref[Ranker]

    def free(self) -> None:
        """Wait for its last call, then let go of its folder and its memory."""
        if not self.drained.wait(DRAIN_SECONDS):
            log.warning("still_answering", bundle=self.version, seconds=DRAIN_SECONDS)
        self.close()
        gc.collect()
        if self.ranker() is not None:
            log.warning("not_freed", bundle=self.version)
        release_freed_memory()


class BundleSwapper:
    """Loads a bundle, warms it up, lets it answer calls and frees the one before; one at a time.

    Until the new one is warm the old one answers, and on any failure it goes on as if nothing had
    been tried. Two bundles are in memory at most: the next change waits until the old one is free.

    Args:
        load: opens a version; see `BundleLoader.load`.
        install: see `Server.install`.
        clock: the time now, aware of its time zone.
    """

    def __init__(
        self,
        load: Callable[[str, TimeLeft], LoadedBundle],
        install: Install,
        clock: Callable[[], datetime],
    ) -> None:
        self._load = load
        self._install = install
        self._clock = clock
        self._turn = Lock()
        self._background = Background()
        self._serving: ServingBundle | None = None
        self.status = SwapStatus()

    @property
    def in_progress(self) -> bool:
        """Whether a change is under way."""
        return self._turn.locked()

    def change_to(
        self,
        version: str,
        time_left: TimeLeft = lambda: math.inf,
        commit: Callable[[], None] = lambda: None,
    ) -> None:
        """Serve another version; returns when the one before is freed.

        Args:
            version: of the bundle.
            time_left: asked between steps; once there is none, nothing has changed.
            commit: the last step before the new bundle answers calls; if it raises, nothing has.

        Raises:
            SwapInProgressError: another change is under way.
            DeadlineError: the time ran out.
            RecsysError: the bundle is refused; the status and the log say why.
        """
        with self._one_at_a_time():
            try:
                new = self._opened_beside_calls(version, time_left, commit)
            except DeadlineError:
                log.warning("swap_abandoned", bundle=version)
                raise
            except RecsysError as error:
                self.note_failure(version, str(error))
                raise
            except Exception as error:
                self.note_failure(version, f"{type(error).__name__} while it was loaded")
                raise
            old, self._serving = self._serving, new
            self._note_success(version)
            if old is not None:
                old.free()

    def note_failure(self, version: str, reason: str) -> None:
        """Count and log a bundle that was refused; `version` is empty where nobody knows it."""
        self.status = replace(
            self.status,
            load_failures=self.status.load_failures + 1,
            last_failure=LoadFailure(version, reason, self._clock()),
        )
        log.error("load_failed", bundle=version, reason=reason, serving=self.status.version)

    def close(self) -> None:
        """Let go of the bundle's folder and the thread; calls under way keep what is in memory."""
        self._background.close()
        if self._serving is not None:
            self._serving.close()

    def _opened_beside_calls(
        self, version: str, time_left: TimeLeft, commit: Callable[[], None]
    ) -> ServingBundle:
        opened = partial(self._opened, version, time_left, commit)
        return opened() if self._serving is None else self._background.run(opened)

    def _opened(
        self, version: str, time_left: TimeLeft, commit: Callable[[], None]
    ) -> ServingBundle:
        loaded = self._load(version, time_left)
        drained = Event()

        def go_ahead() -> None:
            if time_left() <= 0:
                raise DeadlineError("there was no time to serve the bundle")
            commit()

        try:
            self._install(loaded.ranker, drained.set, go_ahead)
        except BaseException:
            loaded.close()
            raise
        return ServingBundle(version, drained, loaded.close, weakref.ref(loaded.ranker))

    @contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        if not self._turn.acquire(blocking=False):
            raise SwapInProgressError("swap in progress: another bundle is being loaded or freed")
        try:
            yield
        finally:
            self._turn.release()

    def _note_success(self, version: str) -> None:
        status = self.status
        self.status = replace(
            status,
            version=version,
            newest=max(status.newest, version, key=_by_number),
            since=self._clock(),
            swaps=status.swaps + 1,
        )
        log.info("serving", bundle=version, swaps=self.status.swaps)


def _by_number(version: str) -> tuple[int, str]:
    """Order of version names: longer ones are later."""
    return len(version), version
