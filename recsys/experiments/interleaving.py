"""Team-draft interleaving: two rankings in one list, and what clicks on it say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from recsys.experiments.effects import Effect
from recsys.experiments.samples import Sample, linearised_ratio

FIRST: Final = 0
SECOND: Final = 1
NOBODY: Final = -1
"""Team of what is shown after one ranking has no item left to pick: no credit for it."""


@dataclass(frozen=True)
class DraftedList:
    """An interleaved list.

    Attributes:
        items: best first, none twice.
        team: int8 (n,), whose pick each item is: `FIRST`, `SECOND` or `NOBODY`.
    """

    items: tuple[str, ...]
    team: NDArray[np.int8]


def team_draft(
    first: Sequence[str], second: Sequence[str], second_begins: NDArray[np.bool_]
) -> DraftedList:
    """Interleave two rankings (Radlinski, Kurup and Joachims, 2008).

    In each round a coin says who picks first; each side then picks its best item that is not there.

    Args:
        first: a ranking, best first, no item twice.
        second: another one.
        second_begins: bool (length,), the coins, independent and fair; the list has at most as many
            items as there are coins. As an argument they can come from a generator or from a hash
            of the request, which makes the answer repeatable.
    """
    picks: dict[str, int] = {}
    length = len(second_begins)
    for begins in second_begins.tolist():
        if len(picks) >= length:
            break
        order = (SECOND, FIRST) if begins else (FIRST, SECOND)
        for team in order:
            ranking = second if team == SECOND else first
            best = next((item for item in ranking if item not in picks), None)
            if best is None:
                return _rest(picks, first, second, length)
            if len(picks) < length:
                picks[best] = team
    return DraftedList(tuple(picks), np.array(list(picks.values()), np.int8))


def _rest(
    picks: dict[str, int], first: Sequence[str], second: Sequence[str], length: int
) -> DraftedList:
    """What is left of the longer ranking goes below, on nobody's team."""
    left = [item for item in (*first, *second) if item not in picks]
    picks |= dict.fromkeys(left[: length - len(picks)], NOBODY)
    return DraftedList(tuple(picks), np.array(list(picks.values()), np.int8))


def draft_propensity(
    first: Sequence[str], second: Sequence[str], drafted: Sequence[str]
) -> NDArray[np.float64]:
    """Probability of each item of a drafted list given the items above it, over fair coins.

    At the first pick of a round either ranking's best item comes by a fair coin. At the second it
    is the other ranking's turn, and what was picked first says, by Bayes' rule, how likely that is
    either's. A ranking without an item left leaves every pick to the other.

    Args:
        first: a ranking, best first, no item twice.
        second: another one.
        drafted: what `team_draft` made of them; float64 (n,), 0 from an item on that it can't have
            made.
    """
    propensity, taken = np.ones(len(drafted)), set[str]()
    first_picks = 0.5
    for place, item in enumerate(drafted):
        if place % 2 == 0:
            first_picks = 0.5
        best = [next((one for one in own if one not in taken), None) for own in (first, second)]
        of_first, of_second = (
            one if one is not None else best[1 - n] for n, one in enumerate(best)
        )
        by_first = first_picks * (of_first == item)
        propensity[place] = by_first + (1 - first_picks) * (of_second == item)
        if propensity[place] == 0:
            propensity[place:] = 0
            break
        first_picks = 1 - by_first / propensity[place]
        taken.add(item)
    return propensity


@dataclass(frozen=True)
class Preference:
    """Which of two rankings wins more comparisons.

    Attributes:
        first_wins: lists with more credit for the first ranking.
        second_wins: lists with more credit for the second.
        ties: lists with as much for both, none included.
        margin: (lists won by the second - by the first) / lists, from -1 to 1; its error is of
            shoppers, by the delta method. Above 0 the second ranking is preferred.
        sign_test: two-sided p-value of "lists that are no tie are won as often by either", as if
            lists were independent; `margin` is not so naive.
    """

    first_wins: int
    second_wins: int
    ties: int
    margin: Effect
    sign_test: float


def preference(
    first_credit: NDArray[np.int64], second_credit: NDArray[np.int64], shopper: NDArray[np.int64]
) -> Preference:
    """Count wins over n interleaved lists (Chapelle, Joachims, Radlinski and Yue, 2012).

    Credit goes to teams, so two rankings that move the same good item up or down alike may tie:
    with abc against bca and only c of use, each gets exactly half of the credit although the
    second ranks c higher. A tie is no proof that the rankings are equally good.

    Args:
        first_credit: int64 (n,), clicks (or purchases) on the first ranking's picks.
        second_credit: int64 (n,), likewise for the second.
        shopper: int64 (n,), whose list it is, any non-negative numbers.
    """
    won = np.sign(second_credit - first_credit)
    _, rows = np.unique(shopper, return_inverse=True)
    lists = np.bincount(rows).astype(np.float64)
    balance = np.bincount(rows, weights=won).astype(np.float64)
    sample = Sample.of(linearised_ratio(balance, lists))
    error = float(np.sqrt(sample.variance_of_mean))
    wins = int((won < 0).sum()), int((won > 0).sum())
    decided = sum(wins)
    p_value = float(binomtest(wins[1], decided).pvalue) if decided else 1.0
    effect = Effect(sample.mean, error, max(sample.size - 1, 1))
    return Preference(*wins, len(won) - decided, effect, p_value)
