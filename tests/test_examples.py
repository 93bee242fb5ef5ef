"""Training examples: where slices end, what counts as a positive, and that nothing leaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from random_shop import END_US, START_US, index_of, random_events, random_log
from random_shop import log_of as random_shop_log

from recsys.config import (
    Configuration,
    CrossEncoderConfig,
    NegativesConfig,
    TextConfig,
    WindowsConfig,
)
from recsys.errors import EmptyTableError
from recsys.interactions import DAY_US, HOUR_US, EventKind, InteractionLog, ItemLists
from recsys.retrieval import ItemNeighbours
from recsys.text import ShopperTextKind, ShopperTexts
from training.evaluation_groups import evaluation_groups, later_interest
from training.examples import (
    CLICKED,
    NOT_CLICKED,
    PADDING,
    POSITIVES_PER_GROUP,
    PURCHASED,
    Groups,
    Positives,
    first_interactions,
    render_groups,
    sample_groups,
    sessions_of,
)
from training.negatives import NegativeSampler
from training.time_split import Slice, split_by_time

BASE = datetime(2031, 1, 1, tzinfo=UTC)
BASE_US = int(BASE.timestamp()) * 1_000_000
ITEMS = tuple("abcdefgh")
PART = Slice(START_US + 60 * DAY_US, START_US + 90 * DAY_US)
Row = tuple[int, str, str, str, str, str | None]
"""Minute, user, session, event type, item, query."""

VISITS: tuple[Row, ...] = (
    (0, "u1", "s1", "click", "a", None),
    (99, "u1", "s2", "impression", "b", "Red Lamp"),
    (99, "u1", "s2", "impression", "c", "Red Lamp"),
    (99, "u1", "s2", "impression", "d", "Red Lamp"),
    (99, "u1", "s2", "impression", "f", "Red Lamp"),
    (100, "u1", "s2", "click", "b", "Red Lamp"),
    (101, "u1", "s2", "purchase", "b", None),
    (102, "u1", "s2", "click", "c", "blue lamp"),
    (200, "u1", "s3", "click", "b", None),
    (201, "u1", "s3", "hide", "d", None),
    (202, "u1", "s3", "click", "e", None),
    (203, "u1", "s3", "impression", "g", "cup"),
    (204, "u1", "s3", "click", "g", None),
    (300, "u1", "s4", "purchase", "e", None),
    (301, "u1", "s4", "click", "d", None),
    (90, "u2", "s2", "impression", "h", "other shopper"),
    (95, "u2", "s2", "purchase", "h", None),
)


def minutes(count: int) -> int:
    return BASE_US + count * 60_000_000


def events_of(rows: Sequence[Row]) -> pl.DataFrame:
    columns = ["minute", "user_id", "session_id", "event_type", "item_id", "query"]
    frame = pl.DataFrame(rows, schema=columns, orient="row").with_row_index("event_id")
    return frame.select(
        pl.col("event_id").cast(pl.String),
        *columns[1:],
        event_time=pl.lit(BASE) + pl.duration(minutes=pl.col("minute")),
    )


def log_of(rows: Sequence[Row]) -> InteractionLog:
    return InteractionLog.build(pl.Series(ITEMS), events_of(rows).lazy())


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


# --- division by time -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    days=st.floats(1.0, 900.0),
    label_days=st.floats(0.2, 60.0),
    windows=st.integers(1, 4),
    validation_days=st.floats(0.2, 60.0),
    share=st.floats(0.1, 0.9),
)
def test_slices_follow_each_other_up_to_the_cut(
    days: float, label_days: float, windows: int, validation_days: float, share: float
) -> None:
    until = BASE_US + int(days * DAY_US)
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    config = WindowsConfig(
        label_days=label_days,
        ranker_windows=windows,
        validation_days=validation_days,
        max_share_of_history=share,
    )
    try:
        split = split_by_time(log, until, config)
    except EmptyTableError:
        wanted = min(label_days, validation_days) / (windows * label_days + validation_days)
        assert min(wanted * share * days, label_days, validation_days) < 1 / 24
        return
    slices = [split.train, split.validation, *split.windows]
    assert (slices[0].start, slices[-1].end) == (BASE_US, until)
    assert all(part.start < part.end for part in slices)
    assert all(a.end == b.start for a, b in pairwise(slices))
    assert all(part.start % HOUR_US == 0 for part in slices[1:])
    assert len(split.windows) == windows
    assert split.test == split.windows[-1]
    held = until - split.validation.start
    assert held <= share * days * DAY_US + (windows + 1) * HOUR_US
    longest = max(part.end - part.start for part in split.windows)
    assert longest <= label_days * DAY_US + HOUR_US


def test_windows_keep_their_length_where_the_history_is_long_and_shrink_where_not() -> None:
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    config = WindowsConfig(label_days=30, ranker_windows=2, validation_days=15)
    long = split_by_time(log, BASE_US + 300 * DAY_US, config)
    assert long.windows[-1].end - long.windows[-1].start == 30 * DAY_US
    assert long.validation.end - long.validation.start == 15 * DAY_US
    short = split_by_time(log, BASE_US + 75 * DAY_US, config)
    assert short.windows[-1].end - short.windows[-1].start == 15 * DAY_US
    assert short.validation.end - short.validation.start == pytest.approx(7.5 * DAY_US, abs=HOUR_US)
    assert list(short.describe()) == ["train", "validation", "ranker window 1", "ranker window 2"]
    assert short.describe()["train"][0] == "2031-01-01T00:00:00+00:00"


def test_a_log_of_a_few_hours_is_too_short() -> None:
    log = replace(log_of(VISITS[:1]), time=np.array([BASE_US]))
    with pytest.raises(EmptyTableError, match=r"spans 0\.2 days"):
        split_by_time(log, BASE_US + 5 * HOUR_US, WindowsConfig())
    with pytest.raises(EmptyTableError, match="no events before the cut"):
        split_by_time(log.before(BASE_US), BASE_US + 90 * DAY_US, WindowsConfig())


# --- positives --------------------------------------------------------------------------------


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


# --- sessions ---------------------------------------------------------------------------------


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


# --- negatives --------------------------------------------------------------------------------


def neighbours_of(log: InteractionLog, limit: int = 5) -> ItemNeighbours:
    index, vectors = index_of(len(log.item_ids), 1_000)
    return index.neighbours(vectors, limit)


def no_texts(count: int) -> ShopperTexts:
    nothing = np.full(count, ShopperTextKind.NOTHING, np.int64)
    return ShopperTexts(np.zeros(count + 1, np.int64), np.zeros(0, np.int64), nothing, ())


def completed(
    sampler: NegativeSampler, positives: Positives, shown: ItemLists, seed: int = 0
) -> Groups:
    texts = no_texts(len(positives.user))
    return sampler.complete(positives, texts, shown, np.random.default_rng(seed))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1_000), per_group=st.integers(1, 12), items=st.integers(8, 60))
def test_negatives_are_new_to_the_shopper_exist_and_are_distinct(
    seed: int, per_group: int, items: int
) -> None:
    log = random_log(seed, users=8, items=items, events=200)
    positives = sample_groups(
        first_interactions(log, Slice(START_US, END_US)), 30, np.random.default_rng(seed)
    )
    rng = np.random.default_rng(seed)
    created_at = rng.integers(START_US, END_US, items)
    shown = ItemLists.of([rng.permutation(items)[:3].tolist() for _ in positives.user])
    config = NegativesConfig(per_group=per_group)
    sampler = NegativeSampler(log, created_at, neighbours_of(log), config)
    groups = completed(sampler, positives, shown, seed)
    width = groups.item.shape[1] - per_group
    assert groups.relevant.tolist() == np.diff(positives.items.offsets).tolist()
    for row, (item, label) in enumerate(zip(groups.item, groups.label, strict=True)):
        assert set(label[width:]) <= {NOT_CLICKED, PADDING}
        own = slice(positives.items.offsets[row], positives.items.offsets[row + 1])
        assert item[:width][label[:width] != PADDING].tolist() == positives.items.item[own].tolist()
        assert label[:width][label[:width] != PADDING].tolist() == positives.label[own].tolist()
        user = log.user == positives.user[row]
        taken = set(log.item[user & (log.kind != EventKind.HIDE)])
        negatives = item[label == NOT_CLICKED]
        assert not taken & set(negatives)
        assert (created_at[negatives] <= positives.time[row]).all()
        assert len(set(item[label != PADDING])) == (label != PADDING).sum()
    again = completed(sampler, positives, shown, seed)
    np.testing.assert_array_equal(again.item, groups.item)
    np.testing.assert_array_equal(again.label, groups.label)


def many_positives(groups: int) -> Positives:
    """One positive a group, item 0, by a shopper that the log does not know otherwise."""
    return Positives(
        np.full(groups, 99),
        np.full(groups, END_US),
        ItemLists.of([[0]] * groups),
        np.full(groups, CLICKED, np.int8),
    )


def drawn_counts(config: NegativesConfig, shown: Sequence[int] = ()) -> NDArray[np.int64]:
    """How often each of 400 items was drawn for 600 groups; items 0 to 199 are popular."""
    items = 400
    log = random_log(2, users=30, items=items, events=50)
    log = replace(log, item=(log.item % 200).astype(np.int32))
    positives = many_positives(600)
    sampler = NegativeSampler(log, np.zeros(items, np.int64), neighbours_of(log), config)
    groups = completed(sampler, positives, ItemLists.of([list(shown)] * 600))
    return np.bincount(groups.item[groups.label == NOT_CLICKED], minlength=items)


def only(**share: float) -> NegativesConfig:
    nothing = dict.fromkeys(("random", "popular", "text_similar", "shown_not_clicked"), 0.0)
    return NegativesConfig(per_group=2, **{**nothing, **share})  # type: ignore[arg-type]


def test_each_kind_of_negative_comes_from_its_place() -> None:
    assert drawn_counts(only(random=1.0))[200:].sum() > 450
    popular = drawn_counts(only(popular=1.0))
    assert popular[200:].sum() < 60
    near = neighbours_of(random_log(2, items=400))
    similar = near.indices[near.indptr[0] : near.indptr[1]]
    counts = drawn_counts(only(text_similar=1.0))
    assert counts[similar].sum() > 0.7 * counts.sum()
    counts = drawn_counts(only(shown_not_clicked=1.0), shown=[301, 302, 303, 304])
    assert counts[301:305].sum() > 0.7 * counts.sum()


def test_shares_are_kept_roughly() -> None:
    shown = list(range(300, 340))
    counts = drawn_counts(only(random=0.5, shown_not_clicked=0.5), shown)
    expected = 0.5 + 0.5 * len(shown) / 400
    assert counts[shown].sum() / counts.sum() == pytest.approx(expected, abs=0.05)
    without = drawn_counts(only(random=0.5, shown_not_clicked=0.5))
    assert without[shown].sum() / without.sum() == pytest.approx(0.1, abs=0.04)


def test_without_any_share_negatives_are_random() -> None:
    assert drawn_counts(only())[200:].sum() > 450


# --- validation and test groups ---------------------------------------------------------------


def evaluated(
    log: InteractionLog, events: pl.DataFrame, part: Slice, limit: int = 300, seed: int = 0
) -> Groups:
    config = Configuration(
        text=TextConfig(shopper_max_segments=5),
        cross_encoder=CrossEncoderConfig(max_evaluation_groups=limit),
    )
    return evaluation_groups(log, events.lazy(), part, config, np.random.default_rng(seed))


def labelled(groups: Groups, row: int) -> dict[int, int]:
    real = groups.label[row] != PADDING
    items, labels = groups.item[row][real].tolist(), groups.label[row][real].tolist()
    assert len(set(items)) == len(items)
    return dict(zip(items, labels, strict=True))


def test_later_interest_is_what_is_new_to_a_shopper_with_a_history() -> None:
    found = later_interest(log_of(VISITS), Slice(minutes(100), minutes(300)))
    assert found.user.tolist() == [0, 0, 0, 0]
    assert [ITEMS[item] for item in found.item] == ["b", "c", "e", "g"]
    assert found.label.tolist() == [PURCHASED, CLICKED, CLICKED, CLICKED]
    assert len(later_interest(log_of(VISITS), Slice(minutes(0), minutes(50))).user) == 0


def test_with_impressions_a_group_is_what_a_session_was_shown() -> None:
    part = Slice(minutes(100), minutes(300))
    groups = evaluated(log_of(VISITS), events_of(VISITS), part)
    named = [{ITEMS[i]: label for i, label in labelled(groups, row).items()} for row in range(2)]
    assert named == [
        {"b": PURCHASED, "c": CLICKED, "d": NOT_CLICKED, "f": NOT_CLICKED},
        {"e": CLICKED, "g": CLICKED},
    ]
    assert groups.relevant.tolist() == [2, 2]
    assert groups.shoppers.queries == ("red lamp", "cup")


def test_without_impressions_every_shopper_ranks_the_same_part_of_the_catalogue() -> None:
    log = random_log(4, users=20, items=300, events=900)
    groups = evaluated(log, random_events(np.random.default_rng(4), 20, 300, 900), PART)
    interest = later_interest(log, PART)
    universe = set(interest.item[:]) & set(groups.item[0])
    users = np.unique(interest.user[np.isin(interest.item, list(universe))])
    assert len(users) == len(groups.item) > 10
    assert (groups.item == groups.item[0]).all()
    for row, user in enumerate(users):
        own = (log.user == user) & (log.kind != EventKind.HIDE)
        before = set(log.item[own & (log.time < PART.start)])
        inside = own & (log.time >= PART.start) & (log.time < PART.end)
        fresh = (set(log.item[inside]) - before) & universe
        bought = set(log.item[inside & (log.kind == EventKind.PURCHASE)])
        labels = labelled(groups, row)
        assert not before & set(labels)
        assert {item for item, label in labels.items() if label != NOT_CLICKED} == fresh
        assert {item for item, label in labels.items() if label == PURCHASED} == fresh & bought
        assert groups.relevant[row] == len(fresh)
        start, end = groups.shoppers.offsets[row : row + 2]
        assert set(groups.shoppers.segments[start:end]) <= before
    assert groups.relevant.sum() > 20


@pytest.mark.parametrize("shown", [True, False])
def test_events_at_or_after_the_end_change_no_evaluation_group(shown: bool) -> None:
    events = random_events(np.random.default_rng(4), 20, 60, 1_500)
    if shown:
        kinds = ["impression", "impression", "click"]
        events = events.with_columns(event_type=pl.Series([*kinds * 500]), query=pl.lit("cup"))
    early = events.filter(pl.col("event_time").dt.epoch("us") < PART.end)
    assert early.height < events.height
    groups = evaluated(random_shop_log(events, 60), events, PART)
    cut = evaluated(random_shop_log(early, 60), early, PART)
    assert (groups.item.shape[1] == len(np.unique(groups.item))) is not shown
    for name in ("item", "label", "relevant"):
        np.testing.assert_array_equal(getattr(groups, name), getattr(cut, name))
    np.testing.assert_array_equal(groups.shoppers.segments, cut.shoppers.segments)
    assert groups.shoppers.queries == cut.shoppers.queries


def test_a_limit_takes_a_seeded_sample_of_groups() -> None:
    events = random_events(np.random.default_rng(4), 20, 60, 900)
    log = random_shop_log(events, 60)
    few = evaluated(log, events, PART, limit=5)
    assert len(few.item) == few.shoppers.count == 5
    again, other = (evaluated(log, events, PART, limit=5, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(again.label, few.label)
    assert not np.array_equal(other.label, few.label)


def test_nobody_to_evaluate_is_an_error() -> None:
    later = END_US + 9 * DAY_US
    with pytest.raises(EmptyTableError, match="no shopper with a history"):
        evaluated(log_of(VISITS), events_of(VISITS), Slice(later, later + DAY_US))
