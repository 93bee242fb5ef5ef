"""The encoder's validation and test groups: what was shown, or a part of the catalogue."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from random_shop import END_US, START_US, random_events, random_log
from random_shop import log_of as random_shop_log
from visits import ITEMS, VISITS, events_of, log_of, minutes

from recsys.config import (
    Configuration,
    TextConfig,
)
from recsys.errors import EmptyTableError
from recsys.interactions import DAY_US, EventKind, InteractionLog
from training.evaluation_groups import evaluation_groups, later_interest
from training.examples import (
    CLICKED,
    NOT_CLICKED,
    PADDING,
    PURCHASED,
    Groups,
)
from training.time_split import Slice

PART = Slice(START_US + 60 * DAY_US, START_US + 90 * DAY_US)


def evaluated(
    log: InteractionLog, events: pl.DataFrame, part: Slice, limit: int = 300, seed: int = 0
) -> Groups:
    config = Configuration(seed=seed, text=TextConfig(shopper_max_segments=5))
    return evaluation_groups(log, events.lazy(), part, config, limit)


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
