"""Cleaning and rendering: what a model reads of a raw text, an item and a shopper."""

from __future__ import annotations

import unicodedata

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys.interactions import EventKind, Histories, ItemLists
from recsys.text import (
    ShopperTextKind,
    ShopperTexts,
    clean,
    render_item,
    render_items,
    render_shoppers,
)
from recsys.text.clean import MAX_RAW_CHARACTERS, _without_long_mark_runs

ITEMS = 10
Event = tuple[int, EventKind]

texts = st.lists(
    st.one_of(
        st.text(max_size=4),
        st.sampled_from(
            ["<b>", "</b>", "<scr", "ipt>", "&lt;", "&gt;", "&amp;", "&aMp;", "amp;", "<script>"]
        ),
        st.sampled_from(["İ", "\u0301", "\u0323", "e", "É", "\x00", "\ud800", "\u200d", " ", "ß"]),
    ),
    max_size=20,
).map("".join)


def histories(*requests: list[Event]) -> Histories:
    events = [event for request in requests for event in request]
    count = len(events)
    return Histories(
        offsets=np.cumsum([0, *map(len, requests)]).astype(np.int64),
        item=np.array([item for item, _ in events], np.int32),
        time=np.arange(count, dtype=np.int64),
        kind=np.array([kind for _, kind in events], np.uint8),
        price=np.full(count, np.nan, np.float32),
        quantity=np.ones(count, np.int32),
        basket=np.zeros(count, np.int32),
    )


def shoppers(
    past: Histories,
    contexts: list[list[int]] | None = None,
    queries: list[str] | None = None,
    max_segments: int = 4,
) -> ShopperTexts:
    return render_shoppers(
        past,
        ItemLists.of(contexts or [[] for _ in range(past.count)]),
        queries or [""] * past.count,
        item_count=ITEMS,
        max_segments=max_segments,
    )


def segments(of: ShopperTexts) -> list[list[int]]:
    return [rows.tolist() for rows in np.split(of.segments, of.offsets[1:-1])]


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        (None, ""),
        ("", ""),
        ("  \t\n ", ""),
        ("Red MUG", "red mug"),
        ("  red \n\t mug ", "red mug"),
        ("<p>Red<br/>mug</p>", "red mug"),
        ("<a href='x?a=1'>mug</a>", "mug"),
        ("mug<script>alert('<b>')</script> red", "mug red"),
        ("mug <style>p {}</style  >red", "mug red"),
        ("mug<script>never closed", "mug"),
        ("<!-- note -->mug", "mug"),
        ("salt &amp; pepper", "salt & pepper"),
        ("caf&eacute; &#233; &nbsp; x", "café é x"),
        ("&lt;b&gt;mug&lt;/b&gt;", "mug"),
        ("&amp;lt;b&amp;gt;mug", "mug"),
        ("3 < 5 > 2", "3 < 5 > 2"),
        ("i <3 mugs", "i <3 mugs"),
        ("red\x00mug\x07", "red mug"),
        ("red\ud800mug\udfff", "red mug"),
        ("\u202ered\u200f mug\u200e", "red mug"),
        ("mug \U0001f600", "mug \U0001f600"),
        ("\U0001f469\u200d\U0001f373 mug", "\U0001f469 \U0001f373 mug"),
        ("STRASSE Straße", "strasse straße"),
        ("日本　茶碗", "日本 茶碗"),
    ],
)
def test_raw_text_becomes_one_plain_line(raw: str | None, cleaned: str) -> None:
    assert clean(raw) == cleaned


@given(texts)
@settings(max_examples=150, deadline=None)
@example("İ" + "\u0301" * 4)
@example("<scr<b>ipt>")
@example("&amp;" + "amp;" * 50)
def test_a_clean_text_is_plain_and_stays_as_it_is(raw: str) -> None:
    once = clean(raw)
    assert clean(once) == once
    assert once == " ".join(once.lower().split())
    assert unicodedata.is_normalized("NFC", once)
    assert not {unicodedata.category(c) for c in once} & {"Cc", "Cf", "Cs", "Co", "Cn"}


@given(texts)
@settings(max_examples=100, deadline=None)
@example("Crème brûlée")
@example("Å\u0323 İstanbul 가")
def test_spelling_in_another_normal_form_or_case_is_the_same_text(raw: str) -> None:
    assert clean(unicodedata.normalize("NFD", raw)) == clean(unicodedata.normalize("NFC", raw))
    if raw.isascii() and "&" not in raw:
        assert clean(raw.upper()) == clean(raw)


