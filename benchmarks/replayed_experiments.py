"""Experiments on lists that two policies would show, repeated: shoppers, arms and clicks anew.

Used by `closed_loop.py`. The lists and the true chances of a click on them are given; a repetition
draws shoppers with replacement, so that the truth is that of the shoppers it draws from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel

from recsys.experiments import Comparison, Sample, linearised_ratio, preference, team_draft
from recsys.off_policy import Slates, overlap, policy_value, reward_interaction_ips
from recsys.simulation.policy import draw_lists
from recsys.tables import write_dataset
from training.experiment import ExperimentOptions, report_experiment
from training.experiment.report import EffectRow

DEPTH: Final = 4
"""Positions of explored lists that are evaluated off-policy."""

TRUTH_DRAWS: Final = 200
LIST_COUNTS: Final = (25, 50, 100, 200, 400, 800, 1_600)
"""Lists of an experiment or an interleaving, for what each of them finds."""

SURE: Final = 0.8
"""Share of the repetitions that have to find the better arm."""

START: Final = datetime(2030, 5, 1, tzinfo=UTC)
ARMS: Final = ("popularity", "full")


@dataclass(frozen=True)
class Visited:
    """n lists that are opened, and what both arms show in them.

    Attributes:
        user: int64 (n,).
        day: int64 (n,), from the experiment's start; before it, negative, all see the first arm.
        item: int64 (arms, n, positions), -1 behind the end of a list.
        chance: float64 of the same shape, of a click, looks included; 0 behind the end.
        pool: float64 (n, items), what the second arm's best items score; -inf where there are none.
        pool_click: float64 of the same shape, chance of a click on them after a look.
        looks: float64 (positions,), chance that a position is looked at.
    """

    user: NDArray[np.int64]
    day: NDArray[np.int64]
    item: NDArray[np.int64]
    chance: NDArray[np.float64]
    pool: NDArray[np.float64]
    pool_click: NDArray[np.float64]
    looks: NDArray[np.float64]

    @cached_property
    def lift(self) -> float:
        """The true lift of clicks per impression, over all shoppers."""
        during = self.day >= 0
        rate = [
            self.chance[arm][during].sum() / (self.item[arm][during] >= 0).sum() for arm in (0, 1)
        ]
        return float(rate[1] / rate[0] - 1)

    @cached_property
    def explorable(self) -> NDArray[np.int64]:
        """Lists of the experiment whose pool is full, so that any of its items could be shown."""
        return np.flatnonzero((self.day >= 0) & np.isfinite(self.pool).all(axis=1))

    def weights(self, rows: NDArray[np.int64], temperature: float) -> NDArray[np.float64]:
        """float64 (rows, items): what items of the pool are drawn by."""
        score = self.pool[rows]
        return np.asarray(np.exp((score - score.max(axis=1, keepdims=True)) / temperature))

    def explored_clicks(self, temperature: float, rng: np.random.Generator) -> float:
        """The true clicks of an explored list's first positions, over all explorable ones."""
        weights, click = (
            self.weights(self.explorable, temperature),
            self.pool_click[self.explorable],
        )
        total = 0.0
        for _ in range(TRUTH_DRAWS):
            chosen, _ = draw_lists(weights, DEPTH, rng)
            total += (np.take_along_axis(click, chosen, axis=1) * self.looks[:DEPTH]).sum()
        return float(total / TRUTH_DRAWS / len(weights))


class Repeated(BaseModel):
    """What so many repetitions found."""

    repetitions: int
    shoppers: int
    true_lift: float
    plain_holds: int
    """Reports whose fixed 95 % interval has the true lift."""
    adjusted_holds: int
    """The same, adjusted for what shoppers did before."""
    finds: int
    """Reports that find the second arm better."""
    off_policy_truth: float
    """Clicks a list of the target policy."""
    off_policy_holds: int
    """Estimates from another policy's lists whose 95 % interval has it."""
    off_policy_refused: int
    interleaving_finds: dict[int, int]
    """By number of lists: how often the second arm is found better, when lists hold both."""
    whole_lists_find: dict[int, int]
    """The same, when each list is of its shopper's arm."""

    def lists_needed(self, found: dict[int, int]) -> int | None:
        """Lists that find it in four of five repetitions; None where none of the numbers does."""
        enough = [lists for lists, times in found.items() if times >= SURE * self.repetitions]
        return min(enough, default=None)


