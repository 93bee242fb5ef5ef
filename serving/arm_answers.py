"""Answers a request as the shopper's arms say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from recsys.experiments import FIRST, NOBODY, draft_propensity, share_of, team_draft
from recsys.page import LABELS, Action
from recsys.recommender import Deadline, RankedItem, RankedList, RecommendRequest
from serving.experiments import Serving, Side
from serving.ranking import Ranker
from serving.recent_events import degraded_by

PINNED: Final = LABELS[Action.PIN]
_HEADS: Final = 0.5

WithRecent = Callable[[RecommendRequest, Ranker], tuple[RecommendRequest, tuple[str, ...]]]


@dataclass(frozen=True)
class ArmAnswer:
    """An answer with what its items are to be logged with.

    Attributes:
        answer: of a drafted list, scores and reasons are those of the ranking that picked the item,
            `candidates` those of the ranking with more of them.
        labels: text of `experiment_arm` by item, for items with another one than the answer.
    """

    answer: RankedList
    labels: Mapping[str, str] = field(default_factory=dict)


def answered(
    asked: RecommendRequest,
    serving: Serving,
    token: str,
    deadline: Deadline,
    with_recent: WithRecent,
) -> ArmAnswer:
    """Rank once, or twice and draft.

    Args:
        asked: the request without recent events.
        serving: what the shopper is served.
        token: the attribution token, which all chance follows from.
        deadline: of the call; the first of two rankings gets half of what is left.
        with_recent: adds what the shopper did since a bundle, see `RecentEvents.added`.

    Raises:
        RecsysError: as the ranker does.
    """
    lists = []
    for left, side in zip(range(len(serving.sides), 0, -1), serving.sides, strict=True):
        until = deadline.but(deadline.remaining * (1 - 1 / left))
        own, missing = with_recent(asked, side.ranker)
        found = side.ranker.recommend(own, until, side.policy(token))
        lists.append(degraded_by(missing, found))
    if len(lists) == 1:
        return ArmAnswer(lists[0])
    return _drafted(lists, serving.sides, token, asked.page_size)


def _drafted(
    lists: Sequence[RankedList], sides: Sequence[Side], token: str, size: int
) -> ArmAnswer:
    """One list of two by team draft, what both pin to a place left there.

    Args:
        lists: two.
        sides: where they are from.
        token: of the answer; the coins follow from it.
        size: most items.
    """
    pinned = _pinned_by_both(*lists)
    fixed = {item.item_id for item in pinned.values()}
    first, second = (
        {item.item_id: item for item in one.items if item.item_id not in fixed} for one in lists
    )
    coins = [share_of(f"coin:{token}", str(n)) >= _HEADS for n in range(size - len(fixed))]
    drafted = team_draft(list(first), list(second), np.array(coins, np.bool_))
    chances = draft_propensity(list(first), list(second), drafted.items)
    teams = drafted.team.tolist()
    picked = [
        replace((first if team == FIRST else second).get(item) or first[item], propensity=chance)
        for item, team, chance in zip(drafted.items, teams, chances.tolist(), strict=True)
    ]
    labels = {
        item: sides[team].label
        for item, team in zip(drafted.items, teams, strict=True)
        if team != NOBODY
    }
    answer = RankedList(
        tuple(_around(pinned, picked)),
        ",".join(dict.fromkeys(one.bundle_version for one in lists)),
        tuple(dict.fromkeys(token for one in lists for token in one.degraded)),
        max(one.candidates for one in lists),
    )
    return ArmAnswer(answer, labels)


def _pinned_by_both(first: RankedList, second: RankedList) -> dict[int, RankedItem]:
    """Items by the place that both lists have them pinned to."""
    both = enumerate(zip(first.items, second.items, strict=False))
    return {
        place: one
        for place, (one, other) in both
        if one.item_id == other.item_id and PINNED in one.sources and PINNED in other.sources
    }


def _around(pinned: Mapping[int, RankedItem], picked: Sequence[RankedItem]) -> list[RankedItem]:
    """The pinned items at their places, the others in order between them."""
    left = list(picked)
    for place in sorted(pinned):
        left.insert(place, pinned[place])
    return left
