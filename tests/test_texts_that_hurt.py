"""Catalogue text that hurts: what is rejected says why, what is taken is read, kept and served."""

from __future__ import annotations

import math
import unicodedata
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pytest
from rich.progress import Progress
from trained_shop import UNTIL, TrainedShop

from recsys.errors import FileFormatError
from recsys.recommender import (
    CatalogueChange,
    CatalogueUpdate,
    Contents,
    RankRequest,
    Recommender,
    RecommendRequest,
    Tier,
)
from recsys.tables import Dataset, write_dataset
from training.validate_dataset import TableReport, validate_dataset

Columns = dict[str, object]
ACCENTED: Final = "Cr\u00e8me br\u00fbl\u00e9e bowl, caf\u00e9 gift"
TAKEN: Final[dict[str, Columns]] = {
    "ten megabytes described": {"title": "Oak lamp", "description": "candle " * 1_500_000},
    "ten megabytes of title": {"title": "candle " * 1_500_000},
    "emoji": {"title": "👩‍👩‍👧 \U0001f600 mug"},
    "emoji alone": {"title": "\U0001f600"},
    "right to left": {"title": "\u202e\u05db\u05d5\u05e1 \u0627\u0643\u0648\u0628"},
    "nul": {"title": "\0red\0mug\0", "description": "\0", "brand": "\0", "tags": ["\0"]},
    "control": {"title": "\x07bell\x1b[31m mug\r\n\u2028"},
    "marks": {"title": "Z" + "\u0301" * 10_000},
    "marks alone": {"title": "\u0301" * 10_000},
    "unseen": {"title": "\u200b\u200d\ufeff"},
    "markup": {"title": "<script>alert('x')</script>", "description": "<" * 50_000},
    "composed": {"title": unicodedata.normalize("NFC", ACCENTED)},
    "decomposed": {"title": unicodedata.normalize("NFD", ACCENTED)},
    "free": {"title": "Free mug", "price": 0.0},
    "dear": {"title": "Dear mug", "price": 1e300},
    "one\nline\t\"quoted\" 'id' %s {} \0": {"title": "Tea tray"},
    "many labels": {"title": "Tea tray", "tags": ["tag"] * 5_000, "category": ["a"] * 500},
}
"""By id; all of them keep the contract's rules."""

REJECTED: Final[dict[str, tuple[Columns, str]]] = {
    "no title": ({"title": None}, "title: missing"),
    "empty title": ({"title": ""}, "title: not blank"),
    "blank title": ({"title": " \t\n\u3000"}, "title: not blank"),
    "NaN": ({"title": "t", "price": math.nan}, "price: finite, >= 0"),
    "infinite": ({"title": "t", "price": math.inf}, "price: finite, >= 0"),
    "negative": ({"title": "t", "price": -0.01}, "price: finite, >= 0"),
    "emoji": ({"title": "again"}, "item_id: unique"),
    " ": ({"title": "no id"}, "item_id: not blank"),
}
SCHEMA: Final = {
    "item_id": pl.String(),
    "title": pl.String(),
    "description": pl.String(),
    "category": pl.List(pl.String()),
    "tags": pl.List(pl.String()),
    "brand": pl.String(),
    "price": pl.Float64(),
}


