"""Who was in which arm of an experiment, from when on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.experiments import UNNAMED, read_labels

CONTROL: Final = "control"
"""Arm that others are compared with, if there is one of that name and none is chosen."""

LIST: Final = "attribution_token"
"""Column that is equal for what one answer showed."""

_HASH_SEED: Final = 1

INTERLEAVED_SHARE: Final = 0.5
"""Share of lists with several arms from which on an experiment is an interleaved one."""


@dataclass(frozen=True)
class Labels:
    """Impressions that carry a label of the experiment, once each, in order of time.

    Attributes:
        frame: `event` and `attribution_token` (numbers, see `numbered`; a token is null where the
            log has none), `user_id`, `event_time` and `arm`.
        interleaved: whether most lists hold several arms.
    """

    frame: pl.DataFrame
    interleaved: bool


@dataclass(frozen=True)
class Exposure:
    """The n shoppers that count, sorted by id, and those that don't.

    Attributes:
        arms: names, control first, then by name.
        shoppers: columns `user_id`, `user` (row number), `arm` (place in `arms`) and
            `exposed` (time of the first labelled impression).
        sizes: int64 (arms,), shoppers by the arm that they were in first, changed ones included.
        changed: shoppers with labels of several arms; they are left out of `shoppers`.
    """

    arms: tuple[str, ...]
    shoppers: pl.DataFrame
    sizes: NDArray[np.int64]
    changed: int

    @property
    def arm(self) -> NDArray[np.int64]:
        """int64 (n,): each shopper's arm."""
        return self.shoppers["arm"].to_numpy().astype(np.int64)

    @property
    def start(self) -> datetime:
        """The first labelled impression."""
        first = self.shoppers["exposed"].min()
        assert isinstance(first, datetime)  # noqa: S101  (there is a shopper, and it is a time)
        return first


def numbered(name: str) -> pl.Expr:
    """A text column as hashes of 64 bits, which take a fraction of the memory; null stays null."""
    column = pl.col(name)
    return pl.when(column.is_not_null()).then(column.hash(_HASH_SEED)).alias(name)


def read_labelled(
    folder: Path, events: pl.LazyFrame, experiment: str, end: datetime | None
) -> Labels:
    """The labelled impressions of an experiment before `end`.

    Raises:
        DataError: the events carry no labels, none of this experiment, or none on impressions.
    """
    present = events.collect_schema().names()
    if "experiment_arm" not in present:
        raise DataError(
            f"{folder}: the events have no column experiment_arm; log each impression with the "
            "label 'experiment/arm' of its shopper"
        )
    labelled = (
        events.drop_nulls("experiment_arm")
        .select(
            numbered("event_id").alias("event"),
            "user_id",
            "event_time",
            "experiment_arm",
            pl.col("event_type").cast(pl.String),
            numbered(LIST) if LIST in present else pl.lit(None, pl.UInt64).alias(LIST),
        )
        .sort("event_time", "event")
        .unique("event", keep="first", maintain_order=True)
        .collect()
    )
    arms = _arms(folder, labelled, experiment)
    found = labelled.join(arms, on="experiment_arm", maintain_order="left")
    if end is not None:
        found = found.filter(pl.col("event_time") < end)
    shown = found.filter(pl.col("event_type") == "impression")
    if shown.is_empty():
        raise DataError(
            f"{folder}: {len(found):,} events of experiment {experiment!r} in the period, but no "
            "impression: who was exposed can't be told from clicks or purchases, which an arm "
            "changes; log impressions with the label"
        )
    lists = shown.drop_nulls(LIST).group_by(LIST).agg(arms=pl.col("arm").n_unique())
    mixed = (lists["arms"] > 1).sum() / max(len(lists), 1)
    return Labels(shown.drop("event_type", "experiment_arm"), mixed > INTERLEAVED_SHARE)


def _arms(folder: Path, labelled: pl.DataFrame, experiment: str) -> pl.DataFrame:
    """The arm of this experiment by text of the column; texts without one left out."""
    texts = labelled["experiment_arm"].unique().sort().to_list()
    read = {text: read_labels(text) for text in texts}
    found = {text: arms[experiment] for text, arms in read.items() if experiment in arms}
    if not found:
        known = sorted({name for arms in read.values() for name in arms})
        others = f"it has {', '.join(known)}" if known else "no event carries a label"
        if UNNAMED in known:
            others += f" (labels without '/' are arms of {UNNAMED!r})"
        raise DataError(f"{folder}: has no experiment {experiment!r}; {others}")
    return pl.DataFrame({"experiment_arm": list(found), "arm": list(found.values())})


def exposure(labels: Labels, experiment: str, control: str | None) -> Exposure:
    """Shoppers by arm; those with labels of several arms are counted and left out.

    Raises:
        DataError: there is one arm only, or no arm `control`, or nobody is left in an arm.
    """
    arms = _ordered(sorted(labels.frame["arm"].unique()), experiment, control)
    order = pl.Enum(arms)
    shoppers = (
        labels.frame.with_columns(arm=pl.col("arm").cast(order).to_physical().cast(pl.Int64))
        .group_by("user_id")
        .agg(
            first=pl.col("arm").first(),
            exposed=pl.col("event_time").min(),
            arms=pl.col("arm").n_unique(),
        )
        .sort("user_id")
    )
    sizes = np.bincount(shoppers["first"].to_numpy(), minlength=len(arms)).astype(np.int64)
    kept = shoppers.filter(pl.col("arms") == 1).select(
        "user_id", pl.int_range(pl.len()).alias("user"), "exposed", arm="first"
    )
    missing = set(range(len(arms))) - set(kept["arm"].unique())
    if missing:
        raise DataError(
            f"experiment {experiment!r}: nobody is left in the arm {arms[min(missing)]!r}, because "
            "its shoppers were in other arms, too; assignment must be sticky"
        )
    return Exposure(tuple(arms), kept, sizes, len(shoppers) - len(kept))


def _ordered(arms: list[str], experiment: str, control: str | None) -> list[str]:
    if len(arms) < 2:  # noqa: PLR2004
        raise DataError(
            f"experiment {experiment!r}: all impressions are of the arm {arms[0]!r}; there is "
            "nothing to compare it with"
        )
    if control is not None and control not in arms:
        raise DataError(
            f"experiment {experiment!r}: has no arm {control!r}; it has {', '.join(arms)}"
        )
    base = control or (CONTROL if CONTROL in arms else arms[0])
    return [base, *(arm for arm in arms if arm != base)]
