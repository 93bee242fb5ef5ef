"""Recorded events reach the dataset once each, whatever is repeated, shuffled or killed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import polars as pl
import publisher
import pytest
from rich.progress import Progress
from trained_shop import UNTIL, simulate_tables, tiny_configuration
from typer.testing import CliRunner

from recsys.errors import DataError, StateError
from recsys.state import EventRecord, SqliteStateStore, StateStore
from recsys.tables import Dataset
from serving.cli.events import app
from training.export_events import ExportSummary, export_events
from training.training_data import read_training_data

KEPT = 300
"""Events that the dataset has; the others come through the state store."""


class KilledError(BaseException):
    """Stands in for a kill: nothing of ours handles it."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with only the first events of a simulated shop; all of them in `all.parquet`."""
    tables = simulate_tables()
    folder = tmp_path_factory.mktemp("shop")
    tables.events.head(1_200).write_parquet(folder / "all.parquet")
    tables.write(folder / "dataset", tables.events.head(KEPT))
    return folder


@pytest.fixture(scope="module")
def records(shop: Path) -> list[EventRecord]:
    frame = pl.read_parquet(shop / "all.parquet").with_columns(pl.col("event_time").dt.epoch("us"))
    return [EventRecord(**row) for row in frame.iter_rows(named=True)]


@pytest.fixture
def dataset(shop: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop / "dataset", tmp_path / "dataset"))


@pytest.fixture
def store(reopen: Callable[[], StateStore]) -> StateStore:
    return reopen()


def export(store: StateStore, folder: Path, events_per_part: int = 500) -> ExportSummary:
    with Progress(disable=True) as progress:
        return export_events(store, folder, progress, events_per_part)


def rows(folder: Path) -> pl.DataFrame:
    return Dataset(folder).scan_events().collect().sort("event_id")


def everything(shop: Path, folder: Path) -> pl.DataFrame:
    """The shop's events in the columns that a dataset has after an export."""
    wanted = rows(folder).columns
    whole = pl.read_parquet(shop / "all.parquet")
    missing = [pl.lit(None, rows(folder)[name].dtype).alias(name) for name in wanted]
    absent = [one for name, one in zip(wanted, missing, strict=True) if name not in whole.columns]
    return whole.with_columns(absent).select(wanted).sort("event_id")


def test_all_events_arrive_with_every_column_and_a_second_run_adds_nothing(
    shop: Path, dataset: Path, store: StateStore, records: list[EventRecord]
) -> None:
    store.append_events(records[KEPT:], 0, 0)
    first = export(store, dataset)
    assert (first.exported, first.already_there, len(first.parts)) == (900, 0, 2)
    assert rows(dataset).equals(everything(shop, dataset))
    again = export(store, dataset)
    assert (again.exported, again.already_there, again.parts) == (0, 0, ())
    assert rows(dataset).height == 1_200


def test_later_events_are_added_to_earlier_ones(
    shop: Path, dataset: Path, store: StateStore, records: list[EventRecord]
) -> None:
    for begin in range(KEPT, 1_200, 250):
        store.append_events(records[begin : begin + 250], 0, late_before=records[400].event_time)
        export(store, dataset)
    assert rows(dataset).equals(everything(shop, dataset))


def test_events_that_the_dataset_has_are_left_out(
    shop: Path, dataset: Path, store: StateStore, records: list[EventRecord]
) -> None:
    store.append_events(records, 0, late_before=records[10].event_time)
    summary = export(store, dataset)
    assert (summary.exported, summary.already_there, summary.late) == (900, 300, 10)
    assert rows(dataset).equals(everything(shop, dataset))


@pytest.mark.parametrize("form", ["events.parquet", "events-2026.parquet", "events/a.parquet"])
def test_every_form_of_a_table_takes_parts(
    shop: Path, dataset: Path, store: StateStore, records: list[EventRecord], form: str
) -> None:
    (dataset / "events").mkdir()
    (dataset / "events.parquet").rename(dataset / form)
    store.append_events(records[KEPT:], 0, 0)
    export(store, dataset)
    assert rows(dataset).equals(everything(shop, dataset))


def test_a_dataset_without_events_gets_its_first(
    dataset: Path, store: StateStore, records: list[EventRecord]
) -> None:
    (dataset / "events.parquet").unlink()
    store.append_events(records[:5], 0, 0)
    assert export(store, dataset).exported == 5


def test_a_kill_at_any_call_loses_and_doubles_nothing(
    shop: Path, tmp_path: Path, records: list[EventRecord]
) -> None:
    with closing(SqliteStateStore(tmp_path / "state.sqlite")) as store:
        _kill_at_every_call(shop, tmp_path, store, records)


def _kill_at_every_call(
    shop: Path, tmp_path: Path, store: StateStore, records: list[EventRecord]
) -> None:
    store.append_events(records[KEPT:], 0, 0)
    hits: list[int] = []
    for number in range(1, 60):

        def kill(number: int = number) -> None:
            hits.append(number)
            raise KilledError

        folder = Path(shutil.copytree(shop / "dataset", tmp_path / f"dataset-{number}"))
        with suppress(KilledError), publisher.at_call(number, kill):
            export(store, folder)
        found = rows(folder)["event_id"]
        assert found.n_unique() == len(found) >= KEPT
        store.append_events(records[KEPT:], 0, 0)
        export(store, folder)
        assert rows(folder).equals(everything(shop, folder))
        if number not in hits:
            break
    assert 8 < len(hits) < 50


def test_repeated_and_shuffled_events_give_byte_identical_training_input(
    shop: Path, tmp_path: Path, records: list[EventRecord], tiny_bert: Path
) -> None:
    seen = set()
    configuration = tiny_configuration(tiny_bert)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        folder = Path(shutil.copytree(shop / "dataset", tmp_path / f"dataset-{seed}"))
        sent = records[KEPT:] * (3 if seed else 1)
        order = rng.permutation(len(sent)) if seed else np.arange(len(sent))
        with closing(SqliteStateStore(tmp_path / f"state-{seed}")) as store:
            for begin in range(0, len(sent), 100):
                batch = [sent[place] for place in order[begin : begin + 100]]
                store.append_events(batch, 0, 0)
            summary = export(store, folder, events_per_part=5_000)
        assert summary.exported == len(records) - KEPT
        data = read_training_data(folder, UNTIL, configuration)
        seen.add((data.sha256, summary.parts[0].read_bytes()))
    assert len(seen) == 1


def test_two_exports_at_a_time_into_a_dataset_are_refused(
    dataset: Path, store: StateStore, records: list[EventRecord]
) -> None:
    store.append_events(records[KEPT:], 0, 0)

    class Meanwhile(Progress):
        def advance(self, *_: object) -> None:
            with pytest.raises(DataError, match="another export"):
                export(store, dataset)

    with Meanwhile(disable=True) as progress:
        export_events(store, dataset, progress)


def test_the_command_prints_one_json_object_and_refuses_a_missing_store(
    dataset: Path, store: StateStore, records: list[EventRecord], tmp_path: Path, state_at: str
) -> None:
    store.append_events(records[KEPT:], 0, 0)
    run = CliRunner().invoke
    result = run(app, ["export", str(dataset), "--state", state_at, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["exported"] == 900
    nowhere = state_at.replace("/0", "/1") if "://" in state_at else str(tmp_path / "none")
    missing = run(app, ["export", str(dataset), "--state", nowhere])
    assert isinstance(missing.exception, StateError)
    assert "there is no state store at" in str(missing.exception)
    assert not (tmp_path / "none").exists()
