"""The shop's own rules for pages, and which of them are in force at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ModelError

NO_RULE: Final = -1
_DTYPES: Final[dict[str, np.dtype[np.signedinteger[Any]]]] = {
    "item": np.dtype(np.int32),
    "action": np.dtype(np.int8),
    "number": np.dtype(np.int32),
    "start": np.dtype(np.int64),
    "end": np.dtype(np.int64),
}
_ALWAYS: Final = int(np.iinfo(np.int64).min)
_FOREVER: Final = int(np.iinfo(np.int64).max)


class Action(IntEnum):
    """What a rule does with its item; the names are those of the `merchandising` table."""

    PIN = 0
    BOOST = 1
    BURY = 2


@dataclass(frozen=True)
class RuledOrder:
    """A ranking of m items after the rules; places are those of the ranking, from 0.

    Attributes:
        order: int64 (m - p,), places of what is not pinned, best first, what is buried last.
        pinned: int64 (p,), places of the pinned items, by ascending position.
        positions: int64 (p,), where they stand on the page, all different.
        applied: int8 (m,), by place, the `Action` that moved or holds the item, or `NO_RULE`.
    """

    order: NDArray[np.int64]
    pinned: NDArray[np.int64]
    positions: NDArray[np.int64]
    applied: NDArray[np.int8]


@dataclass(frozen=True)
class RulesInForce:
    """The rules that count at one moment, the one that counts more first; no item twice.

    Attributes:
        item: int32 (r,), item rows.
        action: int8 (r,), values of `Action`.
        number: int32 (r,), a pin's position, a boost's places; 0 for a bury.
    """

    item: NDArray[np.int32]
    action: NDArray[np.int8]
    number: NDArray[np.int32]

    @property
    def buried(self) -> int:
        """How many items stand behind all others."""
        return int((self.action == Action.BURY).sum())

    def pinned(self, size: int) -> NDArray[np.int32]:
        """Items with a pin to a position on a page of `size` items."""
        pins = np.flatnonzero((self.action == Action.PIN) & (self.number < size))
        return self.item[pins]

    def applied_to(self, ranked: NDArray[np.int32], size: int) -> RuledOrder:
        """Move the items of a ranking as the rules say.

        A boosted item moves up by its places, past what stands there; of several that meet, the
        better ranked goes first. Items of the ranking alone: rules on others change nothing, nor do
        pins behind the page.

        Args:
            ranked: int32 (m,), item rows, best first, none twice.
            size: items on the page.
        """
        place, action, number = self._within(ranked)
        applied = np.full(len(ranked), NO_RULE, np.int8)
        moves = action != Action.PIN
        applied[place[moves]] = action[moves]
        pins = (action == Action.PIN) & (number < size)
        positions, first = np.unique(number[pins], return_index=True)
        pinned = place[pins][first]
        applied[pinned] = Action.PIN
        height = np.arange(len(ranked), dtype=np.float64)
        boosts = action == Action.BOOST
        height[place[boosts]] -= number[boosts] + 0.5
        order = np.lexsort((height, applied == Action.BURY))
        left = order[applied[order] != Action.PIN]
        return RuledOrder(left, pinned, positions.astype(np.int64), applied)

    def _within(
        self, ranked: NDArray[np.int32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.int32]]:
        """Place, action and number of the rules on items of the ranking, in the rules' order."""
        places = np.argsort(ranked)
        ordered = ranked[places]
        near = np.searchsorted(ordered, self.item)
        found = near < np.searchsorted(ordered, self.item, side="right")
        return places[near[found]], self.action[found], self.number[found]