def test_stacked_marks_are_cut_to_four() -> None:
    assert clean("a" + "\u0301" * 10_000) == "á" + "\u0301" * 4
    assert clean("x\u0301\u0301\u0301\u0301 y") == "x\u0301\u0301\u0301\u0301 y"


@pytest.mark.parametrize(
    "raw",
    [
        "Ä<b>" * 2_500_000,
        "<a" * 10_000,
        "<script>" + "</script " * 2_500,
        "&" + "amp;" * 5_000,
    ],
    ids=["ten megabytes", "tags", "scripts", "entities"],
)
def test_no_text_comes_out_long(raw: str) -> None:
    assert len(clean(raw)) <= MAX_RAW_CHARACTERS


@pytest.mark.parametrize("marks", ["\u0323\u0301", "\u0f73\u0f81"], ids=["latin", "tibetan"])
def test_long_runs_of_marks_never_reach_the_normaliser(marks: str) -> None:
    """Its time is quadratic in a run: 0.6 s for the longest text that is read, 0.01 s when cut."""
    assert _without_long_mark_runs("a" + marks * 5_000 + "b") == "a" + marks * 15 + "b"
    assert len(clean("a" + marks * 10_000)) < 200


def test_an_item_reads_title_brand_tags_category_description() -> None:
    text = render_item(
        "Red MUG",
        brand="Acme",
        tags=["Gift", "<b>", "Tea"],
        category=["Home", "", "Kitchen"],
        description="<p>Holds tea.</p>",
    )
    assert text == "red mug. acme. gift, tea. home kitchen. holds tea."


def test_parts_without_words_are_left_out() -> None:
    assert render_item("Mug", brand=" ", tags=["\x00"], description=None) == "mug"
    assert render_item(None, description="only this") == "only this"
    assert render_item("<br>", brand="") == ""


def test_items_are_rendered_in_table_order_with_absent_columns_empty() -> None:
    full = pl.DataFrame(
        {
            "item_id": ["b", "a", "c"],
            "price": [1.0, 2.0, None],
            "description": ["Big", None, ""],
            "tags": [["x", "y"], None, []],
            "title": ["Mug", "Cup", ""],
            "brand": [None, "Acme", None],
            "category": [["Home"], [], None],
        }
    )
    assert render_items(full) == ["mug. x, y. home. big", "cup. acme", ""]
    assert render_items(full.select("item_id", "title")) == ["mug", "cup", ""]
    assert render_items(full.head(0)) == []


def test_a_query_comes_before_context_and_context_before_history() -> None:
    past = histories(*[[(1, EventKind.CLICK)]] * 3, [])
    found = shoppers(past, [[5], [5], [], []], ["Red Mug", "", "<br>", ""])
    assert segments(found) == [[ITEMS], [5], [1], []]
    assert found.kind.tolist() == [
        ShopperTextKind.QUERY,
        ShopperTextKind.CONTEXT,
        ShopperTextKind.HISTORY,
        ShopperTextKind.NOTHING,
    ]
    assert found.queries == ("red mug",)
    assert found.count == 4


def test_history_is_distinct_and_latest_first_without_hidden_items() -> None:
    view, buy, hide = EventKind.VIEW, EventKind.PURCHASE, EventKind.HIDE
    past = histories(
        [(1, view), (2, buy), (3, hide), (1, buy), (4, view), (2, hide)], [(7, hide)], [(0, hide)]
    )
    found = shoppers(past)
    assert segments(found) == [[4, 1, 2], [], []]
    assert found.kind.tolist()[1:] == [ShopperTextKind.NOTHING] * 2


def test_context_keeps_its_order_and_loses_repeats() -> None:
    assert segments(shoppers(Histories.empty(1), [[6, 2, 6, 9, 2]])) == [[6, 2, 9]]


def test_segments_are_cut_from_the_front_of_the_list() -> None:
    past = histories([(item, EventKind.CLICK) for item in range(9)])
    assert segments(shoppers(past, max_segments=3)) == [[8, 7, 6]]
    assert segments(shoppers(past, [[1, 2, 3, 4]], max_segments=3)) == [[1, 2, 3]]


def test_equal_queries_share_a_row() -> None:
    found = shoppers(Histories.empty(4), queries=["Mug", "cup", " MUG ", "<b>cup</b>"])
    assert segments(found) == [[ITEMS], [ITEMS + 1], [ITEMS], [ITEMS + 1]]
    assert found.queries == ("mug", "cup")


def test_no_requests_have_no_segments() -> None:
    found = shoppers(Histories.empty(0))
    assert (found.count, found.offsets.tolist(), len(found.segments)) == (0, [0], 0)
