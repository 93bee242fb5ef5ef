"""The simulated shop: what is logged follows the stated probabilities, and texts tell tastes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare, rankdata

from recsys.errors import DataError, FileFormatError
from recsys.simulation import ORACLE_FILE, PolicyConfig, SimulatedShop, SimulationConfig
from recsys.simulation.oracle import inclusion_chance
from recsys.simulation.policy import draw_lists
from recsys.simulation.product_types import PRODUCT_TYPES
from recsys.simulation.vocabulary import FACETS
from recsys.tables import Dataset, write_dataset

SEED = 3
START = datetime(2026, 1, 5, tzinfo=UTC)
CONFIG = SimulationConfig(users=400, items=700, days=42)
CUT = 28
"""A day that divides the past from the future in tests about new items and periods."""


@dataclass(frozen=True)
class Simulated:
    """A shop and all its events."""

    shop: SimulatedShop
    items: pl.DataFrame
    events: pl.DataFrame

    def of_type(self, name: str) -> pl.DataFrame:
        return self.events.filter(pl.col("event_type") == name)

    def rows(self, events: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """User and item rows of events."""
        users = self.shop.user_rows(events["user_id"].to_list())
        return users, self.shop.item_rows(events["item_id"].to_list())

    @cached_property
    def impressions(self) -> pl.DataFrame:
        """Impressions with `day`, whether `clicked` and `bought`, and the true chances of both."""
        keys = ["attribution_token", "item_id"]
        shown = self.of_type("impression").with_columns(day=days_since_start("event_time"))
        for name, event_type in (("clicked", "click"), ("bought", "purchase")):
            followed = self.of_type(event_type).select(*keys, pl.lit(1).alias(name))
            shown = shown.join(followed, on=keys, how="left", maintain_order="left")
        chances = [self._chances(part) for part in shown.partition_by("day", maintain_order=True)]
        return pl.concat(chances).with_columns(pl.col("clicked", "bought").fill_null(0))

    def _chances(self, shown: pl.DataFrame) -> pl.DataFrame:
        """One day's impressions with true chances, position bias included."""
        users, items = self.rows(shown)
        looked = self.shop.examination_probability(shown["position"].to_numpy().astype(np.int64))
        distinct, place = np.unique(users, return_inverse=True)
        every_item = np.arange(len(self.shop.item_ids))
        day = float(shown["day"][0])
        click = self.shop.click_probability(distinct, every_item, day)[place, items]
        buy = self.shop.purchase_probability(distinct, every_item, day)[place, items]
        return shown.with_columns(
            looked=looked, click_chance=looked * click, buy_chance=looked * buy
        )


def days_since_start(column: str) -> pl.Expr:
    return (pl.col(column) - START).dt.total_days()


def at_day(day: int) -> datetime:
    return START + timedelta(days=day)


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    shop = SimulatedShop(CONFIG, SEED)
    return Simulated(shop, shop.items(), pl.concat(list(shop.days())))


def assert_expected(happened: pl.Series, chances: NDArray[np.float64], sigmas: float = 4.5) -> None:
    """The number of independent happenings (0 or 1 each) agrees with their chances."""
    spread = float(np.sqrt((chances * (1 - chances)).sum()))
    assert abs(int(happened.to_numpy().sum()) - chances.sum()) < sigmas * spread


