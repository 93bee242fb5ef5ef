"""Lists of a dataset's impressions as arrays, and what a target policy makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ConfigurationError, DataError, EmptyTableError
from recsys.off_policy import (
    FOLDS,
    NO_ITEM,
    RankedCandidates,
    Slates,
    SmoothedMeans,
    plackett_luce,
)
from recsys.tables import Dataset
from training.clicked_impressions import clicked_impressions
from training.ope_tables import in_range, read_columns

LIST: Final = "attribution_token"
_NEEDED: Final = (LIST, "position", "propensity")
_MODEL: Final = ("predicted", "expected")


@dataclass(frozen=True)
class LoggedLists:
    """n lists in order of their tokens.

    Attributes:
        frame: an impression a row, in order of list and position: `event_id`, `item`,
            `attribution_token`, `position`, `propensity`, `clicked`.
        row: int64 (impressions,), list of each impression.
        shopper: int64 (n,), numbers from 0 on.
        left_out: impressions that are in no list: without token, position or propensity, or below a
            gap in their list.
    """

    frame: pl.DataFrame
    row: NDArray[np.int64]
    shopper: NDArray[np.int64]
    left_out: int

    @property
    def position(self) -> NDArray[np.int64]:
        """int64 (impressions,), from 0."""
        return self.frame["position"].to_numpy().astype(np.int64)

    def laid_out(self, values: NDArray[np.float64], empty: float) -> NDArray[np.float64]:
        """float64 (n, positions): values by list and position, `empty` behind a list's end."""
        table = np.full((len(self.shopper), int(self.position.max()) + 1), empty)
        table[self.row, self.position] = values
        return table

    def column(self, name: str, empty: float) -> NDArray[np.float64]:
        """A column of `frame`, laid out."""
        return self.laid_out(self.frame[name].cast(pl.Float64).to_numpy(), empty)


@dataclass(frozen=True)
class TargetLists:
    """What a target policy makes of logged lists.

    Attributes:
        slates: rewards, and both policies' probabilities.
        model: predicted and expected values for `cascade_doubly_robust`; None without a model.
        unlogged: share of the target's probability on items in none of the lists; None where only
            its probability of what was shown is known.
    """

    slates: Slates
    model: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    unlogged: float | None


def read_lists(folder: Path, depth: int | None) -> LoggedLists:
    """The impressions of a dataset that make up lists, down to `depth` positions.

    Raises:
        DataError: the events lack a column, or no impression has all that is needed.
    """
    events = Dataset(folder).scan_events()
    absent = [name for name in _NEEDED if name not in events.collect_schema()]
    if absent:
        raise DataError(
            f"{folder}: the events lack {', '.join(absent)}; impressions must be logged with what "
            "the policy's probability of them was"
        )
    frame = clicked_impressions(events, ("position", "propensity"))
    if depth is not None:
        frame = frame.filter(pl.col("position").is_null() | (pl.col("position") < depth))
    known = frame.drop_nulls(_NEEDED).unique([LIST, "position"], keep="first", maintain_order=True)
    place = pl.int_range(pl.len()).over(LIST)
    found = known.sort(LIST, "position").filter(pl.col("position") == place)
    if found.is_empty():
        raise EmptyTableError(
            f"{folder}: no impression has an attribution_token, a propensity and a position, "
            "from 0 on"
        )
    row = _numbers(found[LIST])
    shopper = np.zeros(int(row.max()) + 1, np.int64)
    shopper[row] = _numbers(found["user_id"])
    return LoggedLists(found, row, shopper, len(frame) - len(found))


def read_target_lists(lists: LoggedLists, target: Path, temperature: float) -> TargetLists:
    """Read the target policy, in one of two forms.

    Args:
        lists: what was logged.
        target: parquet, either with `event_id` and the `probability` of each impression's item
            given the items above it (and perhaps `predicted` and `expected` of a model); or with
            `attribution_token`, `item_id` and `score` of all candidates of each list, from which
            items are drawn one after the other with weights `exp(score / temperature)`.
        temperature: above 0; for the second form.

    Raises:
        DataError: the table can't be used, or leaves out some of what was logged.
        ConfigurationError: `temperature` is not above 0.
    """
    if not temperature > 0:
        raise ConfigurationError(f"a temperature is above 0, found {temperature}")
    if target.is_file() and "score" in pl.read_parquet_schema(target):
        return _by_scores(lists, target, temperature)
    return _by_event(lists, target)


