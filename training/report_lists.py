"""All the lists of an evaluation: every system on every target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.evaluation import NextPeriod
from training.peers import Scorer
from training.report import Target
from training.report_cold import oracle_lists, text_lists, tied_lists
from training.report_oracle import Oracle
from training.report_rows import Lists
from training.report_systems import Advance, Served, Shop, rank_catalogue


class Bar:
    """One progress bar over all systems; its text names the one at work.

    Args:
        progress: shows it.
        total: customers, counted once for each pass over them.
    """

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("evaluate", total=total)

    def begin(self, description: str) -> Advance:
        """Name what comes next; call the result with the number of customers done."""
        self._progress.update(self._task, description=description)
        return lambda done: self._progress.advance(self._task, done)


@dataclass(frozen=True)
class Ranking:
    """Everything that ranks.

    Attributes:
        shop: the dataset at the cut.
        served: the bundle.
        peers: systems that score the whole catalogue, by name.
        oracle: of a simulated shop.
    """

    shop: Shop
    served: Served
    peers: Mapping[str, Scorer]
    oracle: Oracle | None

    def passes(self, periods: Mapping[Target, NextPeriod]) -> int:
        """Customers that `lists` goes over, counted once for each pass."""
        extra = int(self.oracle is not None)
        full = len(self.peers) + 1 + extra
        sizes = {target: len(period.users) for target, period in periods.items()}
        return (sizes["all"] + sizes["new"]) * full + sizes["cold"] * (4 + extra)

    def lists(self, periods: Mapping[Target, NextPeriod], bar: Bar) -> dict[Target, Lists]:
        """Ranked rows by target and system; targets without a customer are left out."""
        found: dict[Target, Lists] = {"all": self._catalogue(periods["all"], bar, new=False)}
        if len(periods["new"].users):
            found["new"] = self._catalogue(periods["new"], bar, new=True)
        if len(periods["cold"].users):
            found["cold"] = self._cold(periods["cold"], bar)
        return found

    def _catalogue(self, period: NextPeriod, bar: Bar, *, new: bool) -> Lists:
        target = "new" if new else "all"
        lists = {}
        for name, scorer in self.peers.items():
            advance = bar.begin(f"{target}: {name}")
            lists[name] = rank_catalogue(self.shop, period, scorer, advance, new=new)
        lists |= self.served.recommended(period, bar.begin(f"{target}: system"), new=new)
        if self.oracle is not None:
            truth, advance = self._oracle_scorer(self.oracle), bar.begin(f"{target}: oracle")
            lists["oracle"] = rank_catalogue(self.shop, period, truth, advance, new=new)
        return lists

    def _oracle_scorer(self, oracle: Oracle) -> Scorer:
        log = self.shop.log

        def score(users: NDArray[np.int64]) -> NDArray[np.float64]:
            ids = [log.user_ids[row] for row in users]
            return oracle(ids, log.item_ids).astype(np.float64)

        return score

    def _cold(self, period: NextPeriod, bar: Bar) -> Lists:
        served, items = self.served, self.shop.cold_items
        lists = {"popularity": tied_lists(served, period, bar.begin("cold: popularity"))}
        zero_shot, fine_tuned = text_lists(served, period, bar.begin("cold: text"))
        lists |= {"zero_shot": zero_shot, "fine_tuned": fine_tuned}
        lists["system"] = served.ranked(period, items, bar.begin("cold: system"))
        if self.oracle is not None:
            advance = bar.begin("cold: oracle")
            lists["oracle"] = oracle_lists(served, period, self.oracle, advance)
        return lists