@dataclass(frozen=True)
class Drawn:
    """The n lists of a repetition, by place in `Visited`, and their drawn clicks.

    Attributes:
        shopper: int64 (n,), drawn anew.
        row: int64 (n,), the list.
        arm: int64 (n,), shown in it.
        clicked: bool (n, positions).
    """

    shopper: NDArray[np.int64]
    row: NDArray[np.int64]
    arm: NDArray[np.int64]
    clicked: NDArray[np.bool_]


def draw(visited: Visited, shoppers: int, rng: np.random.Generator) -> Drawn:
    """Shoppers with one arm each."""
    known = np.unique(visited.user[visited.day >= 0])
    user, own = rng.choice(known, shoppers), rng.integers(2, size=shoppers)
    order = np.argsort(visited.user, kind="stable")
    first = np.searchsorted(visited.user[order], user)
    count = np.searchsorted(visited.user[order], user, side="right") - first
    shopper = np.repeat(np.arange(shoppers), count)
    place = np.arange(len(shopper)) - np.repeat(np.cumsum(count) - count, count)
    row = order[np.repeat(first, count) + place]
    arm = np.where(visited.day[row] >= 0, own[shopper], 0)
    chance = visited.chance[arm, row]
    return Drawn(shopper, row, arm, rng.random(chance.shape) < chance)


def dataset(visited: Visited, drawn: Drawn, folder: Path) -> Path:
    """The log of the lists."""
    item = visited.item[drawn.arm, drawn.row]
    lists, position = np.nonzero(item >= 0)
    shown = pl.DataFrame(
        {
            "list": lists,
            "user_id": [f"u{number}" for number in drawn.shopper[lists].tolist()],
            "item_id": [f"i{number}" for number in item[lists, position].tolist()],
            "day": visited.day[drawn.row[lists]],
            "position": position.astype(np.int32),
            "label": [f"page/{ARMS[arm]}" for arm in drawn.arm[lists].tolist()],
            "clicked": drawn.clicked[lists, position],
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
                event_id=pl.concat_str(pl.lit(kind), "row"),
                event_type=pl.lit(kind),
                event_time=time.cast(pl.Datetime("us", "UTC")),
                attribution_token=pl.concat_str(pl.lit("t"), "list"),
                experiment_arm=pl.when(labelled).then("label"),
            )
        )
    names = [f"i{number}" for number in range(int(visited.item.max()) + 1)]
    write_dataset(folder, pl.DataFrame({"item_id": names, "title": "thing"}), [pl.concat(parts)])
    return folder


def off_policy(
    visited: Visited, drawn: Drawn, temperatures: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float] | None:
    """The interval for lists of the second temperature from those of the first; None if refused."""
    mine = np.isin(drawn.row, visited.explorable)
    row, shopper = drawn.row[mine], drawn.shopper[mine]
    logging, wanted = (visited.weights(row, one) for one in temperatures)
    chosen, propensity = draw_lists(logging, DEPTH, rng)
    taken = np.take_along_axis(wanted, chosen, axis=1)
    above = np.cumsum(taken, axis=1) - taken
    target = taken / (wanted.sum(axis=1, keepdims=True) - above)
    chance = np.take_along_axis(visited.pool_click[row], chosen, axis=1) * visited.looks[:DEPTH]
    clicked = (rng.random(chance.shape) < chance).astype(np.float64)
    slates = Slates(clicked, propensity, target)
    if overlap(slates.slate_weights[:, -1]).answer == "refuse":
        return None
    low, high = policy_value(reward_interaction_ips(slates), shopper).interval
    return float(low), float(high)


