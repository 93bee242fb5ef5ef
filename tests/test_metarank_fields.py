"""What becomes of the fields of Metarank's items and users."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from metarank_files import NOON, imported, interaction, item, user, write_events
from movielens_files import items_of

from recsys.errors import ConfigurationError
from training.import_metarank import MetarankOptions


def test_fields_become_columns_as_told_and_the_rest_is_counted(tmp_path: Path) -> None:
    events = [
        item("a", Headline="Hat", title="SKU 1", color=["red", "blue"], size="M", tags="warm"),
        item("b", title=["Two", "parts"], price="free", in_stock="no", tags=[1, 2], category="x"),
        item("c", title="", name=1984, price="12.5", available=True, brand=2.0, color=[]),
        interaction("i", "nowhere", user="u"),
    ]
    source = write_events(tmp_path / "events.jsonl", events)
    told = MetarankOptions(
        fields=("title=headline", "tags=Color", "tags=size", "none=category", "none=SKU")
    )
    summary = imported(source, tmp_path / "out", told)
    a, b, c = items_of(tmp_path / "out").values()
    assert (a["title"], a["tags"]) == ("Hat", ["red", "blue", "M", "warm"])
    assert (b["title"], b["price"], b["available"], b["tags"]) == ("Two, parts", None, True, None)
    assert (c["title"], c["price"], c["available"], c["brand"]) == ("1984", 12.5, True, "2")
    assert "category" not in a
    assert summary.remarks == {
        "events on items that are not described: training leaves them out": 1,
        "item field category: not used": 1,
        "item field in_stock: not usable as available": 1,
        "item field price: not usable as price": 1,
        "item field tags: not usable as tags": 1,
        "item field title: not used": 1,
        "items with the field sku of --field": 0,
    }
    for text in ("headline", "titel=headline", "title="):
        with pytest.raises(ConfigurationError, match="expected COLUMN=FIELD, with one of title"):
            imported(source, tmp_path / "out2", MetarankOptions(fields=(text,)))


def test_an_item_without_a_title_is_called_by_its_id(tmp_path: Path) -> None:
    events = [item("a", color="red"), interaction("i", "a", user="u")]
    summary = imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    assert items_of(tmp_path / "out")["a"]["title"] == "a"
    assert summary.remarks["items without a title: the id stands for it"] == 1


def test_users_have_a_column_for_each_field_of_the_type_its_values_have(tmp_path: Path) -> None:
    users = [
        user("b", NOON, age=3, mail=True, likes=["a"], height=1, odd="x", big=2**70, empty=[]),
        user("a", NOON, age=4, height=1.5, odd=1, user_id="c"),
        user("a", NOON - 1, age=9, likes=[]),
    ]
    events = [item("a"), interaction("i", "a", user="u"), *users]
    summary = imported(write_events(tmp_path / "events.jsonl", events), tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "users.parquet")
    assert table.schema["age"] == pl.Int64
    assert table.schema["mail"] == pl.Boolean
    assert table.schema["likes"] == pl.List(pl.String)
    assert {name: values for name, *values in zip(table.columns, *table.rows(), strict=True)} == {
        "user_id": ["a", "b"],
        "age": [4, 3],
        "big": [None, 2.0**70],
        "empty": [None, "[]"],
        "height": [1.5, 1.0],
        "likes": [[], ["a"]],
        "mail": [None, True],
        "odd": ["1", '"x"'],
    }
    assert summary.remarks["user field user_id: not used"] == 1
