"""What sold up to a full hour, for items and around them; the latest hours are kept."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.features import WINDOW_DAYS, ItemStatistics
from recsys.interactions import InteractionLog, kept_by_hour
from recsys.retrieval import ItemNeighbours

HOURS_KEPT: Final = 3
"""Of 100,000 items an hour's counts take about 30 MB; calls mostly ask for the latest."""
DEMAND_NEIGHBOURS: Final = 15
SMOOTHING: Final = np.float32(0.1)


class HourlyCounts:
    """Counts of a log up to full hours; safe for calls from several threads.

    Args:
        log: events.
        leaf: int32 (items,), number of each item's category path.
        neighbours: items of near meaning.

    Attributes:
        statistics: of the items, given an hour.
        demand: what items of near meaning sold lately, relative to all, given an hour; float32
            (items,) each.
    """

    def __init__(
        self, log: InteractionLog, leaf: NDArray[np.int32], neighbours: ItemNeighbours
    ) -> None:
        self._log = log
        self._leaf = leaf
        self._neighbours = neighbours
        self.statistics = kept_by_hour(self._statistics, HOURS_KEPT)
        self.demand = kept_by_hour(self._demand, HOURS_KEPT)

    def _statistics(self, hour: int) -> ItemStatistics:
        return ItemStatistics.at(self._log, hour, self._leaf)

    def _demand(self, hour: int) -> dict[str, NDArray[np.float32]]:
        return _demand(self.statistics(hour), self._neighbours)


def _demand(counts: ItemStatistics, neighbours: ItemNeighbours) -> dict[str, NDArray[np.float32]]:
    week, month, quarter = (
        _against_average(counts.purchases[WINDOW_DAYS.index(days)], neighbours)
        for days in (7, 30, 90)
    )
    return {
        "neighbours_purchases": month.astype(np.float32),
        "neighbours_trend": np.log((month + SMOOTHING) / (quarter + SMOOTHING)),
        "neighbours_trend_7d": np.log((week + SMOOTHING) / (month + SMOOTHING)),
    }


def _against_average(
    purchases: NDArray[np.float32], neighbours: ItemNeighbours
) -> NDArray[np.float32]:
    """(items,): what an item's neighbours sell, as a multiple of what an item sells on average."""
    average = float(purchases.mean()) if len(purchases) else 0.0
    return neighbours.mean_over(purchases, DEMAND_NEIGHBOURS) / max(average, 1e-9)
