"""What the simulated shop logs agrees with its true probabilities, and texts tell tastes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.stats import rankdata
from simulated_shop import CONFIG, CUT, Simulated, at_day, days_since_start, simulated_shop

from recsys.simulation.oracle import inclusion_chance
from recsys.simulation.policy import draw_lists
from recsys.simulation.rebuys import RebuyPlan
from recsys.simulation.vocabulary import FACETS


@pytest.fixture(name="simulated")
def _simulated() -> Simulated:
    return simulated_shop()


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


def test_consumables_are_bought_again_when_they_are_used_up(simulated: Simulated) -> None:
    purchases = simulated.of_type("purchase").with_columns(day=days_since_start("event_time"))
    _, items = simulated.rows(purchases)
    usual = simulated.shop._behaviour.catalogue.rebuy_days[items]
    following = pl.col("day", "attribution_token").shift(-1).over("user_id", "item_id")
    soon = (
        purchases.with_columns(following.name.prefix("next_"), usual=usual)
        .filter((pl.col("usual") > 0) & (pl.col("usual") <= 16) & (pl.col("day") < 16))
        .with_columns(gap=pl.col("next_day") - pl.col("day"))
        .filter(pl.col("gap").is_null() | pl.col("next_attribution_token").is_null())
    )
    gaps = soon.drop_nulls("gap").filter(pl.col("gap") > 0)
    assert gaps.height > 30
    excess = (gaps["gap"] - gaps["usual"]).to_numpy()
    assert abs(excess.mean() - 0.5) < 4.5 * excess.std() / np.sqrt(gaps.height)
    rates = np.full(soon.height, CONFIG.behaviour.rebuy_rate)
    assert_expected(soon["gap"].is_not_null(), rates)


def test_a_new_purchase_replaces_a_planned_re_buy() -> None:
    plan, pairs = RebuyPlan(), np.array([[4, 1], [2, 9], [2, 9]])
    plan.replace(pairs, np.array([5, 5, 7]))
    plan.replace(pairs[:1], np.array([-1]))
    assert plan.take(5).shape == (0, 2)
    assert plan.take(7).tolist() == [[2, 9]]
    assert plan.take(7).shape == (0, 2)


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
    rising = np.argsort(chances)[np.count_nonzero(chances == 0) :]
    for part in np.array_split(rising, 4):
        assert_expected(happened[part], chances[part].astype(np.float64), sigmas=3.5)
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