@dataclass(frozen=True)
class MerchandisingRules:
    """All rules of a shop, the one that counts more first.

    Of several rules in force on one item, the one that came into force last counts, at equal times
    the one with the smaller `rule_id`; a rule without `valid_from` came first of all. Of several
    pins to one position the same one counts, and the items of the others keep their ranks.

    Attributes:
        item: int32 (r,), item rows.
        action: int8 (r,), values of `Action`.
        number: int32 (r,), a pin's position, a boost's places; 0 for a bury.
        start: int64 (r,), microseconds since the epoch, UTC; the first moment in force.
        end: int64 (r,), the first moment no longer in force.
    """

    item: NDArray[np.int32]
    action: NDArray[np.int8]
    number: NDArray[np.int32]
    start: NDArray[np.int64]
    end: NDArray[np.int64]

    @classmethod
    def none(cls) -> Self:
        """No rule at all."""
        return cls(**{name: np.zeros(0, dtype) for name, dtype in _DTYPES.items()})

    @classmethod
    def of(cls, table: pl.DataFrame, item_ids: Sequence[str]) -> Self:
        """Read a `merchandising` table in any order; rules on unknown items are left out.

        Args:
            table: good rows of the contract, no `rule_id` twice; optional columns may be missing.
            item_ids: the catalogue's ids in the order of rows.
        """
        rows = pl.DataFrame({"item_id": list(item_ids)}, schema={"item_id": pl.String})
        numbers = (_column(table, name, pl.Int32()) for name in ("position", "places"))
        rules = (
            table.with_columns(
                *_spans(table),
                action=pl.col("action").replace_strict(
                    {action.name.lower(): int(action) for action in Action}, return_dtype=pl.Int8
                ),
                number=pl.coalesce(*numbers, pl.lit(0, pl.Int32)),
            )
            .join(rows.with_row_index("item"), on="item_id")
            .sort("start", "rule_id", descending=[True, False])
        )
        return cls(**{n: rules[n].to_numpy().astype(dtype) for n, dtype in _DTYPES.items()})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> Self:
        """The rules that `arrays` gave.

        Raises:
            ModelError: an array is missing or unexpected, or the arrays are of different lengths.
        """
        shapes = {name: array.shape for name, array in sorted(arrays.items())}
        if (
            set(shapes) != set(_DTYPES)
            or len({len(arrays["item"]), *map(len, arrays.values())}) > 1
        ):
            raise ModelError(
                f"merchandising rules are {', '.join(_DTYPES)} of one length; found {shapes}; "
                "train again"
            )
        return cls(**{name: arrays[name].astype(dtype) for name, dtype in _DTYPES.items()})

    def moved(self, place: NDArray[np.int64]) -> Self:
        """The rules in another catalogue; `place` has the new row of each item, -1 for none."""
        kept = place[self.item] >= 0
        columns = {name: getattr(self, name)[kept] for name in _DTYPES}
        columns["item"] = place[columns["item"]].astype(np.int32)
        return type(self)(**columns)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The arrays to save, by name."""
        return {name: getattr(self, name) for name in _DTYPES}

    def __len__(self) -> int:
        return len(self.item)

    def at(self, time: int) -> RulesInForce:
        """The rules in force at `time` (microseconds since the epoch, UTC)."""
        active = np.flatnonzero((self.start <= time) & (time < self.end))
        _, first = np.unique(self.item[active], return_index=True)
        counts = active[np.sort(first)]
        return RulesInForce(self.item[counts], self.action[counts], self.number[counts])


def overlapping_rules(table: pl.DataFrame) -> int:
    """Rules that share their item, or as pins their position, with another one at some moment.

    Args:
        table: good rows of the `merchandising` contract; optional columns may be missing.
    """
    rules = table.select(
        "rule_id", "item_id", "action", _column(table, "position", pl.Int32()), *_spans(table)
    )
    pins = rules.filter(pl.col("action") == "pin")
    meeting = [
        frame.join(frame, on=key).filter(
            pl.col("rule_id") != pl.col("rule_id_right"),
            pl.col("start") < pl.col("end_right"),
            pl.col("start_right") < pl.col("end"),
        )
        for frame, key in ((rules, "item_id"), (pins, "position"))
    ]
    return pl.concat([found["rule_id"] for found in meeting]).n_unique()


def _spans(table: pl.DataFrame) -> list[pl.Expr]:
    ends = {"start": ("valid_from", _ALWAYS), "end": ("valid_until", _FOREVER)}
    time = pl.Datetime("us", "UTC")
    return [
        _column(table, column, time).dt.epoch("us").fill_null(otherwise).alias(name)
        for name, (column, otherwise) in ends.items()
    ]


def _column(table: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Expr:
    return pl.col(name) if name in table.columns else pl.lit(None, dtype).alias(name)
