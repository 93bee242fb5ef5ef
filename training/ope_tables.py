"""Reading logged decisions and a target policy, and refusing what can't be meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import ColumnTypeError, DataError, EmptyTableError, MissingColumnError
from recsys.tables import check_parquet

SITUATION: Final = ("context", "position")
"""What the target policy's probabilities may depend on."""

_SUM_TOLERANCE: Final = 1e-4
_MOST_CELLS: Final = 20_000_000
_TEXT = pl.String()
_NUMBER = pl.Float64()


@dataclass(frozen=True)
class TargetPolicy:
    """Probabilities of all actions in all situations.

    Attributes:
        keys: those of `SITUATION` that the probabilities depend on.
        situations: the keys and the number `situation`, one row each; without keys a single row.
        actions: ids, by number.
        probability: float64 (situations, actions), rows sum to 1.
    """

    keys: tuple[str, ...]
    situations: pl.DataFrame
    actions: pl.Series
    probability: NDArray[np.float64]


def read_columns(
    path: Path, required: Mapping[str, pl.DataType], optional: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    """Columns of a parquet file in the types given; others are left out.

    Raises:
        DataError: the file is missing or damaged, has no rows, lacks a required column, has a null
            in any of them, or a column that is not of its type.
    """
    check_parquet(path)
    found = pl.read_parquet_schema(path)
    missing = [name for name in required if name not in found]
    if missing:
        raise MissingColumnError(
            f"{path}: lacks the column {', '.join(missing)}; found {', '.join(found)}"
        )
    wanted = {name: to for name, to in {**required, **optional}.items() if name in found}
    for name, to in wanted.items():
        fits = found[name].is_numeric() or (to == _TEXT and found[name] in {pl.String, pl.Boolean})
        if not fits and not isinstance(found[name], pl.Categorical | pl.Enum):
            raise ColumnTypeError(f"{path}: column {name} is {found[name]}, expected {to}")
    frame = pl.read_parquet(path, columns=list(wanted)).select(
        pl.col(name).cast(to) for name, to in wanted.items()
    )
    if frame.is_empty():
        raise EmptyTableError(f"{path}: has no rows")
    for name in frame.columns:
        if frame[name].null_count():
            raise DataError(
                f"{path}: column {name} is empty in {frame[name].null_count():,} rows; "
                "fill or drop them: rows that are missing by chance are safe to drop, others not"
            )
    return frame


def read_decisions(path: Path, *, with_target: bool) -> pl.DataFrame:
    """Columns `action`, `reward`, `propensity`; `target_probability` unless a table gives it.

    Besides, if they are there: `position`, `context`, `cluster`.

    Raises:
        DataError: see `read_columns`; or a probability or reward that can't be one.
    """
    required: dict[str, pl.DataType] = {
        "action": _TEXT,
        "reward": _NUMBER,
        "propensity": _NUMBER,
    }
    if not with_target:
        required |= {"target_probability": _NUMBER}
    optional = dict.fromkeys((*SITUATION, "cluster"), _TEXT)
    frame = read_columns(path, required, optional)
    in_range(frame, path, "propensity", lowest_allowed=False)
    if not with_target:
        in_range(frame, path, "target_probability", lowest_allowed=True)
    if not frame["reward"].is_finite().all():
        raise DataError(f"{path}: column reward has values that are not finite")
    return frame


def in_range(frame: pl.DataFrame, path: Path, name: str, *, lowest_allowed: bool) -> None:
    """Check a column of probabilities.

    Raises:
        DataError: a value is no probability, or is 0 where that is impossible.
    """
    column = frame[name]
    good = column.is_between(0, 1, closed="both" if lowest_allowed else "right")
    if not good.all():
        wrong = column.filter(~good)
        bounds = "from 0 to 1" if lowest_allowed else "above 0, at most 1"
        raise DataError(
            f"{path}: column {name} has {len(wrong):,} values that are no probability "
            f"({bounds}), such as {wrong[0]}"
        )


def read_target(path: Path, present: Collection[str]) -> TargetPolicy:
    """The target policy's table: `action`, `probability`, and what they depend on.

    Args:
        path: parquet with one row an action in a situation; actions left out have probability 0.
        present: columns of the logged decisions, which must have what the table depends on.

    Raises:
        DataError: see `read_columns`; or probabilities that don't sum to 1, an action twice in a
            situation, or a key that the decisions lack.
    """
    required: dict[str, pl.DataType] = {"action": _TEXT, "probability": _NUMBER}
    frame = read_columns(path, required, dict.fromkeys(SITUATION, _TEXT))
    in_range(frame, path, "probability", lowest_allowed=True)
    keys = tuple(name for name in SITUATION if name in frame.columns)
    absent = [name for name in keys if name not in present]
    if absent:
        raise DataError(f"{path}: depends on {absent[0]}, which the logged decisions lack")
    frame = frame.with_columns(key=pl.struct(*keys) if keys else pl.lit(0))
    situations = frame.select(*keys, "key").unique(maintain_order=True).with_row_index("situation")
    actions = frame["action"].unique(maintain_order=True)
    if len(situations) * len(actions) > _MOST_CELLS:
        raise DataError(
            f"{path}: {len(situations):,} situations times {len(actions):,} actions are more than "
            f"{_MOST_CELLS:,}; make the context coarser, or give target_probability on the "
            "logged decisions instead"
        )
    row = frame.join(situations, on="key", maintain_order="left")["situation"].to_numpy()
    place = frame["action"].cast(pl.Enum(actions)).to_physical().to_numpy()
    if len(np.unique(row.astype(np.int64) * len(actions) + place)) < len(frame):
        raise DataError(f"{path}: an action stands twice in the same situation; sum them up")
    probability = np.zeros((len(situations), len(actions)))
    probability[row, place] = frame["probability"].to_numpy()
    off = np.abs(probability.sum(axis=1) - 1).max()
    if off > _SUM_TOLERANCE:
        raise DataError(
            f"{path}: probabilities sum to 1 in every situation, but are off by {off:.3g} in one"
        )
    return TargetPolicy(keys, situations, actions, probability)
