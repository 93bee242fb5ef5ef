"""Whether experiments, off-policy estimates and interleaving find what is true in a simulated shop.

    python benchmarks/experiment_truth.py

A shop whose true click probabilities are known shows lists of four by popularity (the control) or
by each shopper's own taste, blurred (the other arm), both drawn by Plackett and Luce with logged
propensities. Every repetition draws shoppers, arms, lists and clicks anew. Printed are, over 100
repetitions:

- how often the fixed 95 % interval of `recsys experiment report` holds the true lift of clicks per
  impression, plain and adjusted, and how often it finds it,
- how often the off-policy estimate of the other arm, from the control's lists alone, holds its true
  clicks a list (reward-interaction IPS), and how often it is refused,
- how often a share of the lists finds the other arm better when they are interleaved, and when
  each is of one arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.experiments import Comparison, Sample, linearised_ratio, preference, team_draft
from recsys.off_policy import Slates, overlap, policy_value, reward_interaction_ips
from recsys.simulation import SimulatedShop, SimulationConfig
from recsys.simulation.policy import draw_lists
from recsys.tables import write_dataset
from training.experiment import ExperimentOptions, report_experiment
from training.experiment.report import EffectRow

REPETITIONS: Final = 100
SHOPPERS: Final = 800
DAYS, PRE_DAYS = 14, 14
LENGTH, POOL = 4, 40
SHARPNESS: Final = 0.6
"""Of both policies: weights are click probabilities to this power; 0 shows anything alike."""

BLUR: Final = 0.5
"""Standard deviation of the error in the other arm's log probabilities."""

PERSONAL: Final = 0.25
"""How far the other arm goes from what everybody likes to what the shopper does, from 0 to 1."""

TRUTH_DRAWS: Final = 150
START: Final = datetime(2030, 5, 1, tzinfo=UTC)
ARMS: Final = ("control", "taste")


@dataclass(frozen=True)
class World:
    """A shop on one day.

    Attributes:
        click: float64 (users, items), chance of a click after a look.
        looks: float64 (positions,), chance that a position is looked at.
        weights: float64 (arms, users, items), of the policies.
        truth: float64 (arms,), clicks a list, over all users alike.
    """

    click: NDArray[np.float64]
    looks: NDArray[np.float64]
    weights: NDArray[np.float64]
    truth: NDArray[np.float64]


def make_world(rng: np.random.Generator) -> World:
    """The shop, with the clicks a list of each policy from many lists without drawing clicks."""
    config = SimulationConfig(users=3_000, items=POOL, launch_share=1.0)
    shop = SimulatedShop(config, seed=7)
    users, items = np.arange(config.users), np.arange(POOL)
    click = shop.click_probability(users, items, 10.0).astype(np.float64)
    looks = shop.examination_probability(np.arange(LENGTH))
    popular = np.broadcast_to(click.mean(axis=0), click.shape)
    taste = popular * (click / popular * np.exp(rng.normal(0, BLUR, click.shape))) ** PERSONAL
    weights = np.stack([popular, taste]) ** SHARPNESS
    truth = np.zeros(2)
    for arm in (0, 1):
        for _ in range(TRUTH_DRAWS):
            chosen, _ = draw_lists(weights[arm], LENGTH, rng)
            truth[arm] += (click[users[:, None], chosen] * looks).sum(axis=1).mean()
    return World(click, looks, weights, truth / TRUTH_DRAWS)


@dataclass(frozen=True)
class Lists:
    """n lists that shoppers saw; arrays over positions are (n, LENGTH)."""

    shopper: NDArray[np.int64]
    user: NDArray[np.int64]
    day: NDArray[np.int64]
    arm: NDArray[np.int64]
    items: NDArray[np.int64]
    propensity: NDArray[np.float64]
    clicked: NDArray[np.bool_]


def draw(world: World, rng: np.random.Generator) -> Lists:
    """Shoppers with one arm each, before the experiment all in the control."""
    user = rng.integers(len(world.click), size=SHOPPERS)
    own = rng.integers(2, size=SHOPPERS)
    visits = rng.poisson(0.4, (SHOPPERS, PRE_DAYS + DAYS))
    shopper, place = np.nonzero(visits)
    shopper = np.repeat(shopper, visits[shopper, place])
    day = np.repeat(place, visits[visits > 0]) - PRE_DAYS
    arm = np.where(day >= 0, own[shopper], 0)
    items, propensity = draw_lists(world.weights[arm, user[shopper]], LENGTH, rng)
    chance = world.click[user[shopper][:, None], items] * world.looks
    clicked = rng.random(chance.shape) < chance
    return Lists(shopper, user[shopper], day, arm, items, propensity, clicked)


