"""Off-policy evaluation of the lists that a dataset's impressions record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import DataError, EmptyTableError
from recsys.off_policy import (
    Overlap,
    Slates,
    cascade_doubly_robust,
    independent_ips,
    overlap,
    policy_value,
    pseudo_inverse,
    reward_interaction_ips,
    standard_ips,
)
from recsys.tables import Dataset
from training.clicked_impressions import clicked_impressions
from training.ope_report import OffPolicyReport, OverlapRow, ValueRow, gain_row, value_rows
from training.ope_tables import in_range, read_columns

_NEEDED: Final = ("attribution_token", "position", "propensity")
_MODEL: Final = ("predicted", "expected")


@dataclass(frozen=True)
class SlateOptions:
    """How lists are read.

    Attributes:
        depth: positions that count, from the top; None for all.
        factored: whether both policies fill every position whatever is above it, so that the
            probabilities are of the position alone.
    """

    depth: int | None = None
    factored: bool = False


@dataclass(frozen=True)
class _Read:
    slates: Slates
    cluster: NDArray[np.int64]
    model: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    left_out: int


def evaluate_slates(folder: Path, target: Path, options: SlateOptions) -> OffPolicyReport:
    """Estimate how many clicks a list another ranking policy would have earned, or say why not.

    A list is the impressions of one `attribution_token` with positions and propensities: the
    logging policy's probability of the item at its position, given the items above it. A position
    earns 1 if its impression was clicked, by the rule of the data contract.

    Args:
        folder: a dataset.
        target: parquet with `event_id` of the impressions and the target policy's `probability` of
            the same item, given the same items above it; optional `predicted` and `expected` of a
            reward model, see `cascade_doubly_robust`.
        options: how lists are read.

    Raises:
        DataError: a table can't be used, or the target says nothing of a logged impression.
    """
    read = _read(_impressions(folder, target, options.depth))
    positions = read.slates.reward.shape[1]
    deepest = [overlap(read.slates.slate_weights[:, at]) for at in range(positions)]
    alone = [overlap(read.slates.position_weights[:, at]) for at in range(positions)]
    found = min(alone if options.factored else deepest, key=lambda one: one.effective)
    reasons = [] if found.answer != "refuse" else found.reasons_to_refuse
    if reasons and not options.factored:
        reasons[-1] += _advice(deepest)
    headline = "iips" if options.factored else "cascade_dr" if read.model else "rips"
    estimated = {} if reasons else _contributions(read, deepest[-1], factored=options.factored)
    earned = read.slates.reward.sum(axis=1)
    return OffPolicyReport(
        source=str(folder),
        kind="slates",
        clusters=len(np.unique(read.cluster)),
        positions=positions,
        overlap=OverlapRow.of(found),
        answer=found.answer,
        reasons=tuple(reasons),
        warnings=tuple(found.warnings),
        logged=ValueRow.of("logged", policy_value(earned, read.cluster)),
        headline=headline,
        estimates=value_rows(estimated, read.cluster),
        gain=gain_row(estimated, headline, earned, read.cluster),
        notes=_notes(read, options),
    )


def _contributions(
    read: _Read, whole: Overlap, *, factored: bool
) -> dict[str, NDArray[np.float64]]:
    """Estimators that the data can carry; those of whole lists only where their weights allow."""
    slates = read.slates
    found: dict[str, NDArray[np.float64]] = {}
    if whole.answer != "refuse":
        found |= {"sips": standard_ips(slates), "rips": reward_interaction_ips(slates)}
        if read.model is not None:
            found["cascade_dr"] = cascade_doubly_robust(slates, *read.model)
    if factored:
        found |= {"iips": independent_ips(slates), "pi": pseudo_inverse(slates)}
    return found


def _advice(deepest: list[Overlap]) -> str:
    """How many positions could be answered for, counted from the top."""
    fit = [at for at, one in enumerate(deepest, start=1) if one.answer != "refuse"]
    return f"; the first {max(fit)} positions alone can be answered for (--depth)" if fit else ""


def _notes(read: _Read, options: SlateOptions) -> tuple[str, ...]:
    notes = ["a list's value is its clicks; shoppers are what varies"]
    if not options.factored:
        notes.append("probabilities are taken as given the items above (Plackett-Luce)")
    if read.left_out:
        notes.append(
            f"{read.left_out:,} impressions without token, position or propensity, or below a gap "
            "in their list, are left out"
        )
    return tuple(notes)


def _impressions(folder: Path, target: Path, depth: int | None) -> pl.DataFrame:
    """Impressions with their clicks and target probabilities, and how many were left out."""
    events = Dataset(folder).scan_events()
    absent = [name for name in _NEEDED if name not in events.collect_schema()]
    if absent:
        raise DataError(
            f"{folder}: the events lack {', '.join(absent)}; impressions must be logged with what "
            "the policy's probability of them was"
        )
    frame = clicked_impressions(events, ("position", "propensity"))
    if frame.is_empty():
        raise EmptyTableError(f"{folder}: has no impression to evaluate")
    policy = read_columns(
        target,
        {"event_id": pl.String(), "probability": pl.Float64()},
        dict.fromkeys(_MODEL, pl.Float64()),
    )
    in_range(policy, target, "probability", lowest_allowed=True)
    if policy["event_id"].is_duplicated().any():
        raise DataError(f"{target}: an event_id stands in two rows")
    ranked = _lists(frame, depth)
    joined = ranked.join(policy, on="event_id", how="left", maintain_order="left")
    missing = joined["probability"].null_count()
    if missing:
        raise DataError(
            f"{target}: says nothing of {missing:,} of {len(joined):,} impressions, such as "
            f"{joined.filter(pl.col('probability').is_null())['event_id'][0]!r}; give the target "
            "policy's probability of every one, 0 where it would never show it"
        )
    whole = frame if depth is None else frame.filter(pl.col("position") < depth)
    return joined.with_columns(left_out=pl.lit(len(whole) - len(ranked)))


def _lists(frame: pl.DataFrame, depth: int | None) -> pl.DataFrame:
    """Rows of lists from position 0 down to the first gap, in order of list and position."""
    known = frame.drop_nulls(_NEEDED).unique(
        ["attribution_token", "position"], keep="first", maintain_order=True
    )
    if depth is not None:
        known = known.filter(pl.col("position") < depth)
    place = pl.int_range(pl.len()).over("attribution_token")
    found = known.sort("attribution_token", "position").filter(pl.col("position") == place)
    if found.is_empty():
        raise EmptyTableError(
            "no impression has an attribution_token, a propensity and a position, from 0 on"
        )
    return found


def _read(frame: pl.DataFrame) -> _Read:
    row = frame["attribution_token"].rank("dense").to_numpy().astype(np.int64) - 1
    place = frame["position"].to_numpy()
    shape = int(row.max()) + 1, int(place.max()) + 1

    def laid_out(name: str, empty: float) -> NDArray[np.float64]:
        table = np.full(shape, empty)
        table[row, place] = frame[name].cast(pl.Float64).to_numpy()
        return table

    cluster = np.zeros(shape[0], np.int64)
    cluster[row] = frame["user_id"].rank("dense").to_numpy().astype(np.int64) - 1
    slates = Slates(
        laid_out("clicked", 0.0), laid_out("propensity", 1.0), laid_out("probability", 1.0)
    )
    has_model = all(name in frame.columns for name in _MODEL)
    model = (laid_out("predicted", 0.0), laid_out("expected", 0.0)) if has_model else None
    return _Read(slates, cluster, model, int(frame["left_out"][0]))
