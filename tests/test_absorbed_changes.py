"""`recsys index --state`: what servers recorded of the catalogue is in the nightly bundle."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from catalogue_calls import NEW, tier
from shelf_server import running
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.interactions import microseconds
from recsys.recommender import Recommender
from recsys.state import ItemChange, ItemRecord, SqliteStateStore
from recsys.tables import write_dataset
from serving.cli.main import main
from serving.loading import open_recommender

AT = microseconds(UNTIL)


@dataclass(frozen=True)
class Night:
    """A registry, tonight's dataset and the servers' state store."""

    registry: Path
    dataset: Path
    state: Path
    items: pl.DataFrame

    def index(self, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        """What the command says of the run."""
        options = ["--state", str(self.state), "--until", UNTIL.isoformat(), "--json"]
        with pytest.raises(SystemExit) as end:
            main(["index", str(self.dataset), "--registry", str(self.registry), *options])
        assert not end.value.code
        summary: dict[str, Any] = json.loads(capsys.readouterr().out)
        return summary

    def served(self) -> Recommender:
        return open_recommender(self.registry)


@pytest.fixture
def night(trained_shop: TrainedShop, tmp_path: Path) -> Night:
    registry, dataset = tmp_path / "registry", tmp_path / "dataset"
    shutil.copytree(trained_shop.registry, registry)
    items = trained_shop.tables.items.sort("item_id")
    write_dataset(dataset, items, trained_shop.tables.events)
    return Night(registry, dataset, tmp_path / "state.sqlite", items)


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """What a server answered by is kept from the garbage collector, and with it the server."""
    yield
    gc.unfreeze()
    gc.collect()


@pytest.fixture
def store(night: Night) -> Iterator[SqliteStateStore]:
    with closing(SqliteStateStore(night.state)) as opened:
        yield opened


def test_what_servers_recorded_is_in_the_bundle_and_no_server_reads_it_again(
    night: Night, store: SqliteStateStore, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted, dearer = night.items["item_id"][0], night.items.row(1, named=True)
    recorded = [
        ItemChange("zz-new", AT, ItemRecord("zz-new", NEW.title, updated_at=AT)),
        ItemChange(deleted, AT, None),
        ItemChange(
            dearer["item_id"],
            AT,
            ItemRecord(dearer["item_id"], dearer["title"], price=987.0, updated_at=AT),
        ),
    ]
    store.change_catalogue(recorded)
    summary = night.index(capsys)
    assert summary["published"]
    assert (summary["from_state"], summary["added"], summary["deleted"]) == (3, 1, 1)
    recommender = night.served()
    card = recommender.card(dearer["item_id"])
    assert card is not None
    assert card.price == 987.0
    assert recommender.card("zz-new") is not None
    assert recommender.card(deleted) is None
    _, taken = recommender.after(store.catalogue_changes())
    assert not taken.texts_read
    with running(recommender, store) as (_, call):
        assert tier(call, "zz-new") == v1.Tier.TIER_RANKER
        assert tier(call, deleted) == v1.Tier.TIER_UNKNOWN_ITEM
    assert not night.index(capsys)["published"]


def test_a_later_row_of_the_dataset_takes_a_change_s_place(
    night: Night, store: SqliteStateStore, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = night.items["item_id"][:2].to_list()
    store.change_catalogue([ItemChange(item_id, AT, None, is_dated=True) for item_id in ids])
    later = pl.when(item_id=ids[0]).then(UNTIL + timedelta(seconds=1))
    write_dataset(
        night.dataset,
        night.items.with_columns(updated_at=later),
        pl.read_parquet(night.dataset / "events.parquet"),
        overwrite=True,
    )
    assert night.index(capsys)["from_state"] == 1
    assert night.served().card(ids[0]) is not None
    assert night.served().card(ids[1]) is None


def test_a_store_that_is_not_there_is_named(
    night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--registry", str(night.registry), "--state", str(night.state)]
    with pytest.raises(SystemExit) as end:
        main(["index", str(night.dataset), *options])
    assert end.value.code == 3
    assert str(night.state) in capsys.readouterr().err.replace("\n", "")
