"""The simulated shop: its tables, and the truth behind them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ValidationError

from recsys.errors import DataError, FileFormatError
from recsys.simulation.behaviour import Behaviour, draw_waves
from recsys.simulation.catalogue import make_catalogue
from recsys.simulation.config import SimulationConfig
from recsys.simulation.diary import Diary
from recsys.simulation.oracle import LastPurchases, exposure, last_purchases, rebuy_probability
from recsys.simulation.shoppers import make_shoppers
from recsys.simulation.visitors import Visitors

ORACLE_FILE: Final = "oracle.json"
_VERSION: Final = 1


class SimulatedShop:
    """A shop made from a configuration and a seed: the same pair makes the same shop and events.

    Rows of users and items are places in `user_ids` and `item_ids`, which are sorted. Days are
    counted from midnight UTC of the first day: 0.5 is its noon.

    Args:
        config: size and nature of the shop.
        seed: of every random choice.
    """

    def __init__(self, config: SimulationConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        catalogue = make_catalogue(config, seed)
        shoppers = make_shoppers(config, seed)
        waves = draw_waves(seed)
        self._behaviour = Behaviour(config.behaviour, config.start, catalogue, shoppers, waves)
        self._start = datetime.combine(config.start, time(), UTC)

    @classmethod
    def from_dataset(cls, folder: Path) -> Self | None:
        """The shop that made a dataset; None when the dataset is not a simulated one.

        Raises:
            FileFormatError: the dataset's `oracle.json` can't be read or is of another version.
        """
        path = folder / ORACLE_FILE
        if not path.exists():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            version, seed = document["version"], int(document["seed"])
            config = SimulationConfig.model_validate(document["config"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise FileFormatError(
                f"{path}: not the description of a simulated shop ({error}); "
                "simulate the dataset again"
            ) from error
        if version != _VERSION:
            raise FileFormatError(
                f"{path}: has version {version}, this program reads {_VERSION}; "
                "simulate the dataset again"
            )
        return cls(config, seed)

    def document(self) -> Mapping[str, object]:
        """What `from_dataset` needs, for a file named `ORACLE_FILE` in the dataset's folder."""
        return {
            "version": _VERSION,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json"),
        }

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items' ids by row, sorted; arrivals of all days included."""
        return self._behaviour.catalogue.item_ids

    @property
    def user_ids(self) -> tuple[str, ...]:
        """The shoppers' ids by row, sorted."""
        return self._behaviour.shoppers.user_ids

    @property
    def item_features(self) -> NDArray[np.float32]:
        """float32 (items, features), in the order of `item_ids`: what tastes are about."""
        return self._behaviour.catalogue.features

    def items(self, until_day: int | None = None) -> pl.DataFrame:
        """The `items` table (`created_at` says from when an item is there).

        Args:
            until_day: items that arrive on this day or later are left out; None takes those of all
                days simulated, and leaves out those of the later ones.
        """
        table = self._behaviour.catalogue.table(self._start)
        until = self.config.days if until_day is None else until_day
        return table.filter(pl.lit(self._behaviour.catalogue.created_day < until))

    def users(self) -> pl.DataFrame:
        """The `users` table: `user_id` and `joined_at`."""
        joined = self._behaviour.shoppers.joined_day
        table = pl.DataFrame({"user_id": self.user_ids, "joined": joined})
        joined_at = pl.lit(self._start) + pl.duration(days=pl.col("joined"))
        return table.select("user_id", joined_at=joined_at.cast(pl.Datetime("us", "UTC")))

    def days(self) -> Iterator[pl.DataFrame]:
        """The events, a frame a day in order of time; `events` contract."""
        diary = Diary(self.config, self.seed, self._behaviour)
        return (diary.next_day(day) for day in range(self.config.days))

    def visitors(self, seed: int, purchases: LastPurchases) -> Visitors:
        """The shoppers, for a shop front of another's making; see `Visitors`."""
        return Visitors(self.config, (self.seed, seed), self._behaviour, purchases)

    def day_of(self, moment: datetime) -> float:
        """Days from the shop's first midnight to a moment; negative before it.

        Raises:
            DataError: `moment` has no time zone.
        """
        if moment.tzinfo is None:
            raise DataError(f"{moment} has no time zone; give one, such as UTC")
        return (moment - self._start) / timedelta(days=1)

    def moment(self, day: int) -> datetime:
        """Midnight UTC of a day, the inverse of `day_of`."""
        return self._start + timedelta(days=day)

    def user_rows(self, user_ids: Sequence[str]) -> NDArray[np.int64]:
        """int64 (n,): the row of each shopper.

        Raises:
            DataError: an id is not of this shop.
        """
        return _rows(user_ids, self.user_ids, "shopper")

    def item_rows(self, item_ids: Sequence[str]) -> NDArray[np.int64]:
        """int64 (n,): the row of each item.

        Raises:
            DataError: an id is not of this shop.
        """
        return _rows(item_ids, self.item_ids, "item")

    def click_probability(
        self, users: NDArray[np.int64], items: NDArray[np.int64], day: float
    ) -> NDArray[np.float32]:
        """float32 (n, m): chance of a click on an item that the shopper looks at in a list.

        Every user row against every item row. What the shopper did before does not matter.
        """
        return self._behaviour.click(self._behaviour.affinity(users, items, day))

    def purchase_probability(
        self, users: NDArray[np.int64], items: NDArray[np.int64], day: float
    ) -> NDArray[np.float32]:
        """float32 (n, m): chance that an item that the shopper looks at in a list is bought."""
        return self._behaviour.purchase(self._behaviour.affinity(users, items, day))

    def examination_probability(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """float64 (n,): chance that a 0-based position of a list is looked at."""
        return self._behaviour.examination(positions)

    def last_purchases(self, events: pl.LazyFrame) -> LastPurchases:
        """Last purchase of each (shopper, item) pair of an `events` table.

        Re-buys follow from it; the caller leaves out events that should not be known.
        """
        users, items = pl.Series(self.user_ids), pl.Series(self.item_ids)
        frame = last_purchases(events, users, items)
        since = frame["event_time"] - pl.Series([self._start]).cast(pl.Datetime("us", "UTC"))
        return LastPurchases(
            user=frame["user"].to_numpy().astype(np.int64),
            item=frame["item"].to_numpy().astype(np.int64),
            day=since.dt.total_days().to_numpy().astype(np.int64),
        )

    def rebuy_probability(
        self, purchases: LastPurchases, day_from: float, day_to: float
    ) -> NDArray[np.float32]:
        """float32 (n,): chance that each pair is bought again in a period, as for `oracle_scores`.

        Given that it was not bought since; 0 for what lasts and for purchases after the start.
        """
        return rebuy_probability(self._behaviour, purchases, _whole_days(day_from, day_to))

    def oracle_scores(
        self,
        users: NDArray[np.int64],
        day_from: float,
        day_to: float,
        purchases: LastPurchases | None = None,
    ) -> NDArray[np.float32]:
        """Expected purchases in a period: the ceiling for rankings of the next period.

        Expected times that the shopper looks at the item (approximate, see `oracle.exposure`) times
        the exact purchase probability in the middle of the period; plus, where `purchases` has the
        pair, its exact chance of a re-buy.

        Args:
            users: int64 (n,), user rows.
            day_from: start of the period, rounded down to a day.
            day_to: end of the period, exclusive, rounded up.
            purchases: what was bought before the period; None leaves re-buys out.

        Returns:
            float32 (n, items), columns in the order of `item_ids`; 0 for items that arrive later.
        """
        days = _whole_days(day_from, day_to)
        items = np.arange(len(self.item_ids))
        scores = exposure(self.config, self._behaviour, users, days)
        scores *= self.purchase_probability(users, items, (days.start + days.stop) / 2)
        if purchases is not None:
            chance = rebuy_probability(self._behaviour, purchases, days)
            place = np.full(len(self.user_ids), -1)
            place[users] = np.arange(len(users))
            asked = place[purchases.user] >= 0
            pairs = place[purchases.user[asked]], purchases.item[asked]
            np.add.at(scores, pairs, chance[asked])
        return scores


def _whole_days(day_from: float, day_to: float) -> range:
    days = range(math.floor(day_from), math.ceil(day_to))
    if not days:
        raise DataError(f"the period from day {day_from} to day {day_to} is empty; end it later")
    return days


def _rows(ids: Sequence[str], known: Sequence[str], what: str) -> NDArray[np.int64]:
    rows = {name: row for row, name in enumerate(known)}
    unknown = [name for name in ids if name not in rows]
    if unknown:
        raise DataError(f"{what} {unknown[0]!r} is not of this simulated shop; check the dataset")
    return np.array([rows[name] for name in ids], np.int64)
