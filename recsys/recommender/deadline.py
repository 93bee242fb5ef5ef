"""When an answer has to be ready, and what the steps towards it have been taking."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final, Self

from recsys.errors import DeadlineError

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""

_REMEMBERED: Final = 32
"""Latest measurements of a step that its expected time is the median of."""

_HOPE: Final = 0.95
"""What expected times are multiplied by when a call is refused for them: nothing is measured then,
and times that were long for a while would keep everybody out."""


@dataclass(frozen=True)
class Deadline:
    """A point in time, in seconds of `clock`.

    Attributes:
        at: when the answer has to be ready.
        clock: tells the time now.
    """

    at: float
    clock: Clock

    @classmethod
    def after(cls, seconds: float, clock: Clock) -> Self:
        """So many seconds from now."""
        return cls(clock() + seconds, clock)

    @property
    def remaining(self) -> float:
        """Seconds that are left, below 0 once it has passed."""
        return self.at - self.clock()


NO_DEADLINE: Final = Deadline(float("inf"), lambda: 0.0)
"""All the time there is; nothing is learnt from how long its steps take."""


class StepTimes:
    """What steps take for one unit of work; a step that was never measured takes no time."""

    def __init__(self) -> None:
        self._measured: dict[str, deque[float]] = {}
        self._expected: dict[str, float] = {}

    @contextmanager
    def measured(self, step: str, units: int, deadline: Deadline) -> Iterator[None]:
        """Measure `units` of a step by the deadline's clock."""
        started = deadline.clock()
        yield
        if units > 0 and deadline is not NO_DEADLINE:
            latest = self._measured.setdefault(step, deque(maxlen=_REMEMBERED))
            latest.append((deadline.clock() - started) / units)
            self._expected[step] = median(tuple(latest))

    def expected(self, **units: int) -> float:
        """Seconds that so many units of the named steps will take."""
        return sum(count * self._expected.get(step, 0.0) for step, count in units.items())

    def require(self, deadline: Deadline, **units: int) -> None:
        """Go on only with time for so many units of the named steps.

        Raises:
            DeadlineError: there is less.
        """
        if deadline.remaining >= self.expected(**units):
            return
        for step in units:
            self._expected[step] = _HOPE * self._expected.get(step, 0.0)
        raise DeadlineError("the call's time would have run out before anything was ranked")