def compare(visited: Visited, drawn: Drawn, some: NDArray[np.int64]) -> bool:
    """Whether whole lists, one arm a shopper, find the second arm better for sure."""
    values = []
    for arm in (0, 1):
        own = some[drawn.arm[some] == arm]
        _, shopper = np.unique(drawn.shopper[own], return_inverse=True)
        shown = (visited.item[arm, drawn.row[own]] >= 0).sum(axis=1)
        clicks = np.bincount(shopper, drawn.clicked[own].sum(axis=1)).astype(np.float64)
        if len(clicks) < 2 or not clicks.any():  # noqa: PLR2004
            return False
        total = np.bincount(shopper, shown).astype(np.float64)
        values.append(Sample.of(linearised_ratio(clicks, total)))
    return Comparison(*values).lift.interval()[0] > 0


def interleave(
    visited: Visited, drawn: Drawn, some: NDArray[np.int64], rng: np.random.Generator
) -> bool:
    """Whether the same shoppers' lists, interleaved, prefer the second arm for sure."""
    credit = np.zeros((len(some), 2), np.int64)
    length = visited.item.shape[2]
    coins = rng.integers(2, size=(len(some), length)).astype(np.bool_)
    for number, row in enumerate(drawn.row[some].tolist()):
        both = visited.item[:, row]
        first, second = ([str(item) for item in one if item >= 0] for one in both.tolist())
        team = team_draft(first, second, coins[number])
        click = {
            str(item): chance / look
            for items, chances in zip(both.tolist(), visited.chance[:, row].tolist(), strict=True)
            for item, chance, look in zip(items, chances, visited.looks.tolist(), strict=True)
        }
        chance = np.array([click[item] for item in team.items]) * visited.looks[: len(team.items)]
        clicked = rng.random(len(chance)) < chance
        for one in (0, 1):
            credit[number, one] = (clicked & (team.team == one)).sum()
    if not (credit[:, 0] != credit[:, 1]).any():
        return False
    found = preference(credit[:, 0], credit[:, 1], drawn.shopper[some])
    return found.margin.interval()[0] > 0


def holds(effect: EffectRow | None, truth: float) -> bool:
    """Whether the fixed interval is there and holds the truth."""
    if effect is None or effect.low is None or effect.high is None:
        return False
    return effect.low <= truth <= effect.high


def repeat(
    visited: Visited, repetitions: int, shoppers: int, temperatures: tuple[float, float]
) -> Repeated:
    """Run so many experiments of so many shoppers."""
    truth = visited.explored_clicks(temperatures[1], np.random.default_rng([1]))
    found = Repeated(
        repetitions=repetitions,
        shoppers=shoppers,
        true_lift=visited.lift,
        plain_holds=0,
        adjusted_holds=0,
        finds=0,
        off_policy_truth=truth,
        off_policy_holds=0,
        off_policy_refused=0,
        interleaving_finds=dict.fromkeys(LIST_COUNTS, 0),
        whole_lists_find=dict.fromkeys(LIST_COUNTS, 0),
    )
    before = int(-visited.day.min())
    options = ExperimentOptions(
        "page", control=ARMS[0], guardrails=(), others=(), pre_days=max(before, 0)
    )
    for repetition in range(repetitions):
        rng = np.random.default_rng([2, repetition])
        drawn = draw(visited, shoppers, rng)
        with TemporaryDirectory() as folder:
            report = report_experiment(dataset(visited, drawn, Path(folder) / "shop"), options)
        (row,) = report.metrics
        found.plain_holds += holds(row.lift, visited.lift)
        found.adjusted_holds += holds(row.adjusted, visited.lift)
        found.finds += row.best.low is not None and row.best.low > 0
        interval = off_policy(visited, drawn, temperatures, rng)
        found.off_policy_refused += interval is None
        found.off_policy_holds += interval is not None and interval[0] <= truth <= interval[1]
        during = np.flatnonzero(visited.day[drawn.row] >= 0)
        for lists in LIST_COUNTS:
            if lists <= len(during):
                some = rng.choice(during, lists, replace=False)
                found.interleaving_finds[lists] += interleave(visited, drawn, some, rng)
                found.whole_lists_find[lists] += compare(visited, drawn, some)
    return found
