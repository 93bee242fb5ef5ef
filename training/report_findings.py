"""What an evaluation says, in sentences for who reads no further."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from training.report import (
    COMPARED_NAMES,
    HEADLINE,
    SYSTEM_NAMES,
    TARGET_NAMES,
    DifferenceRow,
    EvaluationReport,
    Target,
)
from training.report_differences import LADDERS, PEERS
from training.report_tables import p_text


@dataclass(frozen=True)
class Finding:
    """A sentence or two, and what they are about."""

    about: str
    text: str


def findings(report: EvaluationReport) -> list[Finding]:
    """The outcome on each target, what text and fine-tuning do, and what candidates allow."""
    return [
        *_outcomes(report),
        *_steps(report),
        *_fine_tuning(report),
        *_candidates(report),
    ]


def described(row: DifferenceRow) -> str:
    """A difference in words, with its size, interval and corrected p-value."""
    one = row.metrics[HEADLINE]
    size = f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}], p {_p(row.p_holm)}"
    size = size.replace("-", "\N{MINUS SIGN}")
    return f"no difference shown ({size})" if row.verdict == "none shown" else size


def _outcomes(report: EvaluationReport) -> Iterator[Finding]:
    done = {"purchase": "bought", "click": "clicked"}[report.truth]
    for target in report.targets:
        system = report.row(target, "system")
        peer = strongest_peer(report, target)
        if system is None or peer is None:
            continue
        against = report.row(target, peer)
        difference = report.difference(target, "system", peer)
        if against is None or difference is None:
            continue
        tied = target == "cold" and peer == "popularity"
        name = COMPARED_NAMES[peer] + (", which ties them all" if tied else ", the strongest peer")
        hit, other = (row.metrics["hit@10"].mean for row in (system, against))
        yield Finding(
            TARGET_NAMES[target],
            f"{hit:.0%} of {system.customers:,} shoppers find something among the first ten that "
            f"they then {done}; with {name}, {other:.0%} do. "
            f"NDCG@10 {system.metrics[HEADLINE].mean:.3f} against "
            f"{against.metrics[HEADLINE].mean:.3f}: {described(difference)}.",
        )


def strongest_peer(report: EvaluationReport, target: Target) -> str | None:
    """The peer with the best NDCG@10 on a target, the first of equal ones."""
    rows = [row for row in report.rows_of(target) if row.system in PEERS]
    return max(rows, key=lambda row: row.metrics[HEADLINE].mean).system if rows else None


def _steps(report: EvaluationReport) -> Iterator[Finding]:
    """What reading text adds to the ranker, on the targets where it is taken apart."""
    for target in ("all", "new"):
        rows = [row for row in report.differences if row.target == target]
        steps = [
            f"{SYSTEM_NAMES[row.system].partition(' (')[0].lstrip('+ ')}: {described(row)}"
            for row in rows
            if row.reason == "step" and row.against in LADDERS[target][2:]
        ]
        steps += [f"together: {described(row)}" for row in rows if row.reason == "text"]
        if steps:
            yield Finding(f"What text adds in NDCG@10, {target} items", "; ".join(steps) + ".")


def _fine_tuning(report: EvaluationReport) -> Iterator[Finding]:
    for row in report.differences:
        if row.reason == "fine-tuning":
            yield Finding(
                "Fine-tuning",
                f"Text alone, on {TARGET_NAMES[row.target].lower()}: fine-tuned against "
                f"zero-shot, NDCG@10: {described(row)}.",
            )


def _candidates(report: EvaluationReport) -> Iterator[Finding]:
    for one in report.candidates:
        yield Finding(
            f"Candidates, {one.target} items",
            f"{one.total.mean:.0%} of what shoppers took next is among the {one.candidates:,.0f} "
            "candidates that are ranked: no ranking of them can find more.",
        )


def _p(p_value: float) -> str:
    text = p_text(p_value)
    return text if text.startswith("<") else f"= {text}"
