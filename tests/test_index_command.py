"""`recsys index`: what changed is published once, and what looks wrong is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from random_shop import unit_rows
from rich.progress import Progress
from shelf_server import running
from trained_shop import UNTIL, TrainedShop

from recsys import v1
from recsys.bundle import Registry, indexer_lock
from recsys.errors import (
    BundleCorruptError,
    BundleError,
    DataError,
    ModelError,
    RegistryBusyError,
)
from recsys.recommender import GOLDEN, Contents, load_golden, save_golden
from recsys.tables import write_dataset
from serving.cli.main import main
from serving.loading import open_recommender
from training import index_catalogue as job
from training.index_catalogue import IndexOptions, IndexSummary, index_catalogue
from training.index_checks import Sizes, check_contents, check_size

LATER = UNTIL + timedelta(days=3)


@dataclass(frozen=True)
class Shop:
    """A copy of the trained shop's registry, and a dataset that may change."""

    trained: TrainedShop
    registry: Path
    dataset: Path

    def write(self, items: pl.DataFrame) -> None:
        shutil.rmtree(self.dataset, ignore_errors=True)
        write_dataset(self.dataset, items, self.trained.tables.events)

    @property
    def items(self) -> pl.DataFrame:
        return self.trained.tables.items

    def index(self, **options: Any) -> IndexSummary:
        with Progress(disable=True) as progress:
            return index_catalogue(
                self.dataset, self.registry, IndexOptions(**{"until": UNTIL} | options), progress
            )

    def command(self, *arguments: str) -> int:
        try:
            main(["index", str(self.dataset), "--registry", str(self.registry), *arguments])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    def served(self) -> Contents:
        bundles = Registry(self.registry)
        version = bundles.current()
        bundles.verify(version)
        return Contents.load(bundles.folder(version))


@pytest.fixture
def shop(trained_shop: TrainedShop, tmp_path: Path) -> Shop:
    registry = tmp_path / "registry"
    shutil.copytree(trained_shop.registry, registry)
    found = Shop(trained_shop, registry, tmp_path / "shop")
    found.write(trained_shop.tables.items)
    return found


def changed(items: pl.DataFrame) -> pl.DataFrame:
    """One item less, one with another title, one more, all a little dearer."""
    new = items[:1].with_columns(item_id=pl.lit("zz-new"), title=pl.lit("Vintage oak tray"))
    kept = items[1:].with_columns(
        title=pl.when(pl.col("item_id") == items["item_id"][5])
        .then(pl.lit("A silver bird cage"))
        .otherwise("title")
    )
    return pl.concat([kept, new]).with_columns(price=pl.col("price") + 1)


def test_without_a_change_the_bundle_stays(shop: Shop) -> None:
    before = shop.served()
    summary = shop.index()
    assert not summary.published
    assert (summary.version, summary.previous) == ("v000001", "v000001")
    assert Registry(shop.registry).versions() == ["v000001"]
    assert summary.items == len(before.catalogue.item_ids)
    assert summary.events_since_training == 0


def test_a_changed_catalogue_and_new_events_are_published_once(shop: Shop) -> None:
    shop.write(changed(shop.items))
    summary = shop.index(until=LATER)
    assert summary.published
    assert (summary.added, summary.changed, summary.deleted) == (1, 1, 1)
    assert summary.horizon == LATER
    assert summary.trained_until == UNTIL
    assert summary.events_since_training > 0
    assert Registry(shop.registry).manifest(summary.version).horizon == LATER
    contents = shop.served()
    assert "zz-new" in contents.catalogue.item_ids
    assert shop.items["item_id"][0] not in contents.catalogue.item_ids
    assert contents.log.time.max() >= UNTIL.timestamp() * 1e6
    again = shop.index(until=LATER)
    assert not again.published
    assert again.version == summary.version
    assert list((shop.registry / "work").iterdir()) == []


def test_what_is_published_is_what_reading_everything_gives(shop: Shop, tmp_path: Path) -> None:
    shop.write(changed(shop.items))
    other = Shop(shop.trained, tmp_path / "other", shop.dataset)
    shutil.copytree(shop.registry, other.registry)
    folders = []
    for one, rebuild in ((shop, False), (other, True)):
        summary = one.index(until=LATER, rebuild=rebuild)
        folders.append(Registry(one.registry).folder(summary.version))
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1]
    different = [
        name.as_posix()
        for name in files[0]
        if (folders[0] / name).read_bytes() != (folders[1] / name).read_bytes()
    ]
    may_differ = {"MANIFEST.json", "item_vectors.safetensors", "upkeep.safetensors"}
    assert set(different) <= may_differ, "only the reserves behind the lists may be others"


