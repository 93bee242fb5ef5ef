"""Features of an item as everybody's events show it: the same for all requests of an hour."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from recsys.features.windows import FORTNIGHT, MONTH, QUARTER, WEEK, WINDOW_DAYS
from recsys.interactions.position_bias import EXPOSURE_DAYS

if TYPE_CHECKING:
    from recsys.features.statistics import ItemStatistics

PRIOR_CLICKS: Final = 5.0
"""Expected clicks, or clicks, at the rate of all items that are added to an item's own."""

SMOOTHING: Final = np.float32(0.1)
Columns = dict[str, NDArray[np.float32]]


def popularity_by_item(statistics: ItemStatistics) -> Columns:
    """Purchases, clicks, carts and first-time buyers of the item over windows, relative to all.

    A trend compares a short window with a longer one.

    A window's value is the item's count over the mean count of the items that have one: the same in
    a busy month and in a quiet one.
    """
    relative = {
        name: _relative(getattr(statistics, name))
        for name in ("purchases", "clicks", "carts", "new_buyers")
    }
    columns = {
        f"{name}_{days}d": values[row]
        for name, values in relative.items()
        for row, days in enumerate(WINDOW_DAYS)
    }
    for name in ("purchases", "new_buyers", "clicks"):
        values = relative[name]
        columns[f"{name}_trend"] = _trend(values[MONTH], values[QUARTER])
        columns[f"{name}_trend_7d"] = _trend(values[WEEK], values[MONTH])
        columns[f"{name}_trend_14d"] = _trend(values[FORTNIGHT], values[QUARTER])
    return columns


def rates_by_item(statistics: ItemStatistics) -> Columns:
    """How the item does where it is shown.

    `ctr` is clicks over expected clicks: 1 for an item that is clicked as often as the average item
    would be at its positions. `cvr` is purchases per click or view. Both are drawn towards the rate
    of all items as by a gamma prior worth `PRIOR_CLICKS`; NaN in a window where no click of any
    item is expected, or happened.
    """
    columns: Columns = {}
    for row, days in enumerate(EXPOSURE_DAYS):
        clicks, expected = statistics.exposure.clicks[row], statistics.exposure.expected_clicks[row]
        columns[f"ctr_{days}d"] = _smoothed(clicks, expected, 1.0)
    for days in EXPOSURE_DAYS:
        row = WINDOW_DAYS.index(days)
        bought, clicked = statistics.purchases[row], statistics.clicks[row]
        rate = bought.sum() / max(float(clicked.sum()), 1.0)
        columns[f"cvr_{days}d"] = _smoothed(bought, clicked, float(rate))
    return columns


def _relative(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    mean = counts.sum(axis=1) / np.maximum((counts > 0).sum(axis=1), 1)
    scaled: NDArray[np.float32] = counts / np.maximum(mean, 1e-9)[:, None]
    return scaled.astype(np.float32)


def _trend(short: NDArray[np.float32], long: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log ratio of the relative counts of a short and a long window; 0 when alike."""
    trend: NDArray[np.float32] = np.log((short + SMOOTHING) / (long + SMOOTHING))
    return trend


def _smoothed(
    events: NDArray[np.float32], of: NDArray[np.float32], rate: float
) -> NDArray[np.float32]:
    """float32: `events / of`, drawn towards `rate`; NaN if there is nothing they are counted of."""
    ratio = (events + PRIOR_CLICKS * rate) / (of + PRIOR_CLICKS)
    return np.where(of.any(), ratio, np.nan).astype(np.float32)
