"""Arrays, JSON and the interaction log come back from bundle files as they went in."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from recsys.bundle import canonical_json, load_arrays, load_json, save_arrays, save_json
from recsys.bundle.log_files import load_log, save_log
from recsys.errors import BundleCorruptError, BundleError
from recsys.interactions import InteractionLog

DTYPES = st.sampled_from(["?", "i1", "u1", "i2", "i4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i8"])
ARRAYS = arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(named=st.dictionaries(st.text("abc_", min_size=1), ARRAYS, max_size=4))
def test_arrays_round_trip(tmp_path: Path, named: dict[str, NDArray[np.generic]]) -> None:
    save_arrays(tmp_path / "a.safetensors", named)
    loaded = load_arrays(tmp_path / "a.safetensors")
    assert loaded.keys() == named.keys()
    for name, array in named.items():
        assert loaded[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded[name], array)


def test_arrays_of_any_memory_order_are_saved_by_value(tmp_path: Path) -> None:
    grid = np.arange(12.0).reshape(3, 4)
    save_arrays(tmp_path / "a.safetensors", {"columns": grid.T, "every_second": grid[:, ::2]})
    loaded = load_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(loaded["columns"], grid.T)
    np.testing.assert_array_equal(loaded["every_second"], grid[:, ::2])


def test_equal_arrays_give_equal_bytes_in_any_order(tmp_path: Path) -> None:
    one, two = np.arange(3), np.ones(2, np.float32)
    save_arrays(tmp_path / "a.safetensors", {"one": one, "two": two})
    save_arrays(tmp_path / "b.safetensors", {"two": two, "one": one})
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_array_of_texts_or_objects_is_refused(tmp_path: Path) -> None:
    for array in (np.array(["text"]), np.array([None], object)):
        with pytest.raises(BundleError, match=r"'ids' for a\.safetensors has dtype"):
            save_arrays(tmp_path / "a.safetensors", {"ids": array})


def test_unreadable_files_are_corrupt(tmp_path: Path) -> None:
    with pytest.raises(BundleCorruptError, match=r"a\.safetensors"):
        load_arrays(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").write_bytes(b"\x00" * 30)
    with pytest.raises(BundleCorruptError, match=r"a\.safetensors"):
        load_arrays(tmp_path / "a.safetensors")
    with pytest.raises(BundleCorruptError, match=r"a\.json is missing"):
        load_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(BundleCorruptError, match=r"a\.json can't be read as JSON"):
        load_json(tmp_path / "a.json")


def test_json_has_one_spelling(tmp_path: Path) -> None:
    save_json(tmp_path / "a.json", {"b": [1, 0.5, None], "a": "é"})
    assert (tmp_path / "a.json").read_bytes() == canonical_json({"a": "é", "b": (1, 0.5, None)})
    assert load_json(tmp_path / "a.json") == {"a": "é", "b": [1, 0.5, None]}
    for value in (float("nan"), float("inf"), {1, 2}, object()):
        with pytest.raises(BundleError):
            canonical_json({"value": value})


@pytest.fixture
def log() -> InteractionLog:
    events = pl.DataFrame(
        {
            "event_id": ["e1", "e2", "e3", "e4", "e5", "e6"],
            "user_id": ["ünal", "ada", "ada", "ünal", "ada", "ünal"],
            "item_id": ["i2", "i1", "i2", "gone", "i1", "i3"],
            "event_type": ["purchase", "click", "purchase", "click", "impression", "impression"],
            "event_time": ["2031-04-02T10:00:00"] * 6,
            "price": [2.5, None, 1.0, 1.0, None, None],
            "position": [None, 3, None, None, 3, 0],
            "query": [None, "red mug", None, "lamp", "red mug", None],
        }
    ).with_columns(pl.col("event_time").str.to_datetime(time_unit="us", time_zone="UTC"))
    return InteractionLog.build(pl.Series(["i1", "i2", "i3"]), events.lazy())


def assert_equal_logs(log: InteractionLog, other: InteractionLog) -> None:
    apart = {"impressions", "searches"}
    names = {field.name for field in fields(InteractionLog)} - apart
    pairs = [(getattr(log, name), getattr(other, name)) for name in names]
    for part in apart:
        ours, theirs = vars(getattr(log, part)), vars(getattr(other, part))
        pairs += [(ours[name], theirs[name]) for name in ours]
    for ours, theirs in pairs:
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype


def test_log_round_trips(tmp_path: Path, log: InteractionLog) -> None:
    assert (log.impressions.count, len(log.impressions.clicked)) == (2, 1)
    save_log(log, tmp_path)
    assert_equal_logs(load_log(tmp_path), log)


def test_log_without_events_round_trips(tmp_path: Path, log: InteractionLog) -> None:
    empty = log.before(0)
    save_log(empty, tmp_path)
    assert_equal_logs(load_log(tmp_path), empty)


def test_log_files_that_do_not_belong_together_are_corrupt(
    tmp_path: Path, log: InteractionLog
) -> None:
    save_log(log, tmp_path)
    save_json(
        tmp_path / "log_ids.json",
        {"user_ids": ["ada"], "item_ids": list(log.item_ids), "queries": []},
    )
    with pytest.raises(
        BundleCorruptError, match="1 user ids and 3 events, but offsets for 2 users"
    ):
        load_log(tmp_path)
    save_json(tmp_path / "log_ids.json", {"user_ids": [1], "item_ids": [], "queries": []})
    with pytest.raises(BundleCorruptError, match="lists of texts named"):
        load_log(tmp_path)
    save_arrays(tmp_path / "log.safetensors", {"item": log.item})
    with pytest.raises(BundleCorruptError, match=r"holds arrays \['item'\], expected"):
        load_log(tmp_path)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("user", np.zeros(1, np.int32)),
        ("clicked", np.array([2], np.int32)),
        ("clicked", np.array([-1], np.int32)),
        ("click_time", np.zeros(2, np.int64)),
    ],
)
def test_impressions_that_do_not_belong_together_are_corrupt(
    tmp_path: Path, log: InteractionLog, name: str, values: NDArray[np.int64]
) -> None:
    damaged = replace(log.impressions, **{name: values})  # type: ignore[arg-type]
    save_log(replace(log, impressions=damaged), tmp_path)
    with pytest.raises(BundleCorruptError, match=r"holds impressions whose arrays do not belong"):
        load_log(tmp_path)
