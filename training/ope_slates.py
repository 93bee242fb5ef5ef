"""Off-policy evaluation of the lists that a dataset's impressions record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recsys.off_policy import (
    Overlap,
    cascade_doubly_robust,
    independent_ips,
    overlap,
    policy_value,
    pseudo_inverse,
    reward_interaction_ips,
    standard_ips,
)
from training.ope_lists import LoggedLists, TargetLists, read_lists, read_target_lists
from training.ope_report import OffPolicyReport, OverlapRow, ValueRow, gain_row, value_rows


@dataclass(frozen=True)
class SlateOptions:
    """How lists are read.

    Attributes:
        depth: positions that count, from the top; None for all.
        temperature: of a target policy that is given by scores.
        factored: whether both policies fill every position whatever is above it, so that the
            probabilities are of the position alone.
    """

    depth: int | None = None
    temperature: float = 1.0
    factored: bool = False


def evaluate_slates(folder: Path, target: Path, options: SlateOptions) -> OffPolicyReport:
    """Estimate how many clicks a list another ranking policy would have earned, or say why not.

    A list is the impressions of one `attribution_token` with positions and propensities: the
    logging policy's probability of the item at its position, given the items above it. A position
    earns 1 if its impression was clicked, by the rule of the data contract.

    Args:
        folder: a dataset.
        target: parquet of the target policy, see `read_target_lists`.
        options: how lists are read.

    Raises:
        DataError: a table can't be used, or the target says nothing of a logged impression.
        ConfigurationError: an option can't be used.
    """
    lists = read_lists(folder, options.depth)
    policy = read_target_lists(lists, target, options.temperature)
    slates = policy.slates
    weights = slates.position_weights if options.factored else slates.slate_weights
    by_depth = [overlap(column, policy.unlogged) for column in weights.T]
    refused = [one for one in by_depth if one.answer == "refuse"]
    found = refused[0] if refused else min(by_depth, key=lambda one: one.effective)
    reasons = list(found.reasons_to_refuse)
    if reasons and not options.factored:
        reasons[-1] += _advice(by_depth)
    headline = "iips" if options.factored else "cascade_dr" if policy.model else "rips"
    estimated = {} if reasons else _contributions(policy, factored=options.factored)
    earned = slates.reward.sum(axis=1)
    return OffPolicyReport(
        source=str(folder),
        kind="slates",
        clusters=len(np.unique(lists.shopper)),
        positions=slates.reward.shape[1],
        overlap=OverlapRow.of(found),
        answer=found.answer,
        reasons=tuple(reasons),
        warnings=tuple(found.warnings),
        logged=ValueRow.of("logged", policy_value(earned, lists.shopper)),
        headline=headline,
        estimates=value_rows(estimated, lists.shopper),
        gain=gain_row(estimated, headline, earned, lists.shopper),
        notes=_notes(lists, options),
    )


def _contributions(policy: TargetLists, *, factored: bool) -> dict[str, NDArray[np.float64]]:
    """Estimators that the data can carry; those of whole lists only where their weights allow."""
    slates = policy.slates
    found: dict[str, NDArray[np.float64]] = {}
    if overlap(slates.slate_weights[:, -1], policy.unlogged).answer != "refuse":
        found |= {"sips": standard_ips(slates), "rips": reward_interaction_ips(slates)}
        if policy.model is not None:
            found["cascade_dr"] = cascade_doubly_robust(slates, *policy.model)
    if factored:
        found |= {"iips": independent_ips(slates), "pi": pseudo_inverse(slates)}
    return found


def _advice(by_depth: Sequence[Overlap]) -> str:
    """How many positions could be answered for, counted from the top."""
    fit = next(at for at, one in enumerate(by_depth) if one.answer == "refuse")
    return f"; the first {fit} positions alone can be answered for (--depth)" if fit else ""


def _notes(lists: LoggedLists, options: SlateOptions) -> tuple[str, ...]:
    notes = ["a list's value is its clicks; shoppers are what varies"]
    if not options.factored:
        notes.append("probabilities are taken as given the items above (Plackett-Luce)")
    if lists.left_out:
        notes.append(
            f"{lists.left_out:,} impressions without token, position or propensity, or below a gap "
            "in their list, are left out"
        )
    return tuple(notes)
