"""Pages: what holds on every page, whatever the ranking, the settings and the rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_shop import unit_rows

from recsys.config import PageConfig
from recsys.page import (
    Action,
    Composition,
    MerchandisingRules,
    PageComposer,
    Pool,
    RulesInForce,
    marginally_relevant,
)

ITEMS = 40
DIMENSION = 4
OFF = PageConfig()


def shop(config: PageConfig) -> PageComposer:
    """40 items in 6 categories, some without one; many of them near-duplicates of one another."""
    rng = np.random.default_rng(4)
    kinds = unit_rows(rng, 12, DIMENSION)[rng.integers(0, 12, ITEMS)]
    vectors = kinds + 0.05 * unit_rows(rng, ITEMS, DIMENSION)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    category = rng.integers(-1, 5, ITEMS).astype(np.int32)
    return PageComposer(config, MerchandisingRules.none(), vectors, category)


@dataclass(frozen=True)
class Case:
    """A composer and what it is asked."""

    composer: PageComposer
    ranked: np.ndarray[tuple[int], np.dtype[np.int32]]
    size: int
    rules: RulesInForce
    searched: bool

    @property
    def page(self) -> Composition:
        return self.composer.compose(self.ranked, self.size, self.rules, searched=self.searched)

    def acted(self, action: Action) -> set[int]:
        return set(self.rules.item[self.rules.action == action].tolist())


configs = st.builds(
    PageConfig,
    diversity=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
    category_cap=st.integers(0, 3),
    duplicate_similarity=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
    pool=st.integers(1, 50),
)


@st.composite
def rules_in_force(draw: st.DrawFn) -> RulesInForce:
    items = draw(st.lists(st.integers(0, ITEMS - 1), unique=True, max_size=8))
    size = len(items)
    actions = draw(st.lists(st.sampled_from(list(Action)), min_size=size, max_size=size))
    numbers = draw(st.lists(st.integers(0, 14), min_size=size, max_size=size))
    return RulesInForce(
        np.array(items, np.int32), np.array(actions, np.int8), np.array(numbers, np.int32)
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    ranked = draw(st.permutations(range(ITEMS)))[: draw(st.integers(0, ITEMS))]
    return Case(
        composer=shop(draw(configs)),
        ranked=np.array(ranked, np.int32),
        size=draw(st.integers(1, 15)),
        rules=draw(rules_in_force()),
        searched=draw(st.booleans()),
    )


def items_of(case: Case) -> list[int]:
    return [int(item) for item in case.ranked[case.page.places]]


def pinned_on(case: Case) -> dict[int, int]:
    """Item by position, as the rules say: the first rule for a position has it."""
    found: dict[int, int] = {}
    for item, action, number in zip(
        case.rules.item, case.rules.action, case.rules.number, strict=True
    ):
        if action == Action.PIN and number < case.size and item in case.ranked:
            found.setdefault(int(number), int(item))
    return found


every_page = settings(max_examples=250, deadline=None)


@every_page
@given(case=cases())
def test_a_page_holds_ranked_items_once_and_no_more_than_asked_for(case: Case) -> None:
    items = items_of(case)
    assert len(items) == len(set(items)) <= case.size
    assert set(items) <= set(case.ranked.tolist())
    if not case.composer.config.duplicate_similarity:
        assert len(items) == min(case.size, len(case.ranked))


@every_page
@given(case=cases())
def test_a_pinned_item_stands_at_its_position_where_the_others_reach_it(case: Case) -> None:
    items, pinned = items_of(case), pinned_on(case)
    others = len(items) - len(pinned)
    for before, (position, item) in enumerate(sorted(pinned.items())):
        assert items.index(item) == min(position, before + others)
    labelled = {item for item, label in labels(case).items() if label == "pinned"}
    assert labelled == set(pinned.values())


@every_page
@given(case=cases())
def test_what_is_buried_stands_behind_all_that_is_not_pinned(case: Case) -> None:
    pinned = set(pinned_on(case).values())
    buried = [item in case.acted(Action.BURY) for item in items_of(case) if item not in pinned]
    assert buried == sorted(buried)


@every_page
@given(case=cases())
def test_no_two_items_of_a_page_are_near_duplicates_but_pinned_ones(case: Case) -> None:
    similarity = case.composer.config.duplicate_similarity
    pinned = set(pinned_on(case).values())
    items = items_of(case)
    if not similarity:
        return
    for place, item in enumerate(items):
        for other in items[:place]:
            cosine = float(case.composer.vectors[item] @ case.composer.vectors[other])
            assert cosine < similarity + 1e-6 or {item, other} <= pinned


@every_page
@given(case=cases())
def test_every_item_that_is_missing_has_a_better_near_duplicate(case: Case) -> None:
    """A page is shorter than asked for only where near-duplicates are all that is left."""
    items = items_of(case)
    if len(items) == min(case.size, len(case.ranked)):
        return
    vectors = case.composer.vectors
    for item in set(case.ranked.tolist()) - set(items):
        nearest = float((vectors[items] @ vectors[item]).max())
        assert nearest >= case.composer.config.duplicate_similarity - 1e-6


@every_page
@given(case=cases())
def test_a_category_has_no_more_than_its_cap_while_others_are_left(case: Case) -> None:
    category = case.composer.category
    config = case.composer.config
    plain = replace(case.composer, config=config.model_copy(update={"duplicate_similarity": 0.0}))
    capped = replace(case, composer=plain, searched=False, rules=no_rules())
    pool = case.ranked[: max(config.pool, case.size)]
    sizes = Counter(category[pool].tolist())
    free = sizes.pop(-1, 0) + sum(min(size, config.category_cap) for size in sizes.values())
    if config.category_cap and free >= case.size:
        shown = Counter(category[items_of(capped)].tolist())
        assert all(n <= config.category_cap for code, n in shown.items() if code >= 0)


@every_page
@given(case=cases())
def test_without_settings_and_rules_a_page_is_the_ranking(case: Case) -> None:
    plain = replace(case, composer=shop(OFF), rules=no_rules())
    assert plain.page.labels == {}
    assert items_of(plain) == case.ranked[: case.size].tolist()


@every_page
@given(case=cases())
def test_settings_that_change_nothing_leave_the_ranking(case: Case) -> None:
    """No diversity, a cap nobody reaches, no near-duplicates: the slow way gives the same page."""
    config = PageConfig(diversity=0.0, category_cap=ITEMS, pool=case.size)
    slow = replace(case, composer=shop(config), rules=no_rules())
    assert items_of(slow) == case.ranked[: case.size].tolist()


@every_page
@given(case=cases())
def test_rules_alone_move_but_never_remove(case: Case) -> None:
    everything = replace(case, composer=shop(OFF), size=ITEMS)
    assert sorted(items_of(everything)) == sorted(case.ranked.tolist())


@every_page
@given(case=cases())
def test_labels_say_which_rule_moved_the_item(case: Case) -> None:
    for item, label in labels(case).items():
        action = {"pinned": Action.PIN, "boosted": Action.BOOST, "buried": Action.BURY}[label]
        assert item in case.acted(action)
    moved = case.acted(Action.BOOST) | case.acted(Action.BURY) | set(pinned_on(case).values())
    assert set(labels(case)) == moved & set(items_of(case))


def labels(case: Case) -> dict[int, str]:
    return {int(case.ranked[place]): label for place, label in case.page.labels.items()}


def no_rules() -> RulesInForce:
    return MerchandisingRules.none().at(0)


def rules_for(*rules: tuple[int, Action, int]) -> RulesInForce:
    item, action, number = zip(*rules, strict=True) if rules else ((), (), ())
    return RulesInForce(
        np.array(item, np.int32), np.array(action, np.int8), np.array(number, np.int32)
    )


def asked(config: PageConfig, rules: RulesInForce, size: int = 6) -> Case:
    return Case(shop(config), np.arange(ITEMS, dtype=np.int32), size, rules, searched=False)


def test_pins_behind_a_short_page_close_up() -> None:
    rules = rules_for((1, Action.PIN, 5), (2, Action.PIN, 3))
    short = replace(asked(OFF, rules), ranked=np.array([0, 1, 2], np.int32))
    assert items_of(short) == [0, 2, 1]


def test_a_boost_counts_in_what_diversity_starts_from() -> None:
    """Relevance is that of the place an item was boosted to, not of the place it came from."""
    config = PageConfig(diversity=0.4)
    boosted = items_of(asked(config, rules_for((30, Action.BOOST, 30))))
    as_ranked = np.array([30, *(item for item in range(ITEMS) if item != 30)], np.int32)
    assert boosted == items_of(replace(asked(config, no_rules()), ranked=as_ranked))
    assert boosted[0] == 30


def test_the_others_go_with_what_is_pinned() -> None:
    composer = shop(PageConfig(diversity=0.5))
    pinned = replace(asked(composer.config, rules_for((17, Action.PIN, 5))))
    others = np.array([item for item in range(ITEMS) if item != 17])

    def pool(items: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Pool:
        return Pool(
            composer.vectors[items], composer.category[items], np.zeros(len(items), np.bool_)
        )

    expected = marginally_relevant(pool(others), pool(np.array([17])), 0.5, 0, 5)
    assert items_of(pinned) == [*others[expected].tolist(), 17]


def test_near_duplicates_of_a_pinned_item_leave_though_they_are_better() -> None:
    composer = shop(PageConfig(duplicate_similarity=0.98))
    near = composer.vectors @ composer.vectors.T >= 0.98
    pinned, better = next((i, j) for i in range(ITEMS) for j in range(i) if near[i, j])
    page = items_of(replace(asked(composer.config, rules_for((pinned, Action.PIN, 4))), size=ITEMS))
    assert pinned in page
    assert better not in page


def test_a_pinned_item_counts_in_its_category() -> None:
    config = PageConfig(category_cap=1)
    category = shop(config).category
    pinned = int(np.flatnonzero(category == category[category >= 0][0])[-1])
    page = items_of(asked(config, rules_for((pinned, Action.PIN, 5)), size=6))
    assert page[5] == pinned
    assert Counter(category[page].tolist())[int(category[pinned])] == 1


def test_a_search_is_not_capped_but_all_else_holds() -> None:
    config = PageConfig(category_cap=1, duplicate_similarity=0.9)
    searched = replace(asked(config, no_rules(), size=12), searched=True)
    uncapped = replace(searched, composer=shop(config.model_copy(update={"category_cap": 0})))
    assert items_of(searched) == items_of(uncapped)
    assert items_of(searched) != items_of(replace(searched, searched=False))
    assert items_of(searched) != list(range(12))


def test_a_page_is_chosen_from_the_pool_and_a_larger_page_from_more() -> None:
    config = PageConfig(diversity=1.0, pool=8)
    assert max(items_of(asked(config, no_rules(), size=6))) < 8
    assert sorted(items_of(asked(config, no_rules(), size=20))) == list(range(20))


@pytest.mark.parametrize(
    ("config", "expected"), [(OFF, 11), (PageConfig(diversity=0.1, pool=30), 30)]
)
def test_enough_candidates_are_wanted_to_choose_from(config: PageConfig, expected: int) -> None:
    buried = rules_for((1, Action.BURY, 0), (2, Action.PIN, 0))
    assert shop(config).candidates(10, buried) == expected
    assert shop(config).candidates(200, no_rules()) == 200
