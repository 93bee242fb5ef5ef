"""Team-draft interleaving: which lists come out, how credit falls, and what it cannot see."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.experiments import FIRST, NOBODY, SECOND, preference, team_draft

RANKING = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def coins(length: int) -> list[np.ndarray]:
    """All outcomes of `length` coins."""
    return [np.array(one, np.bool_) for one in product([False, True], repeat=length)]


def test_lists_and_their_chances_equal_the_published_ones() -> None:
    drawn = Counter(team_draft("12", "34", one).items for one in coins(3))
    assert drawn == {tuple(one): 2 for one in ("134", "132", "312", "314")}


def test_credit_is_even_where_only_one_item_is_of_use_to_both() -> None:
    # b ranks c higher than a does, and still each gets exactly half: why a tie proves nothing
    teams: Counter[int] = Counter()
    for one in coins(3):
        drafted = team_draft("abc", "bca", one)
        teams[int(drafted.team[drafted.items.index("c")])] += 1
    assert teams == {FIRST: 4, SECOND: 4}


@settings(deadline=None)
@given(RANKING, RANKING, st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_nothing_is_shown_twice_and_teams_pick_their_best(
    first: list[str], second: list[str], length: int, seed: int
) -> None:
    begins = np.random.default_rng(seed).random(length) < 0.5
    drafted = team_draft(first, second, begins)
    assert len(set(drafted.items)) == len(drafted.items) == len(drafted.team)
    assert len(drafted.items) == min(length, len({*first, *second}))
    for team, ranking in ((FIRST, first), (SECOND, second)):
        picks = [item for item, by in zip(drafted.items, drafted.team, strict=True) if by == team]
        assert picks == sorted(picks, key=ranking.index)
    counts = [int((drafted.team == team).sum()) for team in (FIRST, SECOND)]
    assert abs(counts[0] - counts[1]) <= 1
    behind = np.flatnonzero(drafted.team == NOBODY)
    assert behind.tolist() == list(range(sum(counts), len(drafted.items)))


def test_rankings_change_places_with_their_coins() -> None:
    for one in coins(4):
        there, back = team_draft("abcd", "cbad", one), team_draft("cbad", "abcd", ~one)
        assert there.items == back.items
        assert (there.team == 1 - back.team).all()


def test_preference_counts_wins_and_takes_shoppers_as_the_units() -> None:
    first = np.array([1, 0, 0, 2, 0, 0])
    second = np.array([0, 1, 0, 2, 1, 3])
    found = preference(first, second, np.array([4, 4, 9, 9, 2, 2]))
    assert (found.first_wins, found.second_wins, found.ties) == (1, 3, 2)
    assert found.sign_test == pytest.approx(scipy.stats.binomtest(3, 4).pvalue)
    assert found.margin.estimate == pytest.approx((3 - 1) / 6)
    # three shoppers of two lists each, who stand at 0, 0 and 1
    assert found.margin.standard_error == pytest.approx(np.std([0, 0, 1], ddof=1) / np.sqrt(3))
    assert found.margin.degrees_of_freedom == 2
    swapped = preference(second, first, np.array([4, 4, 9, 9, 2, 2]))
    assert swapped.margin.estimate == -found.margin.estimate
    nothing = preference(np.zeros(2, int), np.zeros(2, int), np.arange(2))
    assert (nothing.sign_test, nothing.ties, nothing.margin.estimate) == (1.0, 2, 0.0)


def test_the_better_ranking_is_preferred_and_equal_ones_are_not() -> None:
    rng = np.random.default_rng(2)
    items = [str(number) for number in range(20)]
    chance = {item: 0.4 / (1 + place) for place, item in enumerate(items)}
    false, found = 0, 0
    for _ in range(300):
        rival = list(rng.permutation(items))
        credit = {"same": np.zeros((60, 2), int), "worse": np.zeros((60, 2), int)}
        for case, second in (("same", items), ("worse", rival)):
            for row in range(60):
                drafted = team_draft(items, second, rng.random(8) < 0.5)
                for item, team in zip(drafted.items, drafted.team.tolist(), strict=True):
                    credit[case][row, team] += rng.random() < chance[item]
        same, worse = (preference(one[:, 0], one[:, 1], np.arange(60)) for one in credit.values())
        false += same.margin.p_value < 0.05
        found += worse.margin.p_value < 0.05 and worse.margin.estimate < 0
    assert false / 300 < 0.08
    assert found / 300 > 0.5
