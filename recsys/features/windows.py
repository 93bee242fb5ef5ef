"""The windows that events are counted over."""

from __future__ import annotations

from typing import Final

WINDOW_DAYS: Final = (7, 14, 30, 90, 400)
WEEK: Final = WINDOW_DAYS.index(7)
FORTNIGHT: Final = WINDOW_DAYS.index(14)
MONTH: Final = WINDOW_DAYS.index(30)
QUARTER: Final = WINDOW_DAYS.index(90)
