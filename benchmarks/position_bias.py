"""How near an item's click rate comes to its true attractiveness, with and without its positions.

    python benchmarks/position_bias.py

Simulated shops, whose true click probabilities are known. Printed is Spearman's rank correlation,
over the items shown at least 30 times, of each estimate with the mean probability over all shoppers
that a look at the item leads to a click: mean of the seeds, and their range. The estimates:

raw CTR       clicks per impression
by place      clicks over expected clicks (COEC) from the click rates of positions as they are
ctr feature   COEC from click rates that don't depend on which items stood there, as the ranker has
true looks    COEC from the simulator's own chances that a position is looked at
"""

from __future__ import annotations

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import spearmanr

from recsys.features import ItemStatistics
from recsys.interactions import HOUR_US, Impressions, InteractionLog
from recsys.simulation import BehaviourConfig, PolicyConfig, SimulatedShop, SimulationConfig

SEEDS: Final = (7, 8, 9, 10, 11)
LEAST_SHOWN: Final = 30
STEEP: Final = BehaviourConfig(examination_power=1.0)
SHOPS: Final = {
    "recsys simulate": SimulationConfig(),
    "steep looks, popular on top": SimulationConfig(
        items=600,
        behaviour=STEEP,
        policy=PolicyConfig(popularity_weight=1.0, freshness_weight=0.0, list_size=20),
    ),
    "steep looks, popular on top, departments": SimulationConfig(
        behaviour=STEEP,
        policy=PolicyConfig(
            popularity_weight=2.0,
            freshness_weight=0.0,
            exploration=0.3,
            page_shares=(0.0, 0.0, 1.0, 0.0),
            list_size=20,
        ),
    ),
    "steep looks, new on top": SimulationConfig(
        behaviour=STEEP,
        policy=PolicyConfig(
            popularity_weight=0.0,
            freshness_weight=6.0,
            freshness_days=60.0,
            exploration=0.3,
            page_shares=(0.0, 0.0, 0.5, 0.5),
            list_size=20,
        ),
    ),
    "steep looks, popular on top, home page": SimulationConfig(
        items=600,
        behaviour=STEEP,
        policy=PolicyConfig(
            popularity_weight=1.0,
            freshness_weight=0.0,
            page_shares=(1.0, 0.0, 0.0, 0.0),
            list_size=20,
        ),
    ),
}
"""Steep: position p is looked at with probability 1 / (1 + p). On a home page alone, a place on top
is earned by clicks and says something of the item itself: there is less to correct."""


def correlations(config: SimulationConfig, seed: int) -> dict[str, float]:
    """Spearman's correlation of each estimate with the truth."""
    shop = SimulatedShop(config, seed)
    events = pl.concat(list(shop.days()))
    shown = InteractionLog.build(shop.items()["item_id"], events.lazy())
    end = int(shown.impressions.time[-1]) + HOUR_US
    impressions, clicks, expected = (row[-1] for row in ItemStatistics.at(shown, end).exposure)
    items, looks = len(clicks), shop.examination_probability(np.arange(config.policy.list_size))
    known = impressions >= LEAST_SHOWN
    estimates = {
        "raw CTR": impressions,
        "by place": expected_clicks(shown.impressions, place_rates(shown.impressions), items),
        "ctr feature": expected,
        "true looks": expected_clicks(shown.impressions, looks, items),
    }
    truth = attractiveness(shop, config)[known]
    return {
        name: float(spearmanr(clicks[known] / of[known], truth).statistic)
        for name, of in estimates.items()
    }


def attractiveness(shop: SimulatedShop, config: SimulationConfig) -> NDArray[np.float64]:
    """float64 (items,): chance of a click after a look, mean over shoppers, halfway through."""
    users, items = np.arange(config.users), np.arange(config.items)
    chances = shop.click_probability(users, items, config.days / 2)
    return np.asarray(chances.mean(axis=0), np.float64)


def place_rates(impressions: Impressions) -> NDArray[np.float64]:
    """float64 (positions,): clicks per impression of each position."""
    shown = np.bincount(impressions.position)
    clicked = np.bincount(impressions.position[impressions.clicked], minlength=len(shown))
    return np.asarray(clicked / shown, np.float64)


def expected_clicks(
    impressions: Impressions, rates: NDArray[np.float64], items: int
) -> NDArray[np.float64]:
    """float64 (items,): rates of the positions where each item was shown, summed."""
    total = np.bincount(impressions.item, rates[impressions.position], minlength=items)
    return np.asarray(total, np.float64)


def main() -> None:
    """Print a line for each shop."""
    names = ("raw CTR", "by place", "ctr feature", "true looks")
    print(f"{'shop':40}" + "".join(f"{name:>20}" for name in names))
    for shop, config in SHOPS.items():
        found = [correlations(config, seed) for seed in SEEDS]
        cells = []
        for name in names:
            values = [one[name] for one in found]
            mean, low, high = np.mean(values), min(values), max(values)
            cells.append(f"{mean:.3f} {low:.3f}-{high:.3f}")
        print(f"{shop:40}" + "".join(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
