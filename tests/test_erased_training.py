"""A shop without a shopper and a shop from which they were erased teach the very same."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from rich.progress import Progress
from test_signing import run as succeed
from trained_shop import UNTIL, TrainedShop

from recsys.bundle import Registry, save_arrays
from recsys.bundle.log_files import logged_users
from recsys.pseudonyms import Pseudonyms
from recsys.state import EventRecord, SqliteStateStore
from training.erase import ErasureOptions, ErasureSummary, Places, erase
from training.examples import Groups
from training.export_events import export_events
from training.index_catalogue import IndexOptions, index_catalogue
from training.ranker_frame import ranker_frame, save_frame
from training.training_data import TrainingData, read_training_data
from training.tune_text import labelled_groups

FIRST: Final = 400
"""Events that the dataset begins with; the others come through the state store."""


@pytest.fixture(scope="module")
def gone(trained_shop: TrainedShop) -> str:
    """Who has the most events."""
    return trained_shop.shoppers[0]


@pytest.fixture(scope="module")
def events(trained_shop: TrainedShop) -> pl.DataFrame:
    return trained_shop.tables.events.filter(pl.col("event_time") < UNTIL)


def records(events: pl.DataFrame) -> list[EventRecord]:
    frame = events.with_columns(pl.col("event_time").dt.epoch("us"))
    return [EventRecord(**row) for row in frame.iter_rows(named=True)]


def export(store: SqliteStateStore, folder: Path) -> None:
    with Progress(disable=True) as progress:
        export_events(store, folder, progress)


def erased(
    user: str, folder: Path, store: SqliteStateStore | None = None, registry: Path | None = None
) -> ErasureSummary:
    with Progress(disable=True) as progress:
        options = ErasureOptions(Pseudonyms(), erased_at=2**60)
        return erase([user], Places((folder,), store, registry), options, progress)


def training_set(shop: TrainedShop, folder: Path, out: Path) -> dict[str, bytes]:
    """All that training makes of a dataset for its models to learn from, as files."""
    data: TrainingData = read_training_data(folder, UNTIL, shop.configuration)
    texts = shop.recommender._contents.texts
    split = replace(data.split, windows=data.split.windows[-1:])  # one is enough to compare
    data = replace(data, split=split)
    out.mkdir()
    with Progress(disable=True) as progress:
        frame = ranker_frame(data, texts, shop.configuration, progress)
    summary = str(save_frame(frame, out))
    groups = labelled_groups(data, texts.neighbours, shop.configuration)
    for name in ("train", "validation", "test"):
        save_groups(getattr(groups, name), out / f"{name}.safetensors")
        summary += str(getattr(groups, name).shoppers.queries)
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    return files | {"data": data.sha256.encode(), "summary": summary.encode()}


def save_groups(groups: Groups, path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "item": groups.item,
        "label": groups.label,
        "relevant": groups.relevant,
        "offsets": groups.shoppers.offsets,
        "segments": groups.shoppers.segments,
        "kind": groups.shoppers.kind,
    }
    save_arrays(path, arrays)


def through_the_store(
    shop: TrainedShop, events: pl.DataFrame, sent: Sequence[EventRecord], folder: Path
) -> SqliteStateStore:
    """A dataset of the first events, the others recorded in batches and exported."""
    shop.tables.write(folder / "shop", events.head(FIRST))
    store = SqliteStateStore(folder / "state.sqlite")
    for begin in range(0, len(sent), 100):
        store.append_events(sent[begin : begin + 100], 0, 0)
    export(store, folder / "shop")
    return store


def test_a_log_without_somebody_and_one_they_are_erased_from_give_the_same_training_set(
    trained_shop: TrainedShop, events: pl.DataFrame, gone: str, tmp_path: Path
) -> None:
    without = events.filter(pl.col("user_id") != gone)
    never = tmp_path / "never"
    trained_shop.tables.write(never, without)
    with closing(
        through_the_store(trained_shop, events, records(events[FIRST:]), tmp_path)
    ) as store:
        before = read_training_data(tmp_path / "shop", UNTIL, trained_shop.configuration)
        assert gone in before.log.user_ids
        summary = erased(gone, tmp_path / "shop", store)
        export(store, tmp_path / "shop")
        assert summary.datasets[0].events == events.height - without.height
        assert summary.state_events == events[FIRST:].filter(pl.col("user_id") == gone).height > 0
    expected = training_set(trained_shop, never, tmp_path / "a")
    assert training_set(trained_shop, tmp_path / "shop", tmp_path / "b") == expected


def test_repeated_and_shuffled_events_give_a_byte_identical_training_set(
    trained_shop: TrainedShop, events: pl.DataFrame, tmp_path: Path
) -> None:
    sent = records(events[FIRST:])
    sets = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        several = [sent[place] for place in rng.permutation(len(sent) * 3) % len(sent)]
        store = through_the_store(trained_shop, events, several if seed else sent, folder)
        with closing(store):
            sets.append(training_set(trained_shop, folder / "shop", folder / "set"))
    assert all(one == sets[0] for one in sets[1:])


def test_bundles_that_hold_the_erased_are_named_until_they_are_pruned(
    trained_shop: TrainedShop, gone: str, tmp_path: Path
) -> None:
    registry = Path(shutil.copytree(trained_shop.registry, tmp_path / "registry"))
    dataset = Path(shutil.copytree(trained_shop.dataset, tmp_path / "shop"))
    summary = erased(gone, dataset, registry=registry)
    assert [(one.version, one.current, one.shoppers) for one in summary.bundles] == [
        ("v000001", True, 1)
    ]
    assert [("index" in step, "prune" in step) for step in summary.next_steps] == [
        (True, False),
        (False, True),
    ]
    with Progress(disable=True) as progress:
        index_catalogue(dataset, registry, IndexOptions(until=UNTIL), progress)
    again = erased(gone, dataset, registry=registry)
    assert [(one.version, one.current) for one in again.bundles] == [("v000001", False)]
    assert len(again.next_steps) == 1
    succeed("bundles", "prune", "--registry", str(registry), "--keep", "1")
    assert erased(gone, dataset, registry=registry).bundles == ()
    bundle = Registry(registry).folder()
    assert len(logged_users(bundle)) == len(trained_shop.data.log.user_ids) - 1
    files = [path for path in bundle.rglob("*.*") if path.is_file()]
    assert [path.name for path in files if f'"{gone}"'.encode() in path.read_bytes()] == []