def area_under_curve(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    ranks, positives = rankdata(scores), int(labels.sum())
    wins = ranks[labels].sum() - positives * (positives + 1) / 2
    return float(wins / (positives * (len(labels) - positives)))


def word_vectors(items: pl.DataFrame) -> NDArray[np.float64]:
    """(items, words): whether title or description has the word, weighted by its rarity."""
    said = items.select(pl.concat_str("title", "description", separator=" ").str.to_lowercase())
    texts = [set(text.replace(",", " ").replace(".", " ").split()) for text in said.to_series()]
    words = sorted(set.union(*texts))
    has = np.array([[word in text for word in words] for text in texts])
    return np.asarray(has * np.sqrt(-np.log(has.mean(axis=0))), np.float64)


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


# --- behaviour against the oracle


def test_clicks_by_position_match_the_true_chances(simulated: Simulated) -> None:
    for (position,), shown in simulated.impressions.group_by("position"):
        chances = shown["click_chance"].to_numpy()
        assert_expected(shown["clicked"], chances)
        looked = (1 + float(str(position))) ** -CONFIG.behaviour.examination_power
        np.testing.assert_allclose(shown["looked"].to_numpy(), looked)


def test_true_chances_are_calibrated_over_their_range(simulated: Simulated) -> None:
    for happened, chance in (("clicked", "click_chance"), ("bought", "buy_chance")):
        ordered = simulated.impressions.sort(chance)
        for part in np.array_split(np.arange(ordered.height), 10):
            shown = ordered[part]
            assert_expected(shown[happened], shown[chance].to_numpy())


def test_tastes_separate_clicked_from_passed_over(simulated: Simulated) -> None:
    shown = simulated.impressions
    affinity = (shown["click_chance"] / shown["looked"]).to_numpy()
    assert area_under_curve(affinity, shown["clicked"].to_numpy() == 1) > 0.75


def test_reading_text_ranks_new_items_and_popularity_cannot(simulated: Simulated) -> None:
    """Words of what was clicked against those of what was shown, among new items shown later."""
    words = word_vectors(simulated.items)
    click_users, click_items = simulated.rows(
        simulated.of_type("click").filter(pl.col("event_time") < at_day(CUT))
    )
    is_new = simulated.items["created_at"].to_numpy() >= np.datetime64(at_day(CUT).date())
    assert not is_new[click_items].any(), "new items have no popularity"
    shown = simulated.impressions.filter(pl.col("event_time") >= at_day(CUT))
    users, items = simulated.rows(shown)
    keep = is_new[items] & np.isin(users, click_users)
    clicked = shown["clicked"].to_numpy() == 1
    past = simulated.impressions.filter(pl.col("event_time") < at_day(CUT))
    seen_users, seen_items = simulated.rows(past)
    profiles = np.zeros((len(simulated.shop.user_ids), words.shape[1]))
    for user in np.unique(click_users):
        liked = words[click_items[click_users == user]]
        seen = words[seen_items[seen_users == user]]
        profiles[user] = np.sqrt(len(liked)) * (liked.mean(axis=0) - seen.mean(axis=0))
    scores = (words[items] * profiles[users]).sum(axis=1)
    assert area_under_curve(scores[keep], clicked[keep]) > 0.58


def test_season_lifts_gifts_before_christmas(simulated: Simulated) -> None:
    behaviour, catalogue = simulated.shop._behaviour, simulated.shop._behaviour.catalogue
    gift = next(n for n, use in enumerate(FACETS["use"]) if use.name == "Gift Giving")
    place = list(FACETS).index("use")
    gifts = np.flatnonzero(catalogue.values[:, place] == gift)
    users = np.arange(CONFIG.users)
    june, december = (behaviour.affinity(users, gifts, day).mean() for day in (160, 345))
    assert december - june > CONFIG.behaviour.season_strength


# --- periods


def test_re_buys_happen_as_often_as_predicted(simulated: Simulated) -> None:
    past = simulated.events.filter(pl.col("event_time") < at_day(CUT)).lazy()
    last = simulated.shop.last_purchases(past)
    chances = simulated.shop.rebuy_probability(last, CUT, CUT + 10)
    straight = simulated.of_type("purchase").filter(
        pl.col("attribution_token").is_null()
        & pl.col("event_time").is_between(at_day(CUT), at_day(CUT + 10), closed="left")
    )
    again = set(zip(*(rows.tolist() for rows in simulated.rows(straight)), strict=True))
    pairs = zip(last.user.tolist(), last.item.tolist(), strict=True)
    happened = pl.Series([pair in again for pair in pairs]).cast(pl.Int64)
    assert happened.sum() > 30
    assert_expected(happened, chances.astype(np.float64))
    lasting = simulated.shop._behaviour.catalogue.rebuy_days[last.item] == 0
    assert not chances[lasting].any()


def test_re_buy_chances_of_consecutive_periods_add_up(simulated: Simulated) -> None:
    past = simulated.events.filter(pl.col("event_time") < at_day(1)).lazy()
    last = simulated.shop.last_purchases(past)
    assert len(last.day) > 10
    whole = simulated.shop.rebuy_probability(last, 1, 31)
    first = simulated.shop.rebuy_probability(last, 1, 11)
    rest = simulated.shop.rebuy_probability(last, 11, 31)
    np.testing.assert_allclose(whole, first + (1 - first) * rest, rtol=1e-5, atol=1e-6)


def test_expected_purchases_of_a_period_match_what_happened(simulated: Simulated) -> None:
    joined = simulated.shop._behaviour.shoppers.joined_day <= CUT
    users = np.flatnonzero(joined)
    expected = simulated.shop.oracle_scores(users, CUT, CONFIG.days)
    bought = simulated.impressions.filter(pl.col("event_time") >= at_day(CUT))
    rows, items = simulated.rows(bought)
    known = joined[rows] & (bought["bought"].to_numpy() == 1)
    assert expected.sum() == pytest.approx(known.sum(), rel=0.15)
    created = simulated.shop._behaviour.catalogue.created_day
    new = created >= CUT
    assert expected[:, new].sum() == pytest.approx((known & new[items]).sum(), rel=0.25)


def test_scores_add_re_buys_and_leave_out_what_comes_later(simulated: Simulated) -> None:
    past = simulated.events.filter(pl.col("event_time") < at_day(CUT)).lazy()
    last = simulated.shop.last_purchases(past)
    users = np.array([5, 2, 9])
    plain = simulated.shop.oracle_scores(users, 14, 21)
    later = simulated.shop._behaviour.catalogue.created_day >= 21
    assert (plain[:, later] == 0).all()
    assert (plain[:, ~later] > 0).all()
    with_past = simulated.shop.oracle_scores(users, CUT, CUT + 7, last)
    without = simulated.shop.oracle_scores(users, CUT, CUT + 7)
    chances = simulated.shop.rebuy_probability(last, CUT, CUT + 7)
    for row, user in enumerate(users):
        own = last.user == user
        added = np.zeros(CONFIG.items, np.float32)
        added[last.item[own]] = chances[own]
        np.testing.assert_allclose(with_past[row] - without[row], added, atol=1e-6)


def test_chances_to_be_shown_match_drawn_lists() -> None:
    rng = np.random.default_rng(8)
    shelf = np.repeat([0, 1, 2], [30, 12, 4])
    weights = rng.lognormal(0, 1.0, len(shelf))
    weights[5] = 0
    expected = inclusion_chance(weights[:, None], shelf, 5)[:, 0]
    for number in range(3):
        rows = np.flatnonzero((shelf == number) & (weights > 0))
        chosen, _ = draw_lists(np.tile(weights[rows], (20_000, 1)), 5, rng)
        drawn = np.bincount(chosen.ravel(), minlength=len(rows)) / 20_000
        np.testing.assert_allclose(expected[rows], drawn, atol=0.03)
        assert expected[rows].sum() == pytest.approx(min(5, len(rows)), rel=0.01)
    assert expected[5] == 0


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
