"""What any ranker has to beat: the most popular items of the last days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recsys.interactions import DAY_US, EventKind, InteractionLog


def popularity(
    log: InteractionLog, time: int, kind: EventKind, days: float = 30.0
) -> NDArray[np.float64]:
    """Distinct shoppers per item with an event of a kind within the `days` before `time`.

    Args:
        log: the whole log; events at or after `time` are not looked at.
        time: microseconds since the epoch, UTC.
        kind: the events that are counted.
        days: length of the window.

    Returns:
        float64 (items,); 0 for an item without an event in the window.
    """
    window = log.between(time - round(days * DAY_US), time)
    counted = window[log.kind[window] == kind]
    items = len(log.item_ids)
    pairs = np.unique(log.user[counted].astype(np.int64) * items + log.item[counted])
    return np.bincount(pairs % items, minlength=items).astype(np.float64)
