"""Recall of the bundle's candidates, before any ranking: by source, together, by their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.evaluation import ItemSets, NextPeriod, depth_recall, source_recall
from recsys.interactions import Candidates
from training.report import CandidateReport, CurvePoint, SourceRow, Target
from training.report_rows import estimates
from training.report_systems import Advance, Served

DEPTHS: Final = np.array(
    [1, 2, 5, 10, 20, 50, 100, 200, 300, 400, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000]
)
"""Numbers of candidates on the curve; it ends with the most that a customer has."""

_CHUNK: Final = 512
_Measured = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
"""By customer with a truth: recalls (n, 1 + 2s), counts (n, 1 + s), recall by depth (n, depths).

Recalls are those of all candidates, of each source alone, of what only it brought; counts are of
all candidates and of each source's.
"""


def candidate_reports(
    served: Served, period: NextPeriod, advance: Advance
) -> tuple[CandidateReport, ...]:
    """Candidates of every customer held against all next-period items and against the new ones.

    One retrieval serves both: for new items, owned ones leave candidates and truth.

    Args:
        served: the bundle.
        period: customers and truth of target `all`.
        advance: told how many customers are done.
    """
    found: dict[Target, list[_Measured]] = {"all": [], "new": []}
    for first in range(0, len(period.users), _CHUNK):
        part = period.take(np.arange(first, min(first + _CHUNK, len(period.users))))
        candidates = served.candidates(part, advance)
        names = candidates.source_names
        owned = part.owned.places(candidates.request, candidates.item) >= 0
        found["all"].append(_measured(candidates, part.truth))
        found["new"].append(_measured(candidates.where(~owned), part.truth.without(part.owned)))
    reports = (_report(target, names, parts, served.shop.seed) for target, parts in found.items())
    return tuple(report for report in reports if report is not None)


def _measured(candidates: Candidates, truth: ItemSets) -> _Measured:
    known = truth.sizes > 0
    found = source_recall(candidates, truth)
    shares = np.column_stack([found.total, found.alone, found.only])
    counts = np.column_stack([found.count, found.brought])
    return shares[known], counts[known], depth_recall(candidates, truth, DEPTHS)[known]


def _report(
    target: Target, names: tuple[str, ...], parts: Sequence[_Measured], seed: int
) -> CandidateReport | None:
    """None where nobody has a truth."""
    shares, counts, curve = (np.concatenate(each) for each in zip(*parts, strict=True))
    if not len(shares):
        return None
    total, *by_source = estimates(shares, seed)
    candidates, *brought = counts.mean(axis=0).tolist()
    rows = zip(names, brought, by_source[: len(names)], by_source[len(names) :], strict=True)
    inside = counts[:, 0].max() > DEPTHS
    points = zip(DEPTHS[inside].tolist(), curve[:, inside].mean(axis=0).tolist(), strict=True)
    last = CurvePoint(candidates=int(counts[:, 0].max()), recall=total.mean)
    return CandidateReport(
        target=target,
        customers=len(shares),
        candidates=candidates,
        total=total,
        sources=tuple(
            SourceRow(source=name, candidates=count, alone=alone, only=only)
            for name, count, alone, only in rows
        ),
        curve=(*(CurvePoint(candidates=depth, recall=share) for depth, share in points), last),
    )