def test_going_on_night_after_night_ends_where_one_step_does(shop: Shop, tmp_path: Path) -> None:
    other = Shop(shop.trained, tmp_path / "other", tmp_path / "other-shop")
    shutil.copytree(shop.registry, other.registry)
    items = changed(shop.items)
    for night in range(3):
        items = items.with_columns(
            title=pl.when(pl.int_range(pl.len()) % 20 == night)
            .then(pl.lit(f"night {night} ") + pl.col("title"))
            .otherwise("title")
        )
        shop.write(items)
        assert shop.index(until=UNTIL + timedelta(days=night)).published
    other.write(items)
    other.index(until=UNTIL + timedelta(days=2))
    found, expected = shop.served(), other.served()
    np.testing.assert_array_equal(found.texts.vectors, expected.texts.vectors)
    for row in range(len(items)):
        for name in ("neighbours", "lexical"):
            one, two = (getattr(contents.texts, name).of(row) for contents in (found, expected))
            np.testing.assert_array_equal(one, two)


def test_the_horizon_does_not_go_back(shop: Shop) -> None:
    with pytest.raises(DataError, match="is before 2026-02-02"):
        shop.index(until=UNTIL - timedelta(days=1))
    shop.write(changed(shop.items))
    later = shop.index(until=UNTIL + timedelta(days=900))
    assert later.horizon == UNTIL + timedelta(days=900)
    assert shop.index(until=None).version == later.version


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_catalogue_half_or_twice_as_large_is_refused_unless_allowed(
    shop: Shop, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    items = shop.items[: int(len(shop.items) * share)]
    if share > 1:
        more = shop.items.with_columns(item_id=pl.format("{}-2", "item_id"))
        items = pl.concat([shop.items, more])
    shop.write(items)
    assert shop.command("--until", UNTIL.isoformat()) == 3
    error = capsys.readouterr().err
    assert f"{len(items)} items" in error
    assert "--allow-size-change" in error
    assert Registry(shop.registry).versions() == ["v000001"]
    assert shop.command("--until", UNTIL.isoformat(), "--json", "--allow-size-change") == 0
    output = capsys.readouterr()
    summary = json.loads(output.out)
    assert summary["published"]
    assert "in service" in summary["overridden"][0]
    assert "published although" in output.err


def test_too_few_items_are_refused() -> None:
    with pytest.raises(BundleError, match="3 items, expected at least 5"):
        check_size(4, 3, Sizes(min_items=5))
    assert check_size(100, 130, Sizes()) == ()
    with pytest.raises(BundleError, match=r"131 items, \+31%"):
        check_size(100, 131, Sizes())


def test_an_empty_catalogue_is_refused_unless_allowed_and_then_served_without_an_item(
    shop: Shop,
) -> None:
    before = Contents.load(shop.trained.bundle)
    shop.write(shop.items.clear())
    with pytest.raises(BundleError, match=r"has 0 items, expected at least 1.*allow-size-change"):
        shop.index()
    assert Registry(shop.registry).versions() == ["v000001"]
    summary = shop.index(sizes=Sizes(overridden=True))
    assert (summary.items, summary.deleted) == (0, len(shop.items))
    assert "0 items" in summary.overridden[0]
    recommender = open_recommender(shop.registry)
    with running(recommender) as (_, call):
        for asked in ({}, {"user_id": shop.trained.shoppers[0]}, {"query": "red mug"}):
            answer = call.recommend(30.0, page_size=200, explain=True, as_of=UNTIL, **asked)
            assert (answer.bundle_version, list(answer.items)) == (summary.version, [])
        ranked = call.stub.Rank(v1.RankRequest(item_ids=["a"], query="mug", as_of=UNTIL))
        assert [(item.item_id, item.tier) for item in ranked.items] == [
            ("a", v1.Tier.TIER_UNKNOWN_ITEM)
        ]
    shop.write(shop.items)
    with pytest.raises(BundleError, match="80 items, all new against the 0 in service"):
        shop.index()
    assert shop.index(sizes=Sizes(overridden=True)).added == len(shop.items)
    np.testing.assert_array_equal(shop.served().texts.vectors, before.texts.vectors)


def test_without_a_bundle_it_says_to_train_first(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        assert Shop(shop.trained, folder, shop.dataset).command() == 3
        assert "recsys train" in capsys.readouterr().err


def test_a_second_run_at_the_same_time_names_the_first(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    with indexer_lock(shop.registry):
        assert shop.command() == 3
    assert "process" in (error := capsys.readouterr().err)
    assert "has been indexing for" in error


def test_a_bundle_published_meanwhile_is_not_undone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(changed(shop.items))

    def publish_another(contents: Contents) -> float:
        other = Shop(shop.trained, shop.registry, shop.dataset)
        monkeypatch.setattr(job, "check_contents", check_contents)
        monkeypatch.setattr(job, "indexer_lock", suppress)
        assert other.index(until=LATER).version == "v000002"
        return check_contents(contents)

    monkeypatch.setattr(job, "check_contents", publish_another)
    with pytest.raises(RegistryBusyError, match="v000002 became current"):
        shop.index()
    assert Registry(shop.registry).current() == "v000002"


def test_a_run_that_was_killed_reads_on_where_it_stopped(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "ITEMS_PER_PART", 25)
    shop.write(changed(shop.items))
    uninterrupted = Shop(shop.trained, tmp_path / "other", shop.dataset)
    shutil.copytree(shop.registry, uninterrupted.registry)
    uninterrupted.index(rebuild=True)

    class Killed(Exception):  # noqa: N818
        pass

    reads: list[int] = []

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def read(self: Any, texts: list[str], *rest: Any) -> Any:
            if len(reads) == 2:
                reads.append(0)
                raise Killed
            reads.append(len(texts))
            return original(self, texts, *rest)

        return read

    reader = "recsys.recommender.item_reader.ItemReader.read"
    from recsys.recommender import ItemReader  # noqa: PLC0415

    monkeypatch.setattr(reader, counting(ItemReader.read))
    with pytest.raises(Killed):
        shop.index(rebuild=True)
    assert Registry(shop.registry).current() == "v000001"
    stale = shop.registry / "work" / "index-of-another-night"
    stale.mkdir()
    shop.index(rebuild=True)
    assert reads == [25, 25, 0, 25, 5]
    assert list((shop.registry / "work").iterdir()) == []
    bundles, others = Registry(shop.registry), Registry(uninterrupted.registry)
    assert bundles.current() == others.current() == "v000002"
    assert bundles.verify("v000002") == others.verify("v000002")
    found, expected = shop.served().texts, uninterrupted.served().texts
    assert found.index.item_ids == expected.index.item_ids
    np.testing.assert_array_equal(found.vectors, expected.vectors)


def test_an_index_that_finds_little_is_refused(
    trained_shop: TrainedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.index_checks.DEPTH", 5)
    contents = Contents.load(trained_shop.bundle)
    assert check_contents(contents) == 1.0
    others = unit_rows(np.random.default_rng(1), *contents.texts.vectors.shape)
    texts = replace(contents.texts, vectors=others)
    with pytest.raises(ModelError, match=r"expected 95%"):
        check_contents(replace(contents, texts=texts))


def test_an_item_whose_vector_is_no_number_is_named(trained_shop: TrainedShop) -> None:
    contents = Contents.load(trained_shop.bundle)
    vectors = contents.texts.vectors.copy()
    vectors[4] = np.nan
    texts = replace(contents.texts, vectors=vectors)
    with pytest.raises(ModelError, match=contents.catalogue.item_ids[4]):
        check_contents(replace(contents, texts=texts))


def test_what_was_written_answers_its_golden_queries(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(changed(shop.items))
    summary = shop.index(until=LATER)
    golden = load_golden(Registry(shop.registry).folder(summary.version))
    assert len(golden) > 10
    assert any(query.item_ids for query in golden)

    def with_others(contents: Contents, horizon: datetime, folder: Path) -> None:
        save_golden(contents, horizon, folder)
        wrong = [
            query.model_copy(update={"scores": tuple(score + 9 for score in query.scores)})
            for query in load_golden(folder)
        ]
        (folder / GOLDEN).write_text("".join(f"{one.model_dump_json()}\n" for one in wrong))

    monkeypatch.setattr(job, "save_golden", with_others)
    with pytest.raises(BundleCorruptError, match="golden queries"):
        shop.index(until=LATER + timedelta(days=1))
    assert Registry(shop.registry).current() == summary.version


def test_the_result_is_a_table_or_one_json_object(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.write(changed(shop.items))
    assert shop.command("--until", LATER.isoformat(), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["version"] == "v000002"
    assert summary["published"] is True
    assert summary["horizon"] == LATER.isoformat().replace("+00:00", "Z")
    assert shop.command("--until", LATER.isoformat()) == 0
    assert "nothing had changed" in capsys.readouterr().out
