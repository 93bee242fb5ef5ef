"""The simulated shop's tables and logging policy, and how it is rebuilt from its dataset."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from simulated_shop import (
    CONFIG,
    SEED,
    START,
    Simulated,
    at_day,
    days_since_start,
    simulated_shop,
)

from recsys.errors import DataError, FileFormatError
from recsys.simulation import ORACLE_FILE, PolicyConfig, SimulatedShop, SimulationConfig
from recsys.simulation.policy import draw_lists
from recsys.simulation.product_types import PRODUCT_TYPES
from recsys.simulation.vocabulary import FACETS
from recsys.tables import Dataset, write_dataset


@pytest.fixture(name="simulated")
def _simulated() -> Simulated:
    return simulated_shop()


# --- the tables


def test_tables_keep_the_contract(simulated: Simulated, tmp_path: Path) -> None:
    users = simulated.shop.users()
    write_dataset(tmp_path / "shop", simulated.items, simulated.events, users)
    dataset = Dataset(tmp_path / "shop")
    heights = [table.scan().collect().height for table in dataset.tables()]
    assert heights == [simulated.items.height, simulated.events.height, users.height]
    assert simulated.events["event_id"].is_unique().all()
    assert simulated.events["event_time"].is_sorted()


def test_same_seed_gives_equal_events_and_another_seed_does_not(simulated: Simulated) -> None:
    again = SimulatedShop(CONFIG, SEED)
    assert again.items().equals(simulated.items)
    assert pl.concat(list(again.days())).equals(simulated.events)
    other = SimulatedShop(CONFIG, SEED + 1)
    assert not other.items().equals(simulated.items)
    assert not next(other.days()).equals(next(again.days()))


def test_every_kind_of_event_happens(simulated: Simulated) -> None:
    counts = dict(simulated.events["event_type"].value_counts().iter_rows())
    assert set(counts) == {
        *("impression", "view", "click", "add_to_cart", "share", "review", "purchase", "hide")
    }
    assert counts["impression"] > counts["click"] > counts["add_to_cart"] > counts["purchase"]
    assert simulated.of_type("review")["text"].str.len_chars().min() > 20  # type: ignore[operator]
    assert simulated.of_type("purchase").select("price", "quantity").null_count().row(0) == (0, 0)


def test_nothing_is_shown_before_it_arrives_and_something_arrives_every_week(
    simulated: Simulated,
) -> None:
    shown = simulated.events.join(simulated.items.select("item_id", "created_at"), on="item_id")
    assert shown.filter(pl.col("event_time") < pl.col("created_at")).is_empty()
    arrivals = simulated.items.filter(pl.col("created_at") >= START)
    weeks = arrivals.select(week=days_since_start("created_at") // 7)["week"].value_counts()
    assert sorted(weeks["week"]) == list(range(CONFIG.days // 7))
    assert weeks["count"].min() == arrivals.height // len(weeks)


def test_texts_say_every_attribute_in_one_of_its_words(simulated: Simulated) -> None:
    catalogue = simulated.shop._behaviour.catalogue
    for row, item in enumerate(simulated.items.iter_rows(named=True)):
        kind = PRODUCT_TYPES[catalogue.kind[row]]
        assert any(name in item["title"] for name in kind.names)
        assert item["category"] == [kind.department, kind.names[0]]
        said = item["description"].lower()
        for facet, value in zip(FACETS.values(), catalogue.values[row], strict=True):
            assert any(word.lower() in said for word in facet[value].words)


# --- the logging policy


def test_pages_show_only_their_shelf(simulated: Simulated) -> None:
    page = pl.col("attribution_token").str.split("-").list.first()
    shown = simulated.of_type("impression").with_columns(page=page)
    shown = shown.join(simulated.items, on="item_id")
    on_departments = shown.filter(~pl.col("page").is_in(["home", "arrivals", "search"]))
    department = pl.col("category").list.first().str.to_lowercase()
    assert on_departments.select((pl.col("page") == department).all()).item()
    arrivals = shown.filter(pl.col("page") == "arrivals")
    age = arrivals.select((pl.col("event_time") - pl.col("created_at")).max()).item()
    assert age < timedelta(days=PolicyConfig().arrival_days + 1)
    searches = shown.filter(pl.col("page") == "search")
    names = {name.lower(): kind.names[0] for kind in PRODUCT_TYPES for name in kind.names}
    for query, category in searches.select("query", "category").unique("query").iter_rows():
        assert any(query.endswith(n) and kind == category[1] for n, kind in names.items())
    assert shown.filter(pl.col("page") != "search")["query"].is_null().all()


def test_propensities_equal_a_recomputation_from_the_log(simulated: Simulated) -> None:
    policy, day = PolicyConfig(), 20
    clicks = simulated.of_type("click").filter(days_since_start("event_time") < day)
    recent = dict.fromkeys(simulated.items["item_id"], 0.0)
    for item_id, age in clicks.select("item_id", day - 1 - days_since_start("event_time")).rows():
        recent[item_id] += np.exp(-age / policy.popularity_days)
    there = simulated.items.filter(pl.col("created_at") < at_day(day + 1))
    ages = [(at_day(day).date() - created.date()).days for created in there["created_at"].to_list()]
    score = {
        item_id: np.exp(
            policy.popularity_weight * np.log1p(recent[item_id])
            + policy.freshness_weight * np.exp(-age / policy.freshness_days)
        )
        for item_id, age in zip(there["item_id"], ages, strict=True)
    }
    total, even = sum(score.values()), policy.exploration / len(score)
    weight = {i: (1 - policy.exploration) * s / total + even for i, s in score.items()}
    home = simulated.of_type("impression").filter(
        pl.col("attribution_token").str.starts_with(f"home-{day:04d}-")
    )
    lists = home.sort("position").partition_by("attribution_token")
    assert len(lists) > 5
    for one in lists:
        left = sum(weight.values())
        for item_id, propensity in one.select("item_id", "propensity").iter_rows():
            assert propensity == pytest.approx(weight[item_id] / left, rel=1e-9)
            left -= weight[item_id]


def test_draws_follow_plackett_and_luce() -> None:
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    rng = np.random.default_rng(5)
    chosen, propensity = draw_lists(np.tile(weights, (20_000, 1)), 2, rng)
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    chances = [weights[a] / 10 * weights[b] / (10 - weights[a]) for a, b in pairs]
    counts = [int(((chosen[:, 0] == a) & (chosen[:, 1] == b)).sum()) for a, b in pairs]
    assert chisquare(counts, np.array(chances) * 20_000).pvalue > 1e-4
    joint = dict(zip(pairs, chances, strict=True))
    expected = [joint[a, b] for a, b in chosen[:50].tolist()]
    np.testing.assert_allclose(propensity[:50].prod(axis=1), expected)


@given(
    weights=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12),
    size=st.integers(1, 12),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_draws_are_distinct_with_valid_propensities(
    weights: list[float], size: int, seed: int
) -> None:
    chosen, propensity = draw_lists(np.array([weights]), size, np.random.default_rng(seed))
    drawn = min(size, len(weights))
    assert len(set(chosen[0].tolist())) == chosen.shape[1] == drawn
    assert ((propensity > 0) & (propensity <= 1)).all()
    if drawn == len(weights):
        assert propensity[0, -1] == 1


def test_a_shop_smaller_than_a_list_shows_what_it_has() -> None:
    shop = SimulatedShop(SimulationConfig(users=60, items=6, days=5), 1)
    shown = pl.concat(list(shop.days())).filter(pl.col("event_type") == "impression")
    lengths = shown.group_by("attribution_token").len()["len"]
    assert 0 < lengths.min() <= lengths.max() <= 6  # type: ignore[operator]


# --- rebuilding the shop


def test_the_shop_is_rebuilt_from_its_dataset(simulated: Simulated, tmp_path: Path) -> None:
    assert SimulatedShop.from_dataset(tmp_path) is None
    (tmp_path / ORACLE_FILE).write_text(json.dumps(simulated.shop.document()))
    again = SimulatedShop.from_dataset(tmp_path)
    assert again is not None
    assert again.config == CONFIG
    users, items = np.arange(7), np.arange(50)
    expected = simulated.shop.click_probability(users, items, 3.5)
    np.testing.assert_array_equal(again.click_probability(users, items, 3.5), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not the description"),
        ("[]", "not the description"),
        ('{"version": 1, "seed": 7, "config": {"users": 0}}', "users"),
        ('{"version": 99, "seed": 7, "config": {}}', "has version 99, this program reads 1"),
    ],
)
def test_a_damaged_description_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / ORACLE_FILE).write_text(text)
    with pytest.raises(FileFormatError, match=message):
        SimulatedShop.from_dataset(tmp_path)


def test_ids_times_and_periods_that_make_no_sense_are_errors(simulated: Simulated) -> None:
    shop = simulated.shop
    assert shop.day_of(at_day(1) + timedelta(hours=12)) == 1.5
    assert shop.item_rows([shop.item_ids[4], shop.item_ids[1]]).tolist() == [4, 1]
    with pytest.raises(DataError, match="item 'nothing' is not of this simulated shop"):
        shop.item_rows(["nothing"])
    with pytest.raises(DataError, match="no time zone"):
        shop.day_of(at_day(1).replace(tzinfo=None))
    with pytest.raises(DataError, match="empty"):
        shop.oracle_scores(np.array([0]), 5, 5)
