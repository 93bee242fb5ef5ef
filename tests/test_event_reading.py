"""Events on disk: read in streams, they give the log, the sum and the features of one frame."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from random_shop import START_US, item_ids, random_events, random_impressions

from recsys.config import Configuration
from recsys.features import FeatureInputs, ItemStatistics, feature_matrix
from recsys.interactions import Candidates, InteractionLog, ItemLists
from recsys.tables import write_dataset
from training.training_data import TrainingData, read_training_data

ITEMS, USERS = 40, 25
CUT = datetime.fromtimestamp(START_US / 1e6, UTC) + timedelta(days=90, hours=5)


def events_of(seed: int) -> pl.DataFrame:
    """Events of all kinds over 120 days, in order of time."""
    rng = np.random.default_rng(seed)
    tables = [random_events(rng, USERS, ITEMS, 1_500), random_impressions(rng, USERS, ITEMS, 3_000)]
    return pl.concat(tables, how="diagonal").sort("event_time", "event_id")


def read(folder: Path, events: pl.DataFrame, parts: int, until: datetime | None) -> TrainingData:
    """What training reads of a dataset whose events lie in several files."""
    items = pl.DataFrame({"item_id": item_ids(ITEMS), "title": [f"item {i}" for i in range(ITEMS)]})
    size = -(-events.height // parts)
    write_dataset(folder, items, events.iter_slices(size))
    return read_training_data(folder, until, Configuration())


def assert_same(one: InteractionLog, other: InteractionLog) -> None:
    for name, values in vars(one).items():
        if name in {"impressions", "searches"}:
            for part, array in vars(values).items():
                np.testing.assert_array_equal(array, getattr(getattr(other, name), part))
        elif not name.startswith("_"):
            np.testing.assert_array_equal(values, getattr(other, name))


def features(data: TrainingData) -> NDArray[np.float32]:
    """Features of all items for all shoppers at the cut."""
    log, users = data.log, len(data.log.user_ids)
    item = np.tile(np.arange(ITEMS, dtype=np.int32), users)
    shoppers = np.arange(users)
    inputs = FeatureInputs(
        items=data.catalogue.columns,
        statistics=ItemStatistics.at(log, data.until),
        histories=log.histories(shoppers),
        shown=log.shown_to(shoppers),
        context=ItemLists.empty(users),
        as_of=np.full(users, data.until),
        candidates=Candidates(
            np.arange(0, len(item) + 1, ITEMS), item, ("given",), np.zeros((len(item), 1), np.int32)
        ),
    )
    return feature_matrix(inputs).values


def test_files_in_any_order_with_rows_twice_give_the_log_and_the_sum_of_one_frame(
    tmp_path: Path,
) -> None:
    events = events_of(1)
    whole = read(tmp_path / "whole", events, 1, None)
    assert_same(whole.log, InteractionLog.build(pl.Series(item_ids(ITEMS)), events.lazy()))
    twice = pl.concat([events, events.sample(500, seed=2)]).sample(fraction=1, shuffle=True, seed=3)
    parts = read(tmp_path / "parts", twice, 7, None)
    assert_same(whole.log, parts.log)
    assert (whole.sha256, whole.until) == (parts.sha256, parts.until)


@pytest.mark.parametrize("column", ["session_id", "position", "query"])
def test_the_sum_sees_what_is_read_beside_the_log(tmp_path: Path, column: str) -> None:
    events = events_of(1)
    place = int(np.flatnonzero(events["event_type"] == "impression")[5])
    other = pl.lit(7 if column == "position" else "something else").cast(events.schema[column])
    changed = events.with_row_index("row").with_columns(
        pl.when(pl.col("row") == place).then(other).otherwise(column).alias(column)
    )
    before = read(tmp_path / "before", events, 1, None)
    after = read(tmp_path / "after", changed.drop("row"), 1, None)
    assert before.sha256 != after.sha256


def test_events_at_and_after_the_cut_change_no_log_no_sum_and_no_feature(tmp_path: Path) -> None:
    events = events_of(4)
    known = events.filter(pl.col("event_time") < CUT)
    assert 0 < known.height < events.height
    on_the_cut = known.tail(3).with_columns(
        event_id=pl.format("late-{}", "event_id"), event_time=pl.lit(CUT, pl.Datetime("us", "UTC"))
    )
    late = pl.concat([events, on_the_cut])
    everything = read(tmp_path / "everything", late, 5, CUT)
    truncated = read(tmp_path / "truncated", known, 1, CUT)
    assert_same(everything.log, truncated.log)
    assert everything.sha256 == truncated.sha256
    np.testing.assert_array_equal(features(everything), features(truncated))
    leaking = read_training_data(tmp_path / "everything", None, Configuration())
    assert len(leaking.log.item) > len(everything.log.item)
