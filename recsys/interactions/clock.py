"""Units of time inside arrays: int64 microseconds since the epoch, UTC."""

from __future__ import annotations

from typing import Final

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US


def floor_to_hour(time_us: int) -> int:
    """The last full hour at or before `time_us`; counts end there, so that they can be kept.

    Both sides use it: a count that training sees for 10:59 is the one that serving gives at 10:01.
    """
    return time_us - time_us % HOUR_US
