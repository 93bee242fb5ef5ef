"""Merchandising rules: which are in force when, which of several counts, and what they move."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ModelError
from recsys.interactions import microseconds
from recsys.page import Action, MerchandisingRules, RulesInForce, overlapping_rules
from recsys.tables import Merchandising

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
ITEM_IDS = ("a", "b", "c", "d", "e", "f")

hours = st.one_of(st.none(), st.integers(0, 5))
Rule = dict[str, object]


def rule_table(*rules: Rule) -> pl.DataFrame:
    """Rows of the contract; absent columns are null, an absent id is the row's number."""
    rows = [{"rule_id": f"r{n:02}", **rule} for n, rule in enumerate(rules)]
    schema = {name: column.dtype for name, column in Merchandising.columns().items()}
    return pl.DataFrame(rows, schema=schema)


def rules_of(*rules: Rule) -> MerchandisingRules:
    return MerchandisingRules.of(rule_table(*rules), ITEM_IDS)


def in_force(rules: MerchandisingRules, time: datetime) -> dict[str, tuple[str, int]]:
    found = rules.at(microseconds(time))
    return {
        ITEM_IDS[item]: (Action(action).name.lower(), int(number))
        for item, action, number in zip(found.item, found.action, found.number, strict=True)
    }


def pin(item: str, position: int, **others: object) -> Rule:
    return {"item_id": item, "action": "pin", "position": position, **others}


def boost(item: str, places: int, **others: object) -> Rule:
    return {"item_id": item, "action": "boost", "places": places, **others}


def bury(item: str, **others: object) -> Rule:
    return {"item_id": item, "action": "bury", **others}


@st.composite
def random_rules(draw: st.DrawFn) -> list[Rule]:
    def one(number: int) -> Rule:
        item = draw(st.sampled_from([*ITEM_IDS, "unknown"]))
        start, length = draw(hours), draw(st.one_of(st.none(), st.integers(1, 3)))
        times = {
            "valid_from": None if start is None else NOON + timedelta(hours=start),
            "valid_until": None
            if length is None
            else NOON + timedelta(hours=(start or 0) + length),
            "rule_id": f"rule-{draw(st.permutations(range(100)))[number]:03}-{number}",
        }
        action = draw(st.sampled_from(["pin", "boost", "bury"]))
        if action == "pin":
            return pin(item, draw(st.integers(0, 7)), **times)
        return (
            boost(item, draw(st.integers(1, 7)), **times)
            if action == "boost"
            else bury(item, **times)
        )

    return [one(number) for number in range(draw(st.integers(0, 6)))]


def active(rule: Rule, time: datetime) -> bool:
    start, end = rule.get("valid_from"), rule.get("valid_until")
    assert start is None or isinstance(start, datetime)
    assert end is None or isinstance(end, datetime)
    return (start is None or start <= time) and (end is None or time < end)


def precedence(rule: Rule) -> tuple[float, object]:
    start = rule.get("valid_from")
    return -start.timestamp() if isinstance(start, datetime) else np.inf, rule["rule_id"]


@settings(max_examples=200, deadline=None)
@given(rules=random_rules(), hour=st.integers(-1, 9))
def test_one_rule_of_an_item_counts_and_it_is_the_latest(rules: list[Rule], hour: int) -> None:
    time = NOON + timedelta(hours=hour)
    expected: dict[str, tuple[str, int]] = {}
    for rule in sorted(rules, key=precedence):
        item, action = str(rule["item_id"]), str(rule["action"])
        if item in ITEM_IDS and item not in expected and active(rule, time):
            number = rule.get("position", rule.get("places", 0))
            assert isinstance(number, int)
            expected[item] = (action, number)
    found = in_force(rules_of(*rules), time)
    assert found == expected
    assert list(found) == list(expected)


def test_a_rule_begins_at_its_first_moment_and_ends_before_its_last() -> None:
    rules = rules_of(pin("a", 3, valid_from=NOON, valid_until=NOON + timedelta(hours=1)))
    for time, expected in (
        (NOON - MOMENT, {}),
        (NOON, {"a": ("pin", 3)}),
        (NOON + timedelta(hours=1) - MOMENT, {"a": ("pin", 3)}),
        (NOON + timedelta(hours=1), {}),
    ):
        assert in_force(rules, time) == expected


def test_open_ends_are_never_over() -> None:
    rules = rules_of(bury("a", valid_from=NOON), bury("b", valid_until=NOON), bury("c"))
    for year, expected in ((1, {"b", "c"}), (9_999, {"a", "c"})):
        assert set(in_force(rules, datetime(year, 1, 1, tzinfo=UTC))) == expected


def test_optional_columns_may_be_missing() -> None:
    table = rule_table(bury("b"), bury("zz")).select("rule_id", "item_id", "action")
    rules = MerchandisingRules.of(table, ITEM_IDS)
    assert len(rules) == 1
    assert in_force(rules, NOON) == {"b": ("bury", 0)}
    assert overlapping_rules(table) == 0


