"""Off-policy evaluation of logged decisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.errors import DataError
from recsys.off_policy import (
    FOLDS,
    Decisions,
    SmoothedMeans,
    clipped,
    direct_method,
    doubly_robust,
    inverse_propensity,
    overlap,
    policy_value,
    self_normalised,
    shrunk_doubly_robust,
    switch_doubly_robust,
)
from training.ope_report import OffPolicyReport, OverlapRow, ValueRow, gain_row, value_rows
from training.ope_tables import TargetPolicy, read_decisions, read_target


@dataclass(frozen=True)
class _Read:
    """Decisions in arrays, with what is known of the target policy beyond the logged actions."""

    decisions: Decisions
    cluster: NDArray[np.int64] | None
    unlogged: float | None


def evaluate_decisions(log: Path, target: Path | None = None) -> OffPolicyReport:
    """Estimate what a target policy would have earned on logged decisions, or say why not.

    Args:
        log: parquet, one row a decision: `action`, `reward`, `propensity`; optional `position`,
            `context`, `cluster` (rows of one shopper), `target_probability`.
        target: parquet of the target policy, see `read_target`; None where the log has the column
            `target_probability`. With it there are a reward model's estimates, too.

    Raises:
        DataError: a file can't be used.
    """
    frame = read_decisions(log, with_target=target is not None)
    cluster = _numbers(frame["cluster"]) if "cluster" in frame.columns else None
    if target is None:
        read = _without_model(frame, cluster)
    else:
        read = _with_model(frame, cluster, read_target(target, frame.columns), log)
    found = overlap(read.decisions.weight, read.unlogged)
    with_model = target is not None
    headline = "dr" if with_model else "snips"
    refused = found.answer == "refuse"
    estimated = {} if refused else _contributions(read, with_model=with_model)
    reward = read.decisions.reward
    return OffPolicyReport(
        source=str(log),
        kind="decisions",
        clusters=None if cluster is None else len(np.unique(cluster)),
        positions=1,
        overlap=OverlapRow.of(found),
        answer=found.answer,
        reasons=tuple(found.reasons_to_refuse),
        warnings=tuple(found.warnings),
        logged=ValueRow.of("logged", policy_value(reward, cluster)),
        headline=headline,
        estimates=value_rows(estimated, cluster),
        gain=gain_row(estimated, headline, reward, cluster),
        notes=_notes(cluster, with_model=with_model),
    )


def _without_model(frame: pl.DataFrame, cluster: NDArray[np.int64] | None) -> _Read:
    nothing = np.zeros(len(frame))
    decisions = Decisions(
        reward=frame["reward"].to_numpy(),
        logged=frame["propensity"].to_numpy(),
        target=frame["target_probability"].to_numpy(),
        predicted=nothing,
        expected=nothing,
    )
    return _Read(decisions, cluster, None)


def _with_model(
    frame: pl.DataFrame, cluster: NDArray[np.int64] | None, policy: TargetPolicy, log: Path
) -> _Read:
    situation = _situations(frame, policy, log)
    known = pl.concat([policy.actions, frame["action"]]).unique(maintain_order=True)
    action = frame["action"].cast(pl.Enum(known)).to_physical().to_numpy().astype(np.int64)
    more = len(known) - len(policy.actions)
    probability = np.pad(policy.probability, ((0, 0), (0, more)))
    reward = frame["reward"].to_numpy()
    fold = (np.arange(len(frame)) if cluster is None else cluster) % FOLDS
    model = SmoothedMeans.fit(situation, action, reward, fold, probability.shape)
    decisions = Decisions(
        reward=reward,
        logged=frame["propensity"].to_numpy(),
        target=probability[situation, action],
        predicted=model.of_rows(situation, action, fold),
        expected=model.under(probability, situation, fold),
    )
    return _Read(decisions, cluster, _unlogged(frame, policy, situation, action, probability))


def _situations(frame: pl.DataFrame, policy: TargetPolicy, log: Path) -> NDArray[np.int64]:
    if not policy.keys:
        return np.zeros(len(frame), np.int64)
    keys = list(policy.keys)
    found = frame.join(policy.situations, on=keys, how="left", maintain_order="left")["situation"]
    if found.null_count():
        row = found.is_null().arg_max() or 0
        where = ", ".join(f"{key} {frame[key][row]!r}" for key in keys)
        raise DataError(
            f"{log}: the target policy says nothing of {found.null_count():,} rows, such as "
            f"{where}; give its probabilities for every situation in the log"
        )
    return found.to_numpy().astype(np.int64)


def _unlogged(
    frame: pl.DataFrame,
    policy: TargetPolicy,
    situation: NDArray[np.int64],
    action: NDArray[np.int64],
    probability: NDArray[np.float64],
) -> float:
    """Target probability on actions never logged (at their position, where it depends on it)."""
    by_position = "position" in policy.keys
    place = _numbers(frame["position"]) if by_position else np.zeros(len(frame), np.int64)
    seen = np.zeros((int(place.max()) + 1, probability.shape[1]), np.bool_)
    seen[place, action] = True
    place_of = np.zeros(len(probability), np.int64)
    place_of[situation] = place
    missing = (probability * ~seen[place_of]).sum(axis=1)
    return float(missing[situation].mean())


def _contributions(read: _Read, *, with_model: bool) -> dict[str, NDArray[np.float64]]:
    """Thresholds are fixed by the number of rows: sqrt(n), and n for DRos."""
    rows = len(read.decisions.reward)
    cap = float(np.sqrt(rows))
    found = {
        "ips": inverse_propensity(read.decisions),
        "snips": self_normalised(read.decisions),
        "clipped": clipped(read.decisions, cap),
    }
    if with_model:
        found |= {
            "dm": direct_method(read.decisions),
            "dr": doubly_robust(read.decisions),
            "switch_dr": switch_doubly_robust(read.decisions, cap),
            "dros": shrunk_doubly_robust(read.decisions, float(rows)),
        }
    return found


def _notes(cluster: NDArray[np.int64] | None, *, with_model: bool) -> tuple[str, ...]:
    notes = []
    if cluster is None:
        notes.append(
            "rows are taken as independent; a column `cluster` with the shopper makes intervals "
            "that allow for several rows of one"
        )
    if with_model:
        notes.append("the direct method's interval knows nothing of its model's own error")
    else:
        notes.append(
            "only the target's probability of logged actions is known: whether it would do what "
            "was never logged can't be seen, except by the weights' mean; --target tells"
        )
    return tuple(notes)


def _numbers(column: pl.Series) -> NDArray[np.int64]:
    return column.rank("dense").to_numpy().astype(np.int64) - 1
