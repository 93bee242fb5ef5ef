"""The ranker's training frame: features from before a window, labels from within it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.progress import Progress
from trained_shop import TrainedShop

from recsys.config import LabelGrades
from recsys.interactions import EventKind
from recsys.ranker import FitInputs, RankerTier
from training.ranker_frame import (
    REQUESTS_PER_CHUNK,
    load_frame,
    ranker_frame,
    save_frame,
    window_labels,
)
from training.time_split import Slice
from training.training_data import TrainingData


def frame_of(shop: TrainedShop, data: TrainingData) -> FitInputs:
    with Progress(disable=True) as progress:
        texts = shop.recommender._contents.texts
        return ranker_frame(data, texts, shop.configuration, progress)


def last_window(data: TrainingData) -> TrainingData:
    return replace(data, split=replace(data.split, windows=data.split.windows[-1:]))


@pytest.fixture(scope="module")
def data(trained_shop: TrainedShop) -> TrainingData:
    return last_window(trained_shop.data)


@pytest.fixture(scope="module")
def frame(trained_shop: TrainedShop, data: TrainingData) -> FitInputs:
    return frame_of(trained_shop, data)


@pytest.mark.parametrize(
    "grades", [LabelGrades(), LabelGrades(purchase=30, click=0, view=0, hide=4, review=5)]
)
def test_labels_are_the_strongest_grades_in_the_window(
    data: TrainingData, grades: LabelGrades
) -> None:
    log, window = data.log, data.split.windows[-1]
    labels = window_labels(data, window, grades)
    expected: dict[int, int] = {}
    for row in np.flatnonzero((log.time >= window.start) & (log.time < window.end)):
        grade = getattr(grades, EventKind(log.kind[row]).name.lower())
        pair = int(log.user[row]) * len(log.item_ids) + int(log.item[row])
        if grade:
            expected[pair] = max(grade, expected.get(pair, 0))
    assert dict(zip(labels.pair.tolist(), labels.grade.tolist(), strict=True)) == expected
    assert labels.users.tolist() == sorted({pair // len(log.item_ids) for pair in expected})
    assert labels.of(np.array([labels.pair[0], 10**9])).tolist() == [labels.grade[0], 0]


def test_a_frame_has_a_request_for_every_shopper_of_every_window(
    trained_shop: TrainedShop, data: TrainingData, frame: FitInputs
) -> None:
    users = window_labels(data, data.split.windows[-1], LabelGrades()).users
    assert (~frame.unseen).sum() == len(users)
    assert len(frame.sizes) == len(frame.held_back) == len(frame.unseen)
    assert frame.values.shape == (frame.sizes.sum(), len(frame.names))
    assert len(frame.labels) == frame.sizes.sum()
    assert set(frame.labels) == {0, 1, 2, 3}
    assert set(frame.groups) == set(frame.names)
    assert tuple(frame.names) == trained_shop.recommender._contents.rankers[RankerTier.FULL].names


def test_a_frame_has_the_configured_grades(trained_shop: TrainedShop, data: TrainingData) -> None:
    grades = LabelGrades(purchase=9, add_to_cart=5, share=0, review=0, click=0, view=0)
    ranker = trained_shop.configuration.ranker.model_copy(update={"grades": grades})
    configuration = trained_shop.configuration.model_copy(update={"ranker": ranker})
    with Progress(disable=True) as progress:
        texts = trained_shop.recommender._contents.texts
        found = ranker_frame(data, texts, configuration, progress)
    assert set(found.labels) == {0, 5, 9}


def test_events_from_a_windows_start_on_change_labels_but_no_feature(
    trained_shop: TrainedShop, data: TrainingData, frame: FitInputs
) -> None:
    log, start = data.log, data.split.windows[-1].start
    later = np.flatnonzero(log.time >= start)
    rng = np.random.default_rng(1)
    item, price = log.item.copy(), log.price.copy()
    item[later] = rng.permutation(item[later])
    price[later] += 100.0
    assert len(later) > 100
    shown = log.impressions.item.copy()
    after = np.flatnonzero(log.impressions.time >= start)
    shown[after] = rng.permutation(shown[after])
    impressions = replace(log.impressions, item=shown)
    changed = replace(log, item=item, price=price, impressions=impressions)
    found = frame_of(trained_shop, replace(data, log=changed))
    np.testing.assert_array_equal(found.held_back, frame.held_back)
    np.testing.assert_array_equal(found.unseen, frame.unseen)
    both = (found.sizes > 0) & (frame.sizes > 0)
    assert both[~frame.unseen].all()
    assert both[frame.unseen].sum() > 5
    one, other = found.take(both), frame.take(both)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.sizes, other.sizes)
    assert not np.array_equal(one.labels, other.labels)


def test_an_event_before_a_windows_start_does_change_features(
    trained_shop: TrainedShop, data: TrainingData, frame: FitInputs
) -> None:
    log, start = data.log, data.split.windows[-1].start
    earlier = np.flatnonzero(log.time < start)
    item = log.item.copy()
    item[earlier] = np.random.default_rng(1).permutation(item[earlier])
    found = frame_of(trained_shop, replace(data, log=replace(log, item=item)))
    assert found.values.shape != frame.values.shape or not np.array_equal(
        found.values, frame.values, equal_nan=True
    )


def test_only_held_back_requests_keep_more_negatives_than_configured(
    trained_shop: TrainedShop, data: TrainingData, frame: FitInputs
) -> None:
    ranker = trained_shop.configuration.ranker.model_copy(update={"negatives_per_request": 7})
    configuration = trained_shop.configuration.model_copy(update={"ranker": ranker})
    with Progress(disable=True) as progress:
        texts = trained_shop.recommender._contents.texts
        found = ranker_frame(data, texts, configuration, progress)
    negatives = np.bincount(found.request[found.labels == 0], minlength=len(found.sizes))
    assert set(negatives[~found.held_back & ~found.unseen]) == {7}
    assert negatives[~found.held_back & found.unseen].max() <= 7
    np.testing.assert_array_equal(found.sizes[found.held_back], frame.sizes[found.held_back])
    assert (found.labels > 0).sum() == (frame.labels > 0).sum()


def test_own_items_are_those_bought_before_the_window(frame: FitInputs) -> None:
    bought = frame.values[:, frame.names.index("own_baskets")] > 0
    np.testing.assert_array_equal(frame.own, bought)
    assert 0 < frame.own.sum() < len(frame.own)


def test_items_created_from_a_windows_end_on_are_no_candidates(
    trained_shop: TrainedShop, data: TrainingData, frame: FitInputs
) -> None:
    window = data.split.windows[-1]
    too_late = created(trained_shop, data, window, window.end)
    assert 0 < too_late.sizes.max() <= 5
    just_there = created(trained_shop, data, window, window.end - 1)
    assert just_there.sizes.sum() > frame.sizes.sum()
    assert frame.sizes[~frame.unseen].min() > 10


def test_who_took_up_what_nobody_had_seen_makes_a_request_of_that_alone(
    data: TrainingData, frame: FitInputs
) -> None:
    log, window = data.log, data.split.windows[-1]
    known = log.before(window.start)
    seen = np.union1d(known.item, known.impressions.item)
    labels = window_labels(data, window, LabelGrades())
    fresh = ~np.isin(labels.pair % len(log.item_ids), seen)
    takers = np.isin(labels.users, labels.pair[fresh] // len(log.item_ids))
    lists = frame.take(frame.unseen)
    assert 0 < takers.sum() < len(takers)
    chunks = -(-len(takers) // REQUESTS_PER_CHUNK)
    assert len(lists.sizes) == len(takers)
    assert chunks > 1
    np.testing.assert_array_equal(lists.sizes > 0, takers)
    assert (lists.labels > 0).sum() == fresh.sum()
    columns = {name: lists.values[:, lists.names.index(name)] for name in lists.names}
    assert (columns["buyers"] == 0).all()
    assert (columns["own_baskets"] == 0).all()
    assert np.isnan(columns["days_since_last_sold"]).all()
    assert not np.isnan(columns["text_cross_purchase"]).any()


def created(shop: TrainedShop, data: TrainingData, window: Slice, time: int) -> FitInputs:
    """The frame of a catalogue of which all but five items came at `time`."""
    old = pl.int_range(pl.len()) < 5
    at = pl.when(old).then(window.start - 1).otherwise(time).cast(pl.Datetime("us", "UTC"))
    return frame_of(shop, replace(data, items=data.items.with_columns(created_at=at)))


def test_a_shopper_is_held_back_in_every_window_or_in_none(trained_shop: TrainedShop) -> None:
    data = trained_shop.data
    frame = frame_of(trained_shop, data)
    users = [window_labels(data, window, LabelGrades()).users for window in data.split.windows]
    marks: dict[int, set[bool]] = {}
    held_back_marks = frame.held_back[~frame.unseen]
    for user, held_back in zip(np.concatenate(users).tolist(), held_back_marks, strict=True):
        marks.setdefault(user, set()).add(bool(held_back))
    assert all(len(found) == 1 for found in marks.values())
    assert frame.held_back.any()
    assert not frame.held_back.all()


def test_a_frame_is_read_back_as_it_was_written(frame: FitInputs, tmp_path: Path) -> None:
    summary = save_frame(frame, tmp_path)
    found = load_frame(tmp_path, summary)
    for name in ("values", "sizes", "labels", "held_back", "own", "unseen"):
        np.testing.assert_array_equal(getattr(found, name), getattr(frame, name))
    assert (found.names, found.groups) == (frame.names, frame.groups)
    assert summary["rows"] == len(frame.labels)
