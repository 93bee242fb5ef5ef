"""A small shop with an experiment in its log: every number of it is drawn from known chances."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.tables import write_dataset

START = datetime(2030, 3, 1, tzinfo=UTC)
LIST_LENGTH = 4
ITEMS = 30


@dataclass(frozen=True)
class TestDesign:
    """What the experiment does.

    Attributes:
        shoppers: of all arms together.
        lifts: by arm: factor on click rates from the first day of the experiment on.
        weights: by arm: share of the shoppers.
        buys: by arm: factor on purchases of what was clicked.
        days: of the experiment.
        pre_days: days of the log before it.
        late_share: shoppers who have no event before the experiment.
        changed: shoppers who are seen in another arm on their last day.
        seed: of everything.
    """

    __test__ = False

    shoppers: int = 600
    lifts: dict[str, float] = field(default_factory=lambda: {"control": 1.0, "new": 1.0})
    weights: dict[str, float] = field(default_factory=dict)
    buys: dict[str, float] = field(default_factory=dict)
    days: int = 10
    pre_days: int = 10
    late_share: float = 0.2
    changed: int = 0
    seed: int = 1


def events_of(design: TestDesign) -> pl.DataFrame:
    """The log: lists of four items a visit, clicks on them, purchases of what was clicked."""
    rng = np.random.default_rng(design.seed)
    count, arms = design.shoppers, list(design.lifts)
    weight = np.array([design.weights.get(arm, 1.0) for arm in arms])
    arm = rng.choice(len(arms), count, p=weight / weight.sum())
    habit = rng.beta(2.0, 12.0, count)
    pace = rng.gamma(2.0, 0.25, count)
    late = rng.random(count) < design.late_share
    days = np.arange(-design.pre_days, design.days)
    visits = rng.poisson(np.outer(pace, np.ones(len(days))))
    visits[late, : design.pre_days] = 0
    user, place = np.nonzero(visits)
    repeats = visits[user, place]
    user, day = np.repeat(user, repeats), np.repeat(days[place], repeats)
    second = rng.integers(8 * 3600, 20 * 3600, len(user))
    shown = pl.DataFrame(
        {
            "visit": np.repeat(np.arange(len(user)), LIST_LENGTH),
            "user": np.repeat(user, LIST_LENGTH),
            "day": np.repeat(day, LIST_LENGTH),
            "second": np.repeat(second, LIST_LENGTH),
            "position": np.tile(np.arange(LIST_LENGTH), len(user)),
            "item": (rng.integers(ITEMS, size=(len(user), 1)) + np.arange(LIST_LENGTH)).ravel()
            % ITEMS,
        }
    )
    served = _served(design, arm, shown)
    lift = np.array([design.lifts[name] for name in arms])[served]
    during = (shown["day"] >= 0).to_numpy()
    chance = habit[shown["user"].to_numpy()] * np.where(during, lift, 1.0)
    clicked = rng.random(len(shown)) < chance
    buys = np.array([design.buys.get(name, 1.0) for name in arms])[served]
    bought = clicked & (rng.random(len(shown)) < 0.3 * np.where(during, buys, 1.0))
    labels = np.where(during, np.array([f"test/{name}" for name in arms])[served], "")
    price = rng.lognormal(2.5, 0.6, len(shown)).round(2)
    shown = shown.with_columns(label=pl.Series(labels), price=pl.Series(price))
    return _rows(shown, clicked, bought)


def _served(design: TestDesign, arm: NDArray[np.int64], shown: pl.DataFrame) -> NDArray[np.int64]:
    """The arm of each impression: the shopper's own, another on the last visit of changed ones."""
    user = shown["user"].to_numpy()
    last = shown.select(pl.col("day") == pl.col("day").max().over("user"))["day"].to_numpy()
    other = (arm + 1) % len(design.lifts)
    return np.asarray(np.where(last & (user < design.changed), other[user], arm[user]))


def _rows(
    shown: pl.DataFrame, clicked: NDArray[np.bool_], bought: NDArray[np.bool_]
) -> pl.DataFrame:
    parts = []
    for name, wanted, delay in (
        ("impression", np.ones(len(shown), bool), 0),
        ("click", clicked, 20),
        ("purchase", bought, 300),
    ):
        rows = shown.with_row_index("row").filter(pl.Series(wanted))
        seconds = pl.col("day").cast(pl.Int64) * 86_400 + pl.col("second") + delay
        is_shown = name == "impression"
        parts.append(
            rows.select(
                event_id=pl.concat_str(pl.lit(name), pl.lit("-"), "row"),
                user_id=pl.concat_str(pl.lit("u"), "user"),
                item_id=pl.concat_str(pl.lit("i"), "item"),
                event_type=pl.lit(name),
                event_time=(pl.lit(START) + pl.duration(seconds=seconds)).cast(
                    pl.Datetime("us", "UTC")
                ),
                attribution_token=pl.concat_str(pl.lit("t"), "visit"),
                position=pl.col("position").cast(pl.Int32),
                price=pl.when(pl.lit(name == "purchase")).then("price"),
                quantity=pl.lit(2 if name == "purchase" else None, pl.Int32),
                experiment_arm=pl.when(pl.lit(is_shown) & (pl.col("label") != "")).then("label"),
            )
        )
    return pl.concat(parts).sort("event_time", "event_id")


def write_shop(folder: Path, events: pl.DataFrame) -> Path:
    """The dataset of a log, with a users table that names a country."""
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": "thing"})
    users = events.select(pl.col("user_id").unique().sort()).with_columns(
        country=pl.when(pl.col("user_id").hash(3) % 3 == 0)
        .then(pl.lit("NZ"))
        .otherwise(pl.lit("AU"))
    )
    write_dataset(folder, items, [events], users)
    return folder


def last_moment(design: TestDesign) -> datetime:
    """The end of the experiment."""
    return START + timedelta(days=design.days)
