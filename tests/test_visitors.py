"""Simulated visitors choose by the true probabilities, whoever fills their lists."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from simulated_shop import CONFIG, SEED, Simulated, at_day, simulated_shop

from recsys.errors import DataError
from recsys.simulation import (
    BehaviourConfig,
    LastPurchases,
    Opening,
    SimulatedShop,
    SimulationConfig,
    Visitors,
)

DAY = CONFIG.days
NONE_BEFORE = LastPurchases(*(np.zeros(0, np.int64) for _ in range(3)))


@pytest.fixture(name="simulated")
def _simulated() -> Simulated:
    return simulated_shop()


@pytest.fixture(name="visitors")
def _visitors(simulated: Simulated) -> Visitors:
    return simulated.shop.visitors(1, NONE_BEFORE)


def all_openings(visitors: Visitors, days: range) -> list[Opening]:
    return [one for day in days for own in visitors.openings(day).values() for one in own]


def test_what_visitors_do_is_what_is_expected_of_their_lists(
    simulated: Simulated, visitors: Visitors
) -> None:
    rng = np.random.default_rng(2)
    drawn: Counter[str] = Counter()
    expected: Counter[str] = Counter()
    for opening in all_openings(visitors, range(DAY, DAY + 14)):
        items = rng.choice(simulated.shop.item_ids, 10, replace=False).tolist()
        acts = visitors.respond(opening, items)
        drawn.update(act.event_type for act in acts)
        assert all(items[act.position] == act.item_id for act in acts if act.position is not None)
        assert all(act.time > opening.time for act in acts)
        value = visitors.value(opening, items)
        for name in ("clicks", "purchases"):
            expected[name] += getattr(value, name)
    for name, event_type in (("clicks", "click"), ("purchases", "purchase")):
        error = np.sqrt(expected[name])  # a sum of rare events, nearly Poisson
        assert abs(drawn[event_type] - expected[name]) < 4 * error, name
        assert drawn[event_type] > 5 * error


def test_the_best_list_is_worth_what_it_says(simulated: Simulated, visitors: Visitors) -> None:
    shop, items = simulated.shop, np.arange(CONFIG.items)
    opening = next(one for one in all_openings(visitors, range(DAY, DAY + 1)) if not one.query)
    chance = shop.purchase_probability(np.array([opening.user]), items, DAY)[0]
    if opening.category:
        shelf = simulated.items["category"].list.first() == opening.category
        chance = np.where(shelf.to_numpy(), chance, -1)
    best = [shop.item_ids[row] for row in np.argsort(-chance)[:10]]
    value = visitors.value(opening, best)
    assert value.purchases == pytest.approx(value.best_purchases, rel=1e-5)
    assert value.ndcg == pytest.approx(1, rel=1e-5)
    worse = visitors.value(opening, best[::-1])
    assert worse.purchases < value.purchases
    assert worse.ndcg < value.ndcg
    assert visitors.value(opening, []).purchases == 0


def test_who_searches_passes_over_other_types(simulated: Simulated, visitors: Visitors) -> None:
    openings = all_openings(visitors, range(DAY, DAY + 3))
    search = next(one for one in openings if one.query)
    assert search.kind >= 0
    other = replace(search, kind=-1)
    items = list(simulated.shop.item_ids[:100])
    assert 0 < visitors.value(search, items).clicks < visitors.value(other, items).clicks


def test_acts_depend_on_the_list_and_not_on_what_was_asked_before(simulated: Simulated) -> None:
    items = list(simulated.shop.item_ids[:10])

    def acts(seed: int, *, backwards: bool) -> dict[str, object]:
        visitors = simulated.shop.visitors(seed, NONE_BEFORE)
        openings = all_openings(visitors, range(DAY, DAY + 1))
        order = openings[::-1] if backwards else openings
        found = {f"{one.user}-{one.number}": visitors.respond(one, items) for one in order}
        return dict(sorted(found.items()))

    assert acts(1, backwards=False) == acts(1, backwards=True)
    assert acts(1, backwards=False) != acts(2, backwards=False)


def test_fewer_visitors_come_as_they_would_among_all(visitors: Visitors) -> None:
    everybody, some = visitors.openings(DAY), visitors.openings(DAY, 100)
    assert some == {user: lists for user, lists in everybody.items() if user < 100}
    assert 0 < len(some) < len(everybody)


def test_what_is_used_up_is_bought_again(simulated: Simulated) -> None:
    purchases = simulated.shop.last_purchases(simulated.events.lazy())
    visitors = simulated.shop.visitors(1, purchases)
    chances = simulated.shop.rebuy_probability(purchases, DAY, DAY + 28)
    bought: set[tuple[int, str]] = set()
    for day in range(DAY, DAY + 28):
        again = visitors.buy_again(day)
        pairs = [
            (user, act.item_id)
            for user, acts in again.items()
            for act in acts
            if act.event_type == "purchase"
        ]
        bought.update(pairs)
        visitors.end_day(day, pairs)
    known = {
        (user, simulated.shop.item_ids[item])
        for user, item in zip(purchases.user.tolist(), purchases.item.tolist(), strict=True)
    }
    assert bought <= known
    assert abs(len(bought) - chances.sum()) < 4 * np.sqrt(chances.sum())
    assert len(bought) > 20


def test_an_item_of_another_shop_is_an_error(visitors: Visitors) -> None:
    opening = all_openings(visitors, range(DAY, DAY + 1))[0]
    with pytest.raises(DataError, match="mug"):
        visitors.respond(opening, ["mug"])


def test_tastes_turn_and_the_truth_turns_with_them() -> None:
    config = SimulationConfig(users=200, items=60)
    turning = config.model_copy(update={"behaviour": BehaviourConfig(taste_turn_days=90)})
    users, items = np.arange(200), np.arange(60)

    def tastes(config: SimulationConfig, day: float) -> np.ndarray:
        shop = SimulatedShop(config, SEED)
        return np.log(shop.purchase_probability(users, items, day)).ravel()

    assert (tastes(config, 0) == tastes(turning, 0)).all()
    alike = [np.corrcoef(tastes(turning, 0), tastes(turning, day))[0, 1] for day in (30, 60, 90)]
    assert alike[0] > 0.75 > alike[1] > 0.35 > alike[2]
    steady = np.corrcoef(tastes(config, 0), tastes(config, 90))[0, 1]
    assert steady > 0.9


def test_items_go_on_arriving_after_the_days_simulated() -> None:
    config = SimulationConfig(users=50, items=300, days=21, later_days=21)
    shop = SimulatedShop(config, SEED)
    start = at_day(0)
    now, later = shop.items(), shop.items(until_day=42)
    assert now.height < later.height == 300
    assert (now["created_at"] < at_day(21)).all()
    assert (later.filter(later["created_at"] >= start)["created_at"] < at_day(42)).all()
    arrived = later.filter(later["created_at"] >= at_day(21)).height
    assert arrived == pytest.approx(60, abs=1)
    joined = shop.users()["joined_at"]
    assert (joined >= at_day(21)).any()
    everything = SimulatedShop(SimulationConfig(users=50, items=300, days=21), SEED).items()
    assert everything.height == 300