def dataset(lists: Lists, folder: Path) -> Path:
    """The log of the lists."""
    count = len(lists.shopper)
    shown = pl.DataFrame(
        {
            "list": np.repeat(np.arange(count), LENGTH),
            "user_id": np.repeat([f"u{number}" for number in lists.shopper.tolist()], LENGTH),
            "item_id": [f"i{number}" for number in lists.items.ravel().tolist()],
            "day": np.repeat(lists.day, LENGTH),
            "position": np.tile(np.arange(LENGTH, dtype=np.int32), count),
            "propensity": lists.propensity.ravel(),
            "label": np.repeat([f"page/{ARMS[arm]}" for arm in lists.arm.tolist()], LENGTH),
            "clicked": lists.clicked.ravel(),
        }
    ).with_row_index("row")
    parts = []
    for kind, rows, delay in (("impression", shown, 0), ("click", shown.filter("clicked"), 1)):
        minute = pl.lit(480) + pl.col("list") % 700 + delay
        time = pl.lit(START) + pl.duration(days="day", minutes=minute)
        labelled = (pl.col("day") >= 0) & pl.lit(kind == "impression")
        parts.append(
            rows.select(
                "user_id",
                "item_id",
                "position",
                "propensity",
                event_id=pl.concat_str(pl.lit(kind), "row"),
                event_type=pl.lit(kind),
                event_time=time.cast(pl.Datetime("us", "UTC")),
                attribution_token=pl.concat_str(pl.lit("t"), "list"),
                experiment_arm=pl.when(labelled).then("label"),
            )
        )
    items = pl.DataFrame({"item_id": [f"i{number}" for number in range(POOL)], "title": "thing"})
    write_dataset(folder, items, [pl.concat(parts)])
    return folder


def off_policy(world: World, lists: Lists) -> tuple[bool, bool]:
    """Whether the control's lists refuse to answer for the other arm; whether they are right."""
    own = (lists.day >= 0) & (lists.arm == 0)
    items, weight = lists.items[own], world.weights[1, lists.user[own]]
    taken = np.take_along_axis(weight, items, axis=1)
    above = np.cumsum(taken, axis=1) - taken
    target = taken / (weight.sum(axis=1, keepdims=True) - above)
    slates = Slates(lists.clicked[own].astype(np.float64), lists.propensity[own], target)
    refused = overlap(slates.slate_weights[:, -1]).answer == "refuse"
    low, high = policy_value(reward_interaction_ips(slates), lists.shopper[own]).interval
    return refused, low <= world.truth[1] <= high


def some(lists: Lists, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a share of the experiment's lists."""
    rows = np.flatnonzero(lists.day >= 0)
    return rng.choice(rows, int(share * len(rows)), replace=False)


def compare(lists: Lists, rows: NDArray[np.int64]) -> bool:
    """Whether whole lists, one arm a shopper, find the other arm better for sure."""
    values = []
    for arm in (0, 1):
        own = rows[lists.arm[rows] == arm]
        _, shopper = np.unique(lists.shopper[own], return_inverse=True)
        clicks = np.bincount(shopper, lists.clicked[own].sum(axis=1)).astype(np.float64)
        shown = LENGTH * np.bincount(shopper).astype(np.float64)
        values.append(Sample.of(linearised_ratio(clicks, shown)))
    return Comparison(*values).lift.interval()[0] > 0


def interleave(
    world: World, lists: Lists, rows: NDArray[np.int64], rng: np.random.Generator
) -> bool:
    """Whether the same shoppers' lists, interleaved, prefer the other arm for sure."""
    credit = np.zeros((len(rows), 2), np.int64)
    user = lists.user[rows]
    coins = rng.integers(2, size=(len(rows), LENGTH)).astype(np.bool_)
    both = [draw_lists(world.weights[arm, user], LENGTH, rng)[0] for arm in (0, 1)]
    for row, (first, second) in enumerate(zip(*both, strict=True)):
        drafted = team_draft([str(one) for one in first], [str(one) for one in second], coins[row])
        items = np.array(drafted.items, np.int64)
        clicked = rng.random(len(items)) < world.click[user[row], items] * world.looks
        for team in (0, 1):
            credit[row, team] = (clicked & (drafted.team == team)).sum()
    found = preference(credit[:, 0], credit[:, 1], lists.shopper[rows])
    return found.margin.interval()[0] > 0


def holds(effect: EffectRow | None, truth: float) -> bool:
    """Whether the fixed interval is there and holds the truth."""
    if effect is None or effect.low is None or effect.high is None:
        return False
    return effect.low <= truth <= effect.high


def main() -> None:
    """Run the repetitions and print the shares."""
    world = make_world(np.random.default_rng(1))
    lift = float(world.truth[1] / world.truth[0] - 1)
    print(f"true clicks a list: {world.truth.round(4).tolist()}, true lift {lift:+.2%}")
    shares = (0.02, 0.05, 0.1, 0.2, 0.5)
    plain = adjusted = found = refused = right = 0
    preferred, better = dict.fromkeys(shares, 0), dict.fromkeys(shares, 0)
    options = ExperimentOptions("page", guardrails=(), others=(), pre_days=PRE_DAYS)
    for repetition in range(REPETITIONS):
        rng = np.random.default_rng([2, repetition])
        lists = draw(world, rng)
        with TemporaryDirectory() as folder:
            report = report_experiment(dataset(lists, Path(folder) / "shop"), options)
        (row,) = report.metrics
        plain += holds(row.lift, lift)
        adjusted += holds(row.adjusted, lift)
        found += row.best.low is not None and row.best.low > 0
        one_refused, one_right = off_policy(world, lists)
        refused += one_refused
        right += one_right and not one_refused
        for share in shares:
            rows = some(lists, share, rng)
            preferred[share] += interleave(world, lists, rows, rng)
            better[share] += compare(lists, rows)
    print(f"true lift in the interval: plain {plain}, adjusted {adjusted} of {REPETITIONS}")
    print(f"the report finds the other arm better in {found} of {REPETITIONS}")
    print(f"off-policy: refused {refused}, true clicks a list in the interval {right}")
    print("the other arm is found better, for sure, by so many lists:")
    for share in shares:
        print(f"{share:5.0%}: interleaved {preferred[share]}, whole lists {better[share]}")


if __name__ == "__main__":
    main()