def _by_event(lists: LoggedLists, target: Path) -> TargetLists:
    policy = read_columns(
        target,
        {"event_id": pl.String(), "probability": pl.Float64()},
        dict.fromkeys(_MODEL, pl.Float64()),
    )
    in_range(policy, target, "probability", lowest_allowed=True)
    if policy["event_id"].is_duplicated().any():
        raise DataError(f"{target}: an event_id stands in two rows")
    joined = lists.frame.join(policy, on="event_id", how="left", maintain_order="left")
    missing = joined.filter(pl.col("probability").is_null())
    if len(missing):
        raise DataError(
            f"{target}: says nothing of {len(missing):,} of {len(joined):,} impressions, such as "
            f"{missing['event_id'][0]!r}; give the target policy's probability of every one, 0 "
            "where it would never show it"
        )

    def laid_out(name: str, empty: float) -> NDArray[np.float64]:
        return lists.laid_out(joined[name].to_numpy(), empty)

    slates = Slates(
        lists.column("clicked", 0.0), lists.column("propensity", 1.0), laid_out("probability", 1.0)
    )
    has_model = all(name in policy.columns for name in _MODEL)
    model = (laid_out("predicted", 0.0), laid_out("expected", 0.0)) if has_model else None
    return TargetLists(slates, model, None)


def _by_scores(lists: LoggedLists, target: Path, temperature: float) -> TargetLists:
    """With a model of clicks by position and item, fitted on other shoppers' lists."""
    candidates, shown = _candidates(lists, target, temperature)
    reward = lists.column("clicked", 0.0)
    fold = lists.shopper % FOLDS
    place, there = np.broadcast_to(np.arange(shown.shape[1]), shown.shape), shown != NO_ITEM
    folds = np.broadcast_to(fold[:, None], shown.shape)
    shape = shown.shape[1], candidates.items
    model = SmoothedMeans.fit(place[there], shown[there], reward[there], folds[there], shape)
    predicted = np.where(there, model.of_rows(place, np.maximum(shown, 0), folds), 0.0)
    own_fold = fold[candidates.slate]
    probability, expected = plackett_luce(
        candidates, shown, lambda at: model.by_cell[own_fold, at, candidates.item]
    )
    seen = np.zeros(candidates.items, np.bool_)
    seen[shown[there]] = True
    never = candidates.sums(candidates.weight * ~seen[candidates.item])
    unlogged = float((never / candidates.sums(candidates.weight)).mean())
    slates = Slates(reward, lists.column("propensity", 1.0), probability)
    return TargetLists(slates, (predicted, expected), unlogged)


def _candidates(
    lists: LoggedLists, target: Path, temperature: float
) -> tuple[RankedCandidates, NDArray[np.int64]]:
    """The target's candidates in the lists' order, and what was shown as the same numbers."""
    text = pl.String()
    table = read_columns(target, {LIST: text, "item_id": text, "score": pl.Float64()}, {})
    if not table["score"].is_finite().all():
        raise DataError(f"{target}: column score has values that are not finite")
    tokens = lists.frame.select(LIST).unique(maintain_order=True).with_row_index("list")
    kept = table.join(tokens, on=LIST)
    missing = tokens.join(table, on=LIST, how="anti")
    if len(missing):
        raise DataError(
            f"{target}: has no candidates for {len(missing):,} of {len(tokens):,} lists, such as "
            f"{missing[LIST][0]!r}"
        )
    if kept.select(LIST, "item_id").is_duplicated().any():
        raise DataError(f"{target}: an item stands twice among the candidates of a list")
    names = pl.concat([kept["item_id"], lists.frame["item"].alias("item_id")]).unique().sort()
    number = pl.col("item_id").cast(pl.Enum(names)).to_physical().cast(pl.Int64)
    top = pl.col("score").max().over("list")
    kept = kept.with_columns(
        item=number, weight=((pl.col("score") - top) / temperature).exp()
    ).sort("list", "item")
    kept = kept.filter(pl.col("weight") > 0)
    shown = lists.laid_out(
        lists.frame.select(item_id="item").select(number)["item_id"].cast(pl.Float64).to_numpy(),
        float(NO_ITEM),
    ).astype(np.int64)
    candidates = RankedCandidates(
        slate=kept["list"].to_numpy().astype(np.int64),
        item=kept["item"].to_numpy(),
        weight=kept["weight"].to_numpy(),
        slates=len(tokens),
        items=len(names),
    )
    return candidates, shown


def _numbers(column: pl.Series) -> NDArray[np.int64]:
    return column.rank("dense").to_numpy().astype(np.int64) - 1
