"""Units of time inside arrays: int64 microseconds since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, TypeVar
from weakref import WeakMethod

import numpy as np
from numpy.typing import NDArray

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
WEEKDAYS: Final = 7
_WEEKDAY_OF_EPOCH: Final = 3
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
Found = TypeVar("Found")


def microseconds(time: datetime) -> int:
    """An aware time as arrays hold it."""
    return (time - _EPOCH) // _MICROSECOND


def as_datetime(time_us: int) -> datetime:
    """The inverse of `microseconds`, in UTC."""
    return _EPOCH + time_us * _MICROSECOND


def floor_to_hour(time_us: int) -> int:
    """The last full hour at or before `time_us`; counts end there, so that they can be kept.

    Both sides use it: a count that training sees for 10:59 is the one that serving gives at 10:01.
    """
    return time_us - time_us % HOUR_US


def kept_by_hour(method: Callable[[int], Found], hours: int) -> Callable[[int], Found]:
    """What `method` gives for the latest `hours` full hours asked for, computed once each.

    Its owner may hold the result: unlike with `lru_cache` itself that makes no reference cycle, so
    the owner is freed with its last user. Raises ReferenceError when it has been.
    """
    owned = WeakMethod(method)

    @lru_cache(maxsize=hours)
    def found(hour: int) -> Found:
        bound = owned()
        if bound is None:
            raise ReferenceError("the owner of what is kept by hour is gone")
        return bound(hour)

    return found


def weekday(time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Day of the week in UTC, from 0 for Monday to 6; same shape."""
    return (time // DAY_US + _WEEKDAY_OF_EPOCH) % WEEKDAYS
