"""When an answer has to be ready, and what the steps towards it have been taking."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Self

from recsys.errors import CallCancelledError, DeadlineError
from recsys.recommender.watching import UNWATCHED, Watcher

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""

_REMEMBERED: Final = 32
"""Latest measurements of a step that its expected time is the median of."""

_HOPE: Final = 0.95
"""What expected times are multiplied by when something is left out for them: nothing is measured
then, and times that were long for a while would leave it out for everybody."""

_PATIENCE: Final = 100
"""Calls one after the other that leave a step out before it is expected to be quicker again: a call
that then tries it may come late, which no more than one in so many should."""


@dataclass(frozen=True)
class Deadline:
    """A point in time, in seconds of `clock`.

    Attributes:
        at: when the answer has to be ready.
        clock: tells the time now.
        grace: seconds after `at` in which an answer is still of use, if it can't be ready before.
        watcher: of the call.
    """

    at: float
    clock: Clock
    grace: float = 0.0
    watcher: Watcher = UNWATCHED

    @classmethod
    def after(
        cls,
        seconds: float,
        clock: Clock,
        at_most: float = float("inf"),
        watcher: Watcher = UNWATCHED,
    ) -> Self:
        """So many seconds from now; an answer is wanted after `at_most`, where that is sooner."""
        soon = min(seconds, at_most)
        return cls(clock() + soon, clock, seconds - soon, watcher)

    def require_wanted(self) -> None:
        """Go on only for somebody who waits.

        Raises:
            CallCancelledError: nobody waits for the answer any more.
        """
        if not self.watcher.wanted:
            raise CallCancelledError("the caller does not wait for the answer any more")

    @property
    def is_set(self) -> bool:
        """Whether it ever comes."""
        return self.at < float("inf")

    def but(self, seconds: float) -> Deadline:
        """So many seconds earlier, which are kept for something else."""
        return replace(self, at=self.at - seconds) if self.is_set else self

    @property
    def remaining(self) -> float:
        """Seconds that are left, below 0 once it has passed."""
        return self.at - self.clock()


NO_DEADLINE: Final = Deadline(float("inf"), lambda: 0.0)
"""All the time there is; nothing is learnt from how long its steps take."""


class StepTimes:
    """What steps take by units of work; a step that was never measured takes no time.

    Args:
        overheads: of some steps, the units that would take as long as all that the step takes
            however little there is to do.
    """

    def __init__(self, overheads: Mapping[str, int] | None = None) -> None:
        self._overheads = overheads or {}
        self._measured: dict[str, deque[tuple[float, int]]] = {}
        self._expected: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._usual: dict[str, int] = {}
        self._left_out: Counter[str] = Counter()

    @contextmanager
    def measured(self, step: str, units: int, deadline: Deadline) -> Iterator[None]:
        """Measure `units` of a step by the deadline's clock, under the eyes of its watcher.

        Raises:
            CallCancelledError: nobody waits for the answer any more; the step is not begun.
        """
        deadline.require_wanted()
        started = deadline.clock()
        with deadline.watcher.stage(step):
            yield
        if units > 0 and deadline.is_set:
            latest = self._measured.setdefault(step, deque(maxlen=_REMEMBERED))
            taken = (deadline.clock() - started) / (units + self._overheads.get(step, 0))
            self._best[step] = min(taken, self._best.get(step, taken))
            latest.append((taken, units))
            self._left_out[step] = 0
            seconds, sizes = zip(*latest, strict=True)
            self._expected[step], self._usual[step] = median(seconds), int(median(sizes))

    def expected(self, steps: Mapping[str, int]) -> float:
        """Seconds that so many units of the named steps will take."""
        return self._sum(self._expected, steps)

    def usual(self, step: str) -> int:
        """Units of a step in the median of its latest measurements."""
        return self._usual.get(step, 0)

    def require(self, deadline: Deadline, steps: Mapping[str, int]) -> None:
        """Go on only with time for so many units of the named steps.

        Raises:
            DeadlineError: there is less.
        """
        if deadline.remaining + deadline.grace >= self.expected(steps):
            return
        self._hope(steps)
        raise DeadlineError("the call's time would have run out before anything was ranked")

    def note_left_out(self, steps: Mapping[str, int], seconds: float) -> None:
        """Expect less of steps that many calls have left out, if they once took so few seconds."""
        self._left_out.update(steps.keys())
        if self._sum(self._best, steps) <= seconds:
            self._hope([step for step in steps if self._left_out[step] > _PATIENCE])

    def _sum(self, seconds: Mapping[str, float], steps: Mapping[str, int]) -> float:
        return sum(
            (units + self._overheads.get(step, 0)) * seconds.get(step, 0.0)
            for step, units in steps.items()
            if units
        )

    def _hope(self, steps: Iterable[str]) -> None:
        for step in steps:
            self._expected[step] = _HOPE * self._expected.get(step, 0.0)
