"""A bundle's contents follow a changed catalogue, and are what they would be from nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from trained_shop import UNTIL, TrainedShop

from recsys.errors import ModelError
from recsys.interactions import InteractionLog
from recsys.page import MerchandisingRules
from recsys.recommender import (
    CatalogueChange,
    CatalogueUpdate,
    Contents,
    Recommender,
    RecommendRequest,
    SimilarItemsRequest,
    require_unit,
)

Change = Callable[[pl.DataFrame, np.random.Generator], pl.DataFrame]


@pytest.fixture(scope="module")
def contents(trained_shop: TrainedShop) -> Contents:
    return Contents.load(trained_shop.bundle)


def added(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    new = items.sample(4, seed=int(rng.integers(99))).with_columns(
        item_id=pl.format(f"{{}}-new-{rng.integers(10**9)}", "item_id"),
        title=pl.lit("Golden oak lamp for the ") + pl.col("brand"),
    )
    return pl.concat([new, items])


def retitled(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    chosen = pl.Series(rng.random(items.height) < 0.1)
    return items.with_columns(
        title=pl.when(chosen).then(pl.lit("silver tea tray ") + pl.col("title")).otherwise("title")
    )


def deleted(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    return items.sample(items.height - 5, seed=int(rng.integers(99)))


def repriced(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    return items.with_columns(
        price=pl.Series(rng.uniform(1, 9, items.height)),
        available=pl.Series(rng.random(items.height) < 0.9),
    )


def everything(items: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    for change in (retitled, deleted, added, repriced):
        items = change(items, rng)
    return items


def log_over(items: pl.DataFrame, shop: TrainedShop, days: int) -> InteractionLog:
    until = UNTIL + timedelta(days=days)
    events = shop.tables.events.filter(pl.col("event_time") < until)
    return InteractionLog.build(items["item_id"], events.lazy())


def change_to(items: pl.DataFrame, shop: TrainedShop, days: int = 0) -> CatalogueChange:
    return CatalogueChange.to(items, log_over(items, shop, days), MerchandisingRules.none())


def from_nothing(contents: Contents, change: CatalogueChange) -> Contents:
    """Every text is read again, every list looked up again."""
    update = CatalogueUpdate(contents, change, anew=True)
    assert update.counts.read == len(change.catalogue.item_ids)
    return update.apply()


def arrays_of(contents: Contents) -> dict[str, NDArray[np.generic]]:
    """What is served, by name."""
    texts, log = contents.texts, contents.log
    arrays: dict[str, NDArray[np.generic]] = {
        "vectors": texts.vectors,
        "untuned": texts.untuned_vectors,
        "state offsets": texts.scorer.states.offsets.numpy(),
        "states": texts.scorer.states.together().numpy(),
        "log.item": log.item,
        "log.time": log.time,
        "impressions.item": log.impressions.item,
        "impressions.clicked": log.impressions.clicked,
    }
    for name in ("bm25", "cosine", "basket", "ease", "next_items"):
        table = getattr(contents.co_occurrence, name)
        arrays |= {f"{name}.{part}": getattr(table, part) for part in ("indptr", "indices")}
    for name, taste in texts.tastes.items():
        arrays |= {f"{name}.items": taste.space.items, f"{name}.queries": taste.space.queries}
    for name, table in (("neighbours", texts.neighbours), ("lexical", texts.lexical)):
        arrays[f"{name} lengths"] = table.lengths
        lists = [table.of(item) for item in range(table.items)]
        arrays[name] = np.concatenate([found for found, _ in lists])
        arrays[f"{name} weights"] = np.concatenate([weight for _, weight in lists])
    return arrays


def assert_same(found: Contents, expected: Contents) -> None:
    ours, theirs = arrays_of(found), arrays_of(expected)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert found.catalogue.table.equals(expected.catalogue.table)
    assert found.texts.index.item_ids == expected.texts.index.item_ids
    found.check()


@pytest.mark.parametrize(
    ("change", "days"),
    [(added, 0), (retitled, 0), (deleted, 0), (repriced, 0), (everything, 0), (everything, 5)],
)
def test_step_by_step_it_becomes_what_it_is_from_nothing(
    trained_shop: TrainedShop, contents: Contents, change: Change, days: int
) -> None:
    rng = np.random.default_rng(days)
    items, updated = trained_shop.tables.items, contents
    for _ in range(3):
        items = change(items, rng)
        step = change_to(items, trained_shop, days)
        updated = CatalogueUpdate(updated, step).apply()
        assert_same(updated, from_nothing(contents, step))


def test_from_nothing_the_trained_catalogue_is_what_was_trained(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    change = change_to(trained_shop.tables.items, trained_shop)
    assert_same(from_nothing(contents, change), contents)


def test_without_a_change_nothing_is_read_and_texts_stay(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    update = CatalogueUpdate(contents, change_to(trained_shop.tables.items, trained_shop))
    assert update.counts.read == 0
    assert update.apply().texts is contents.texts


def test_only_new_texts_are_read(trained_shop: TrainedShop, contents: Contents) -> None:
    items = everything(trained_shop.tables.items, np.random.default_rng(3))
    update = CatalogueUpdate(contents, change_to(items, trained_shop))
    seen: list[int] = []
    update.apply(advance=seen.append)
    counts = update.counts
    assert 0 < counts.read < len(items) / 2
    tuned = contents.texts.untuned_vectors is not contents.texts.vectors
    assert sum(seen) == counts.read * (3 if tuned else 2)
    assert counts.items == len(items)
    assert counts.deleted == 5


def test_items_put_in_and_taken_out_are_served_at_once(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    items = trained_shop.tables.items
    gone, cheap = items["item_id"][10], items["item_id"][11]
    new = items[[11, 12]].with_columns(
        item_id=pl.Series([cheap, "brand-new"]), price=pl.Series([0.5, 2.0])
    )
    change = CatalogueChange.upserting(contents.catalogue, new, [gone, "never there"])
    assert set(change.texts) == {cheap, "brand-new"}
    update = CatalogueUpdate(contents, change)
    assert (update.counts.added, update.counts.changed, update.counts.deleted) == (1, 0, 1)
    updated = update.apply()
    recommender = Recommender(updated, "v000001", UNTIL)
    similar = recommender.similar_items(SimilarItemsRequest("brand-new", page_size=79))
    near = {item.item_id for item in similar.items}
    assert items["item_id"][12] in near
    assert gone not in near
    card = recommender.card(cheap)
    assert card is not None
    assert card.price == 0.5
    assert recommender.card(gone) is None
    shopper = trained_shop.shoppers[0]
    answer = recommender.recommend(RecommendRequest(user_id=shopper, page_size=79, as_of=UNTIL))
    assert gone not in {item.item_id for item in answer.items}


def test_without_a_new_log_the_old_one_follows_the_items(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    items = deleted(trained_shop.tables.items, np.random.default_rng(1))
    updated = CatalogueUpdate(contents, CatalogueChange.to(items)).apply()
    names = [updated.log.item_ids[row] for row in updated.log.item]
    left = set(items["item_id"])
    old = [contents.log.item_ids[row] for row in contents.log.item]
    assert names == [name for name in old if name in left]
    shown = [contents.log.item_ids[row] for row in contents.log.impressions.item]
    moved = [updated.log.item_ids[row] for row in updated.log.impressions.item]
    assert moved == [name for name in shown if name in left]
    before = [shown[row] for row in contents.log.impressions.clicked if shown[row] in left]
    assert [moved[row] for row in updated.log.impressions.clicked] == before


@pytest.mark.parametrize("encoder", ["bi-encoder", "cross-encoder"])
def test_what_is_no_number_names_its_item(
    trained_shop: TrainedShop, contents: Contents, encoder: str
) -> None:
    items = trained_shop.tables.items
    item = items["item_id"].sort()[7]
    broken = items.with_columns(
        title=pl.when(pl.col("item_id") == item).then(pl.lit("vintage")).otherwise("title")
    )
    texts = contents.texts
    bert = texts.bi_encoder.bert if encoder == "bi-encoder" else texts.scorer.model.bert
    update = CatalogueUpdate(contents, change_to(broken, trained_shop))
    assert update.counts.read == 1
    token = texts.bi_encoder.tokenizer.convert_tokens_to_ids("vintage")
    weights = bert.embeddings.word_embeddings.weight.data
    kept = weights[token].clone()
    weights[token] = float("nan")
    try:
        with pytest.raises(ModelError, match=f"item '{item}'.*{encoder}"):
            update.apply()
    finally:
        weights[token] = kept


def test_a_vector_of_another_length_than_one_names_its_item() -> None:
    vectors = np.eye(3, 5, dtype=np.float32)
    require_unit(vectors, ["a", "b", "c"], "a test")
    vectors[1] *= 1.1
    with pytest.raises(ModelError, match=r"item 'b' \(1 in all\): a test .* length 1\.1"):
        require_unit(vectors, ["a", "b", "c"], "a test")


def test_a_new_item_without_its_text_is_refused(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    items = added(trained_shop.tables.items, np.random.default_rng(1))
    change = replace(CatalogueChange.to(items), texts={})
    with pytest.raises(ModelError, match=r"-new-\d+' \(4 in all\).*recsys index"):
        CatalogueUpdate(contents, change).apply()


def test_an_emptied_catalogue_takes_its_items_back(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    items = trained_shop.tables.items
    back = change_to(items, trained_shop)
    expected = from_nothing(contents, back)
    nothing = items.clear()
    for change in (change_to(nothing, trained_shop), CatalogueChange.to(nothing)):
        emptied = CatalogueUpdate(contents, change).apply()
        assert emptied.catalogue.item_ids == emptied.texts.index.item_ids == ()
        assert_same(CatalogueUpdate(emptied, back).apply(), expected)


def test_a_bundle_that_kept_nothing_for_updates_says_so(
    trained_shop: TrainedShop, contents: Contents
) -> None:
    old = replace(contents, texts=replace(contents.texts, upkeep=None))
    items = added(trained_shop.tables.items, np.random.default_rng(1))
    with pytest.raises(ModelError, match="recsys train"):
        CatalogueUpdate(old, change_to(items, trained_shop)).apply()


def test_updated_contents_are_saved_and_read_back(
    trained_shop: TrainedShop, contents: Contents, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    items = everything(trained_shop.tables.items, rng)
    updated = CatalogueUpdate(contents, change_to(items, trained_shop, 5)).apply()
    updated.save(tmp_path)
    again = Contents.load(tmp_path)
    assert_same(again, updated)
    further = change_to(everything(items, rng), trained_shop, 6)
    assert_same(CatalogueUpdate(again, further).apply(), from_nothing(contents, further))


def test_a_loaded_bundle_holds_one_list_of_ids(contents: Contents) -> None:
    ids = contents.catalogue.item_ids
    assert contents.log.item_ids is ids
    assert contents.texts.index.item_ids is ids