def hurting() -> pl.DataFrame:
    rejected = {item_id: columns for item_id, (columns, _) in REJECTED.items()}
    rows = [
        {"item_id": item_id, **columns}
        for items in (TAKEN, rejected)
        for item_id, columns in items.items()
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


@pytest.fixture(scope="module")
def dataset(trained_shop: TrainedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shop's dataset with the items that hurt in a part of their own."""
    folder = tmp_path_factory.mktemp("hurting") / "shop"
    write_dataset(folder, trained_shop.tables.items, trained_shop.tables.past)
    (folder / "items.parquet").rename(folder / "items-1.parquet")
    hurting().write_parquet(folder / "items-2.parquet")
    return folder


@pytest.fixture(scope="module")
def report(dataset: Path) -> TableReport:
    with Progress(disable=True) as progress:
        return validate_dataset(dataset, progress).tables["items"]


@pytest.fixture(scope="module")
def contents(
    trained_shop: TrainedShop, dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> Contents:
    """A bundle of the whole catalogue, written and read back."""
    change = CatalogueChange.to(Dataset(dataset).items())
    updated = CatalogueUpdate(Contents.load(trained_shop.bundle), change).apply()
    folder = tmp_path_factory.mktemp("bundle")
    updated.save(folder)
    return Contents.load(folder)


@pytest.fixture(scope="module")
def recommender(contents: Contents) -> Recommender:
    return Recommender(contents, "v000009", UNTIL)


def test_every_rejected_row_says_which_rule_it_breaks(report: TableReport) -> None:
    assert report.rejects is not None
    found = pl.read_parquet(report.rejects)
    assert found.height == report.rejected == len(REJECTED)
    reasons = dict(zip(found["item_id"], found["reason"], strict=True))
    assert reasons == {item_id: reason for item_id, (_, reason) in REJECTED.items()}


def test_what_keeps_the_rules_is_in_the_catalogue_unchanged(dataset: Path) -> None:
    items = Dataset(dataset).items().filter(pl.col("item_id").is_in(list(TAKEN)))
    assert set(items["item_id"]) == set(TAKEN)
    for row in items.iter_rows(named=True):
        for name, value in TAKEN[row["item_id"]].items():
            assert row[name] == value


@pytest.mark.parametrize("item_id", TAKEN)
def test_what_is_taken_is_ranked_shown_and_compared(recommender: Recommender, item_id: str) -> None:
    (item,) = recommender.rank(RankRequest((item_id,), explain=True)).items
    assert item.tier == Tier.RANKER
    assert math.isfinite(item.score)
    assert item.cross_encoder_score is not None
    assert 0 <= item.cross_encoder_score <= 1
    card = recommender.card(item_id)
    assert card is not None
    assert card.title == str(TAKEN[item_id]["title"])[:1_000]
    vector = recommender._contents.texts.vectors[recommender._log.item_rows[item_id]]
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("item_id", ["emoji alone", "marks alone", "unseen"])
def test_items_without_a_readable_text_are_ranked_by_all_else(
    recommender: Recommender, trained_shop: TrainedShop, item_id: str
) -> None:
    others = ("free", "emoji alone", "marks alone", "unseen", *trained_shop.tables.items["item_id"])
    for user in ("", trained_shop.shoppers[0]):
        request = RankRequest(others, user_id=user, context_item_ids=(item_id,), explain=True)
        scores = {item.item_id: item.score for item in recommender.rank(request).items}
        assert all(map(math.isfinite, scores.values()))
        assert len(set(scores.values())) > len(scores) / 4


def test_other_normal_forms_of_a_text_get_the_same_score(recommender: Recommender) -> None:
    answer = recommender.rank(RankRequest(("composed", "decomposed"), query="a creme bowl"))
    first, second = answer.items
    assert first.cross_encoder_score == second.cross_encoder_score
    vectors = recommender._contents.texts.vectors
    rows = [recommender._log.item_rows[one] for one in ("composed", "decomposed")]
    assert np.array_equal(vectors[rows[0]], vectors[rows[1]])


def test_a_list_with_all_of_them_is_sorted_and_finite(recommender: Recommender) -> None:
    answer = recommender.recommend(RecommendRequest(page_size=200))
    scores = [item.score for item in answer.items]
    assert len(answer.items) > len(TAKEN)
    assert all(map(math.isfinite, scores))
    assert scores == sorted(scores, reverse=True)


def test_a_file_with_text_that_is_no_utf_8_is_refused_and_named(tmp_path: Path) -> None:
    path, text = tmp_path / "items.parquet", "a title that is long enough"
    pl.DataFrame({"item_id": ["i1"], "title": [text]}).write_parquet(
        path, compression="uncompressed"
    )
    half = b"\xed\xa0\x80".ljust(len(text), b"x")
    path.write_bytes(path.read_bytes().replace(text.encode(), half))
    with pytest.raises(FileFormatError, match="damaged"):
        Dataset(tmp_path).items()
