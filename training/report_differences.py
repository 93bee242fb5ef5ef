"""The family of comparisons that a report tests, and what becomes of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from recsys.evaluation import Difference, NextPeriod, bootstrap_differences, holm
from training.report import HEADLINE, DifferenceRow, Estimate, Reason, Target
from training.report_rows import Lists, measure

PEERS: Final = ("popularity", "bm25_knn", "bm25_knn_counts")
_RANKING: Final = ("popularity", "bm25_knn_counts", "without_text", "bi_encoder", "system")
LADDERS: Final[dict[Target, tuple[str, ...]]] = {
    "all": _RANKING,
    "new": _RANKING,
    "cold": ("popularity", "zero_shot", "fine_tuned", "system"),
}
"""The ablation: each system does what the one before does and one thing more."""


@dataclass(frozen=True)
class Comparison:
    """`system` is compared with `against`."""

    reason: Reason
    system: str
    against: str


def comparisons(target: Target, systems: Collection[str]) -> list[Comparison]:
    """What is compared on a target: peers, all that text adds, and each step of the ablation.

    Systems that were not measured are left out of the ladder; no pair comes twice.
    """
    found = [Comparison("peer", "system", name) for name in PEERS if name in systems]
    ladder = [name for name in LADDERS[target] if name in systems]
    if "without_text" in ladder:
        found.append(Comparison("text", "system", "without_text"))
    done = {(one.system, one.against) for one in found}
    return found + [
        Comparison("fine-tuning" if before == "zero_shot" else "step", name, before)
        for before, name in pairwise(ladder)
        if (name, before) not in done
    ]


def difference_rows(
    seed: int, periods: Mapping[Target, NextPeriod], lists: Mapping[Target, Lists]
) -> list[DifferenceRow]:
    """All comparisons of all targets, their p-values corrected as one family (Holm).

    The oracle is compared with nothing: it is a ceiling, not a claim.

    Args:
        seed: of the resamples.
        periods: customers and truth by target.
        lists: the systems' lists for them; a target without lists has no comparison.
    """
    found = [
        (target, one, differences)
        for target, by_system in lists.items()
        for one, differences in _measured(seed, target, periods[target], by_system)
    ]
    corrected = holm(np.array([differences[HEADLINE].p_value for _, _, differences in found]))
    return [
        DifferenceRow(
            target=target,
            reason=one.reason,
            system=one.system,
            against=one.against,
            customers=differences[HEADLINE].customers,
            metrics={name: Estimate.of(each) for name, each in differences.items()},
            p_value=differences[HEADLINE].p_value,
            p_holm=p_holm,
        )
        for (target, one, differences), p_holm in zip(found, corrected.tolist(), strict=True)
    ]


def _measured(
    seed: int, target: Target, period: NextPeriod, lists: Lists
) -> list[tuple[Comparison, dict[str, Difference]]]:
    """A target's comparisons with the differences in each metric; all share their resamples."""
    measured = {system: measure(ranked, period.truth) for system, ranked in lists.items()}
    family = comparisons(target, lists)
    if not family:
        return []
    names = list(measured["system"])
    columns = [
        measured[c.system][name] - measured[c.against][name] for c in family for name in names
    ]
    found = iter(bootstrap_differences(np.column_stack(columns), np.random.default_rng(seed)))
    return [(one, {name: next(found) for name in names}) for one in family]
