"""Metrics of an experiment, and their values shopper by shopper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ConfigurationError
from recsys.experiments import linearised_ratio, winsorised, winsorising_cap
from recsys.tables import EVENT_TYPES

Totals = Mapping[str, NDArray[np.float64]]
"""float64 (n,) by column: what each of n shoppers did in a period."""

SHOWN, CLICKED, REVENUE = "shown", "clicked", "revenue"
COLUMNS: Final = (*EVENT_TYPES, SHOWN, CLICKED, REVENUE)
"""Columns of totals: events by type; labelled impressions, those clicked, and money."""

CAP_QUANTILE: Final = 0.99
"""Of the shoppers who spend anything: what `revenue_capped` counts at most."""

Form = Literal["ratio", "mean", "share", "capped"]
UNWANTED: Final = ("hide",)
"""Events that fewer are better of."""


@dataclass(frozen=True)
class Metric:
    """What is compared.

    Attributes:
        name: how it is asked for.
        title: how it is shown.
        form: `ratio` of two totals; `mean` of one a shopper; `share` of shoppers with any;
            `capped`, a mean with the largest totals cut.
        numerator: of `COLUMNS`.
        denominator: of `COLUMNS`; equal to the numerator where the form is no ratio.
    """

    name: str
    title: str
    form: Form
    numerator: str
    denominator: str

    @classmethod
    def named(cls, name: str) -> Self:
        """`ctr`, `conversion`, `revenue`, `revenue_capped`, `EVENT` or `EVENT/EVENT`.

        Raises:
            ConfigurationError: `name` is none of them.
        """
        if name in _KNOWN:
            title, form, numerator, denominator = _KNOWN[name]
            return cls(name, title, form, numerator, denominator)
        numerator, slash, denominator = name.partition("/")
        known = {numerator, denominator} if slash else {numerator}
        if not known <= set(EVENT_TYPES):
            raise ConfigurationError(
                f"no metric {name!r}; expected {', '.join(_KNOWN)}, an event type such as "
                "add_to_cart, or a rate such as purchase/click"
            )
        if slash:
            return cls(name, f"{numerator} per {denominator}", "ratio", numerator, denominator)
        return cls(name, f"{numerator} per shopper", "mean", numerator, numerator)

    @property
    def sign(self) -> int:
        """1 where more is better, -1 where less is."""
        return -1 if self.numerator in UNWANTED else 1

    @property
    def is_share(self) -> bool:
        """Whether values are shown as percentages."""
        return self.form in {"ratio", "share"}

    def cap(self, totals: Totals) -> float:
        """What a shopper counts at most, from all arms together; infinite unless `capped`."""
        if self.form != "capped":
            return np.inf
        return winsorising_cap(totals[self.numerator], CAP_QUANTILE)

    def values(self, totals: Totals, rows: NDArray[np.int64], cap: float) -> NDArray[np.float64]:
        """float64 (rows,): values whose mean over an arm's shoppers is the metric.

        All NaN for a ratio whose denominators are all 0.

        Args:
            totals: of all shoppers.
            rows: the arm's.
            cap: of `cap`.
        """
        numerator = totals[self.numerator][rows]
        if self.form == "ratio":
            return linearised_ratio(numerator, totals[self.denominator][rows])
        if self.form == "share":
            return (numerator > 0).astype(np.float64)
        return winsorised(numerator, cap)


_KNOWN: Final[dict[str, tuple[str, Form, str, str]]] = {
    "ctr": ("clicks per impression", "ratio", CLICKED, SHOWN),
    "conversion": ("shoppers who buy", "share", "purchase", "purchase"),
    "revenue": ("revenue per shopper", "mean", REVENUE, REVENUE),
    "revenue_capped": ("revenue per shopper, capped", "capped", REVENUE, REVENUE),
}
