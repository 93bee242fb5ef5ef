"""Positives and sessions of training examples: what counts, and that nothing comes from later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from random_shop import END_US, START_US, random_log
from visits import BASE_US, ITEMS, VISITS, Row, events_of, log_of, minutes

from recsys.errors import EmptyTableError
from recsys.interactions import DAY_US, EventKind
from training.examples import (
    CLICKED,
    POSITIVES_PER_GROUP,
    PURCHASED,
    Positives,
    first_interactions,
    render_groups,
    sample_groups,
    sessions_of,
)
from training.time_split import Slice


def described(positives: Positives) -> list[tuple[int, int, dict[str, int]]]:
    """User row, minute and labels by item of each group."""
    found = []
    for group, (user, time) in enumerate(zip(positives.user, positives.time, strict=True)):
        rows = slice(positives.items.offsets[group], positives.items.offsets[group + 1])
        labels = {
            ITEMS[item]: int(label)
            for item, label in zip(positives.items.item[rows], positives.label[rows], strict=True)
        }
        found.append((int(user), int(time - BASE_US) // 60_000_000, labels))
    return found


def test_a_positive_is_the_first_touch_of_an_item_by_a_shopper_with_a_history() -> None:
    found = first_interactions(log_of(VISITS), Slice(BASE_US, minutes(10_000)))
    assert described(found) == [
        (0, 100, {"b": PURCHASED, "c": CLICKED}),
        (0, 200, {"e": CLICKED, "g": CLICKED}),
        (0, 300, {"d": CLICKED}),
    ]


def test_a_basket_belongs_to_the_slice_it_starts_in() -> None:
    log = log_of(VISITS)
    starts = [
        [time for _, time, _ in described(first_interactions(log, Slice(minutes(a), minutes(b))))]
        for a, b in ((0, 200), (100, 201), (101, 300))
    ]
    assert starts == [[100], [100, 200], [200]]


def test_positives_of_any_log_are_first_touches_and_its_text_is_older() -> None:
    log = random_log(3, users=12, items=40, events=500)
    part = Slice(START_US + 30 * DAY_US, START_US + 90 * DAY_US)
    found = first_interactions(log, part)
    shoppers = render_groups(log, found, [""] * len(found.user), max_segments=6)
    assert len(found.user) > 40
    for group, (user, time) in enumerate(zip(found.user, found.time, strict=True)):
        assert part.start <= time < part.end
        own = (log.user == user) & (log.time < time)
        known = set(log.item[own & (log.kind != EventKind.HIDE)])
        items = found.items.item[found.items.offsets[group] : found.items.offsets[group + 1]]
        assert not known & set(items)
        start, end = shoppers.offsets[group : group + 2]
        text = shoppers.segments[start:end]
        assert set(text) <= known
        assert len(text) == min(len(known), 6)
        assert own.any()


def test_sampled_groups_keep_their_labels_with_purchases_first() -> None:
    log = random_log(5, users=10, items=60, events=900)
    log = replace(log, basket=log.basket // 6)
    everything = first_interactions(log, Slice(START_US, END_US))
    full = {(user, time): labels for user, time, labels in rows_of(everything)}
    assert max(len(labels) for labels in full.values()) > POSITIVES_PER_GROUP
    sample = sample_groups(everything, 20, np.random.default_rng(1))
    assert len(sample.user) == 20
    for user, time, labels in rows_of(sample):
        whole = full[user, time]
        assert labels.items() <= whole.items()
        assert len(labels) == min(len(whole), POSITIVES_PER_GROUP)
        bought = sum(label == PURCHASED for label in whole.values())
        kept = sum(label == PURCHASED for label in labels.values())
        assert kept == min(bought, POSITIVES_PER_GROUP)
    again = sample_groups(everything, 20, np.random.default_rng(1))
    assert rows_of(again) == rows_of(sample)
    assert rows_of(sample_groups(everything, 20, np.random.default_rng(2))) != rows_of(sample)


def rows_of(positives: Positives) -> list[tuple[int, int, dict[int, int]]]:
    found = []
    for group in range(len(positives.user)):
        rows = slice(positives.items.offsets[group], positives.items.offsets[group + 1])
        items, labels = positives.items.item[rows].tolist(), positives.label[rows].tolist()
        labelled = dict(zip(items, labels, strict=True))
        found.append((int(positives.user[group]), int(positives.time[group]), labelled))
    return found


def test_without_a_group_there_is_nothing_to_learn_from() -> None:
    nothing = first_interactions(log_of(VISITS), Slice(minutes(1_000), minutes(2_000)))
    assert rows_of(nothing) == []
    with pytest.raises(EmptyTableError, match="nothing to learn from"):
        sample_groups(nothing, 5, np.random.default_rng(0))


def sessions(rows: Sequence[Row], until: int, drop: str = "") -> tuple[list[str], list[list[str]]]:
    """Queries and passed-over items of the groups of `VISITS`."""
    log = log_of(VISITS)
    positives = first_interactions(log, Slice(BASE_US, minutes(10_000)))
    events = events_of(rows).lazy()
    found = sessions_of(log, events.drop(drop) if drop else events, positives, until)
    offsets = found.shown.offsets
    shown = [
        [ITEMS[item] for item in found.shown.item[start:end]] for start, end in pairwise(offsets)
    ]
    return found.query, shown


def test_sessions_tell_what_was_asked_and_what_was_passed_over() -> None:
    assert sessions(VISITS, minutes(10_000)) == (["Red Lamp", "cup", ""], [["d", "f"], [], []])
    assert sessions(VISITS[::-1], minutes(10_000)) == sessions(VISITS, minutes(10_000))
    assert sessions(VISITS * 2, minutes(10_000)) == sessions(VISITS, minutes(10_000))


def test_sessions_know_nothing_at_or_after_the_end() -> None:
    until = minutes(204)
    later: list[Row] = [
        (204, "u1", "s2", "purchase", "f", "never asked"),
        (204, "u1", "s2", "impression", "h", None),
        (204, "u1", "s4", "impression", "a", "never asked"),
    ]
    seen = sessions([*VISITS, *later], until)
    assert seen == sessions([row for row in VISITS if row[0] < 204], until)
    assert seen == (["Red Lamp", "cup", ""], [["d", "f"], ["g"], []])


def test_tables_without_sessions_or_queries_tell_less() -> None:
    end = minutes(10_000)
    assert sessions(VISITS, end, drop="session_id") == ([""] * 3, [[]] * 3)
    assert sessions(VISITS, end, drop="query") == ([""] * 3, [["d", "f"], [], []])
