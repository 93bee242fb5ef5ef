"""From ranked rows to the rows of a report: segments, means with intervals, paired differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import NextPeriod, history_segments, item_segments
from training.report import (
    EVERYONE,
    DifferenceRow,
    Measured,
    ResultRow,
    Target,
    difference_estimates,
    estimates,
    measure,
)
from training.report_systems import Shop

Lists = Mapping[str, NDArray[np.int32]]
"""System name to item rows (n, LIST_LENGTH), a row for each customer of a period."""

_COLD_PAIRS: Final = (
    ("zero_shot", "popularity"),
    ("fine_tuned", "popularity"),
    ("fine_tuned", "zero_shot"),
    ("system", "popularity"),
    ("system", "zero_shot"),
    ("system", "fine_tuned"),
)


def result_rows(shop: Shop, target: Target, period: NextPeriod, lists: Lists) -> list[ResultRow]:
    """Every system of a target on all its customers and on each segment that has some."""
    return [
        ResultRow(
            target=target,
            segment=segment,
            system=system,
            customers=len(part.users),
            metrics=estimates(
                measure(ranked[np.searchsorted(period.users, part.users)], part.truth), shop.seed
            ),
        )
        for segment, part in _segments(shop, target, period).items()
        for system, ranked in lists.items()
    ]


def difference_rows(
    shop: Shop, target: Target, period: NextPeriod, lists: Lists
) -> list[DifferenceRow]:
    """The system against each other one but the oracle; on the cold task the text rankers, too."""
    measured: dict[str, Measured] = {
        system: measure(ranked, period.truth) for system, ranked in lists.items()
    }
    others = [("system", name) for name in measured if name not in {"system", "oracle"}]
    return [
        DifferenceRow(
            target=target,
            system=first,
            against=second,
            customers=len(period.users),
            metrics=difference_estimates(measured[first], measured[second], shop.seed),
        )
        for first, second in (_COLD_PAIRS if target == "cold" else others)
    ]


def _segments(shop: Shop, target: Target, period: NextPeriod) -> dict[str, NextPeriod]:
    parts = {EVERYONE: period}
    if target != "cold":
        for name, customers in history_segments(period).items():
            parts[name] = period.take(np.flatnonzero(customers))
        for name, inside in item_segments(shop.log, shop.start, shop.seen).items():
            parts[name] = period.restricted_to(inside)
    return {name: part for name, part in parts.items() if len(part.users)}
