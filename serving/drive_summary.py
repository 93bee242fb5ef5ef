"""What came of simulated shoppers' visits to a server: what they did, and what is true of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from recsys import v1
from recsys.errors import ServiceError
from recsys.simulation import ListValue, Opening, VisitorAct


@dataclass(frozen=True)
class ArmFigures:
    """The lists of one arm; "expected" is under the true probabilities, given the lists shown.

    Attributes:
        shoppers: who saw a list.
        lists: shown; those without an item, too.
        impressions: items shown.
        clicks: on them.
        purchases: of them.
        revenue: of them.
        expected_clicks: the true expectation of `clicks`.
        expected_purchases: of `purchases`.
        expected_revenue: of `revenue`.
        expected_clicks_per_shopper: over `shoppers`, as the other two.
        expected_purchases_per_shopper: see above.
        expected_revenue_per_shopper: see above.
        best_purchases: `expected_purchases`, had every list been the best there is.
        ndcg: mean over the lists of the discounted gain of true chances, over the best list's.
    """

    shoppers: int
    lists: int
    impressions: int
    clicks: int
    purchases: int
    revenue: float
    expected_clicks: float
    expected_purchases: float
    expected_revenue: float
    expected_clicks_per_shopper: float
    expected_purchases_per_shopper: float
    expected_revenue_per_shopper: float
    best_purchases: float
    ndcg: float


@dataclass(frozen=True)
class DriveSummary:
    """What happened.

    Attributes:
        dataset: whose shoppers came.
        address: the server's.
        seed: of visits and choices.
        start: first moment, in the shop's time.
        end: first moment no longer.
        calls: to the server, of both kinds.
        failed_calls: those that were not answered, by error.
        lost_events: events in such calls.
        events: made, by type.
        recorded: events that were new to the server.
        duplicates: events that it knew.
        rejected: events that it refused, by reason.
        bought_again: purchases outside lists, of what was used up.
        bundles: answers by the bundle that gave them.
        degraded: answers by what they lack.
        total: all lists.
        arms: lists by the answer's experiment arm; "" where it named none.
    """

    dataset: Path
    address: str
    seed: int
    start: datetime
    end: datetime
    calls: int
    failed_calls: dict[str, int]
    lost_events: int
    events: dict[str, int]
    recorded: int
    duplicates: int
    rejected: dict[str, int]
    bought_again: int
    bundles: dict[str, int]
    degraded: dict[str, int]
    total: ArmFigures
    arms: dict[str, ArmFigures]


@dataclass
class _ArmTally:
    shoppers: set[int] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    sums: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, other: _ArmTally) -> None:
        self.shoppers |= other.shoppers
        self.counts.update(other.counts)
        self.add_sums(other.sums)

    def add_sums(self, sums: Mapping[str, float]) -> None:
        for name, value in sums.items():
            self.sums[name] += value

    def figures(self) -> ArmFigures:
        counts, sums, people = self.counts, self.sums, max(len(self.shoppers), 1)
        return ArmFigures(
            shoppers=len(self.shoppers),
            lists=counts["lists"],
            impressions=counts["impressions"],
            clicks=counts["click"],
            purchases=counts["purchase"],
            revenue=sums["revenue_drawn"],
            expected_clicks=sums["clicks"],
            expected_purchases=sums["purchases"],
            expected_revenue=sums["revenue"],
            expected_clicks_per_shopper=sums["clicks"] / people,
            expected_purchases_per_shopper=sums["purchases"] / people,
            expected_revenue_per_shopper=sums["revenue"] / people,
            best_purchases=sums["best_purchases"],
            ndcg=sums["ndcg"] / max(counts["lists"], 1),
        )


class Tally:
    """Counts, added up in a stated order so that sums of floats come out the same."""

    def __init__(self) -> None:
        self._arms: dict[str, _ArmTally] = {}
        self._counts: Counter[str] = Counter()
        self._by: dict[str, Counter[str]] = {
            name: Counter() for name in ("failed", "events", "rejected", "bundles", "degraded")
        }
        self._bought: list[tuple[int, str]] = []
        self._error: ServiceError | None = None

    def add(self, other: Tally) -> None:
        """Another's counts, too."""
        for arm, figures in other._arms.items():
            self._arms.setdefault(arm, _ArmTally()).add(figures)
        self._counts.update(other._counts)
        for name, counts in other._by.items():
            self._by[name].update(counts)
        self._bought += other._bought
        self._error = other._error or self._error

    def showed(
        self,
        opening: Opening,
        answer: v1.RecommendResponse,
        value: ListValue,
        acts: Sequence[VisitorAct],
    ) -> None:
        """A list was answered, shown and responded to."""
        self._counts["calls"] += 1
        self._counts["answers"] += 1
        arm = self._arms.setdefault(answer.experiment_arm, _ArmTally())
        arm.shoppers.add(opening.user)
        arm.counts.update(act.event_type for act in acts)
        arm.counts.update({"lists": 1, "impressions": len(answer.items)})
        paid = sum((act.price or 0.0) * (act.quantity or 0) for act in acts)
        arm.add_sums(vars(value) | {"revenue_drawn": paid})
        self._by["events"].update(act.event_type for act in acts)
        self._by["events"]["impression"] += len(answer.items)
        self._by["bundles"][answer.bundle_version] += 1
        self._by["degraded"].update(answer.degraded)
        self._remember(opening.user, acts)

    def bought_again(self, user: int, acts: Sequence[VisitorAct]) -> None:
        """A shopper bought outside lists."""
        self._by["events"].update(act.event_type for act in acts)
        self._counts["bought_again"] += sum(act.event_type == "purchase" for act in acts)
        self._remember(user, acts)

    def reported(self, answer: v1.RecordEventsResponse) -> None:
        """A batch of events was taken."""
        self._counts["calls"] += 1
        self._counts["recorded"] += answer.recorded_count
        self._counts["duplicates"] += answer.duplicate_count
        self._by["rejected"].update(one.reason for one in answer.rejected_events)

    def failed(self, error: ServiceError, events: int = 0) -> None:
        """A call was not answered."""
        self._counts["calls"] += 1
        self._counts["lost_events"] += events
        self._by["failed"][type(error).__name__] += 1
        self._error = error

    def take_bought(self) -> list[tuple[int, str]]:
        """Shopper rows and items of the purchases since the last time."""
        bought, self._bought = self._bought, []
        return bought

    def require_answers(self) -> None:
        """Refuse to go on where nothing at all was answered.

        Raises:
            ServiceError: the last error.
        """
        if self._error is not None and not self._counts["answers"]:
            raise self._error

    def summary(
        self, dataset: Path, address: str, seed: int, start: datetime, end: datetime
    ) -> DriveSummary:
        """All of it."""
        total, counts = _ArmTally(), self._counts
        for arm in self._arms.values():
            total.add(arm)
        return DriveSummary(
            dataset=dataset,
            address=address,
            seed=seed,
            start=start,
            end=end,
            calls=counts["calls"],
            failed_calls=_sorted(self._by["failed"]),
            lost_events=counts["lost_events"],
            events=_sorted(self._by["events"]),
            recorded=counts["recorded"],
            duplicates=counts["duplicates"],
            rejected=_sorted(self._by["rejected"]),
            bought_again=counts["bought_again"],
            bundles=_sorted(self._by["bundles"]),
            degraded=_sorted(self._by["degraded"]),
            total=total.figures(),
            arms={name: arm.figures() for name, arm in sorted(self._arms.items())},
        )

    def _remember(self, user: int, acts: Sequence[VisitorAct]) -> None:
        self._bought += [(user, act.item_id) for act in acts if act.event_type == "purchase"]


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
