"""The experiments that run: who is in which arm, and what that arm serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from recsys.experiments import Assignment, join_labels
from recsys.recommender import Exploration, ItemCard, RankedBy, RankingPolicy
from serving.event_reading import of_session
from serving.experiments_file import DEFAULT_POOL, INTERLEAVED, ServedPlan
from serving.ranking import Ranker
from serving.slot import Slot

NOBODY: Final = Assignment(arms={}, labels={})


@dataclass(frozen=True)
class Side:
    """A ranking that an answer is made of.

    Attributes:
        ranker: of the arm's bundle.
        ranked_by: what orders the candidates.
        temperature: of the draw; None leaves nothing to chance.
        pool: items that are drawn from.
        label: to log what it picks in a drafted list with; "" where it answers alone.
    """

    ranker: Ranker
    ranked_by: RankedBy = RankedBy.FULL
    temperature: float | None = None
    pool: int = DEFAULT_POOL
    label: str = ""

    def policy(self, token: str) -> RankingPolicy:
        """How to answer the request that this attribution token names."""
        if self.temperature is None:
            return RankingPolicy(self.ranked_by)
        return RankingPolicy(self.ranked_by, Exploration(self.temperature, self.pool, token))

    @property
    def text(self) -> str:
        """What equal texts of rank equal requests equally."""
        return f"{self.ranker.version} {self.ranked_by} {self.temperature} {self.pool}"


@dataclass(frozen=True)
class Serving:
    """What one shopper is to be served.

    Attributes:
        sides: the ranking, or the two that a list is drafted from.
        arms: by experiment, overrides included; for counting.
        label: text of `experiment_arm`, without that of a drafted list.
    """

    sides: tuple[Side, ...]
    arms: Mapping[str, str]
    label: str

    @property
    def rankers(self) -> tuple[Ranker, ...]:
        """That of each side."""
        return tuple(side.ranker for side in self.sides)

    @property
    def versions(self) -> str:
        """The bundles' versions, separated by a comma where there are two."""
        return ",".join(dict.fromkeys(side.ranker.version for side in self.sides))

    def card(self, item_id: str) -> ItemCard | None:
        """What to show of an item; None for an unknown one."""
        cards = (side.ranker.card(item_id) for side in self.sides)
        return next((card for card in cards if card is not None), None)

    @property
    def text(self) -> str:
        """What equal texts of serve equal requests equally; "" in no experiment."""
        parts = [join_labels(dict(self.arms)), *(side.text for side in self.sides)]
        return "\n".join(parts) if self.arms else ""


@dataclass(frozen=True)
class RunningExperiments:
    """A plan in force.

    Attributes:
        plan: without an experiment where none runs.
        rankers: of the bundles that arms name, by version.
    """

    plan: ServedPlan = field(default_factory=ServedPlan)
    rankers: Mapping[str, Ranker] = field(default_factory=dict)

    def serving(self, user_id: str, current: Ranker) -> Serving:
        """What a shopper is served; nothing but the `current` bundle's own ranking for ""."""
        assigned = self.plan.assign(user_id) if user_id else NOBODY
        labels, arms = dict(assigned.labels), dict(assigned.arms)
        settings: dict[str, object] = {}
        drafted = None
        for one in self.plan.experiments:
            chosen = arms.get(one.name)
            if chosen is not None and one.interleaved and one.name in labels:
                drafted, arms[one.name] = one, INTERLEAVED
                del labels[one.name]
            elif chosen is not None:
                settings |= next(arm.settings for arm in one.arms if arm.name == chosen)
        sides = [self._side(settings, current)]
        if drafted is not None:
            sides = [
                self._side(
                    settings | arm.settings,
                    current,
                    join_labels(labels | {drafted.name: arm.name}),
                )
                for arm in drafted.arms
            ]
        return Serving(tuple(sides), arms, join_labels(labels))

    def _side(self, settings: Mapping[str, object], current: Ranker, label: str = "") -> Side:
        said = dict(settings)
        version = said.pop("bundle", None)
        ranked_by = said.pop("ranker", RankedBy.FULL)
        ranker = current if version is None else self.rankers[str(version)]
        return Side(ranker=ranker, ranked_by=ranked_by, label=label, **said)  # type: ignore[arg-type]


class ExperimentSlot(Slot[RunningExperiments]):
    """Holds the experiments that run."""


def logged_user(user_id: str, session_id: str) -> str:
    """Who a shopper is to the log of events, and to experiments; "" for somebody unknown.

    Ids that are blank to the log are none.
    """
    return user_id if user_id.strip() else of_session(session_id if session_id.strip() else "")