def test_the_order_of_rows_does_not_matter() -> None:
    table = rule_table(pin("a", 1), bury("a"), boost("b", 2, valid_from=NOON), pin("b", 0))
    expected = MerchandisingRules.of(table, ITEM_IDS).arrays()
    for seed in range(4):
        shuffled = table.sample(fraction=1, shuffle=True, seed=seed)
        found = MerchandisingRules.of(shuffled, ITEM_IDS).arrays()
        assert all((found[name] == expected[name]).all() for name in expected)


def test_saved_rules_are_the_same_rules() -> None:
    rules = rules_of(pin("a", 1, valid_until=NOON), boost("b", 2, valid_from=NOON), bury("c"))
    for kept in (rules, MerchandisingRules.none()):
        again = MerchandisingRules.from_arrays(kept.arrays())
        for name, array in kept.arrays().items():
            np.testing.assert_array_equal(again.arrays()[name], array)
            assert again.arrays()[name].dtype == array.dtype


def test_damaged_rules_are_refused() -> None:
    rules = rules_of(pin("a", 1), bury("c"))
    short = replace(rules, number=rules.number[:1]).arrays()
    missing = {name: array for name, array in rules.arrays().items() if name != "end"}
    for arrays in (short, missing, {}, rules.arrays() | {"more": rules.item}):
        with pytest.raises(ModelError, match=r"item, action, number, start, end of one length"):
            MerchandisingRules.from_arrays(arrays)


@settings(max_examples=200, deadline=None)
@given(rules=random_rules())
def test_rules_that_meet_are_counted(rules: list[Rule]) -> None:
    def meet(one: Rule, other: Rule) -> bool:
        same_item = one["item_id"] == other["item_id"]
        position = one.get("position")
        same_position = position is not None and position == other.get("position")
        times = [NOON + timedelta(hours=hour) for hour in range(-1, 10)]
        return (same_item or same_position) and any(
            active(one, time) and active(other, time) for time in times
        )

    expected = sum(any(meet(one, other) for other in rules if other is not one) for one in rules)
    assert overlapping_rules(rule_table(*rules)) == expected


def order_after(*rules: Rule, ranked: str = "abcdef", size: int = 6) -> str:
    """What is not pinned, in order; pins as ITEM@POSITION behind it."""
    rows = np.array([ITEM_IDS.index(item) for item in ranked], np.int32)
    found = rules_of(*rules).at(microseconds(NOON)).applied_to(rows, size)
    pins = zip(found.pinned, found.positions, strict=True)
    return "".join(ranked[place] for place in found.order) + "".join(
        f" {ranked[place]}@{position}" for place, position in pins
    )


def test_a_boost_moves_up_by_its_places() -> None:
    assert order_after(boost("e", 2)) == "abecdf"
    assert order_after(boost("e", 4)) == "eabcdf"
    assert order_after(boost("b", 2_000_000_000)) == "bacdef"
    assert order_after(boost("a", 1)) == "abcdef"
    assert order_after(boost("e", 2), boost("d", 1)) == "abdecf"
    assert order_after(boost("f", 1), boost("e", 1)) == "abcedf"


def test_what_is_buried_keeps_its_order_behind_the_others() -> None:
    assert order_after(bury("c"), bury("a")) == "bdefac"
    assert order_after(*(bury(item) for item in ITEM_IDS)) == "abcdef"


def test_pins_leave_the_order_for_their_position() -> None:
    assert order_after(pin("e", 0), pin("b", 3)) == "acdf e@0 b@3"
    assert order_after(pin("b", 6)) == "abcdef"
    assert order_after(pin("b", 5)) == "acdef b@5"


def test_of_two_pins_to_one_position_the_latest_counts_and_the_other_keeps_its_rank() -> None:
    yesterday = NOON - timedelta(days=1)
    assert order_after(pin("c", 0), pin("d", 0)) == "abdef c@0"
    assert order_after(pin("c", 0), pin("d", 0, valid_from=yesterday)) == "abcef d@0"
    assert order_after(pin("c", 0), pin("d", 0, valid_from=yesterday), ranked="abcef") == "abef c@0"


def test_rules_on_items_that_are_not_ranked_do_nothing() -> None:
    rules = (pin("a", 0), boost("b", 1), bury("c"))
    assert order_after(*rules, ranked="fed") == "fed"
    assert order_after(*rules, ranked="") == ""


def test_a_rule_says_where_it_applied() -> None:
    rows = np.arange(6, dtype=np.int32)
    rules = rules_of(pin("a", 2), boost("b", 1), bury("c"), pin("d", 2), pin("e", 9))
    applied = rules.at(microseconds(NOON)).applied_to(rows, 6).applied
    assert applied.tolist() == [Action.PIN, Action.BOOST, Action.BURY, -1, -1, -1]


def test_without_rules_nothing_is_in_force() -> None:
    found = MerchandisingRules.none().at(microseconds(NOON))
    assert isinstance(found, RulesInForce)
    assert (len(found.item), found.buried, len(found.pinned(10))) == (0, 0, 0)
