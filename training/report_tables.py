"""An evaluation as tables for a person."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table

from training.report import (
    HEADLINE,
    SYSTEM_NAMES,
    TARGET_NAMES,
    DifferenceRow,
    Estimate,
    EvaluationReport,
    Target,
)


def tables(report: EvaluationReport) -> list[Table]:
    """For each target its systems and segments, and last what the system gains on the others."""
    found: list[Table] = []
    for target in TARGET_NAMES:
        if report.rows_of(target):
            found.append(systems_table(report, target))
        if report.segments(target):
            found.append(segments_table(report, target))
    return [*found, differences_table(report.differences)]


def systems_table(report: EvaluationReport, target: Target) -> Table:
    """Systems by metrics on all customers of a target, means with intervals; the best is bold."""
    rows = report.rows_of(target)
    table = _table(f"{TARGET_NAMES[target]}: {rows[0].customers:,} shoppers, 95 % intervals")
    table.add_column("system")
    for name in ("NDCG@10", "Recall@20", "MRR@20"):
        table.add_column(name, justify="right")
    best = {name: max(row.metrics[name].mean for row in rows) for name in rows[0].metrics}
    for row in rows:
        cells = [_interval(row.metrics[name], best[name]) for name in ("ndcg@10", "recall@20")]
        mrr = row.metrics["mrr@20"].mean
        cells.append(_marked(f"{mrr:.3f}", best=0 < mrr == best["mrr@20"]))
        table.add_row(SYSTEM_NAMES[row.system], *cells)
    return table


def segments_table(report: EvaluationReport, target: Target) -> Table:
    """Segments by systems, NDCG@10; the best of a segment is bold."""
    table = _table(f"{TARGET_NAMES[target]}: NDCG@10 by length of history and by true items")
    table.add_column("segment")
    table.add_column("shoppers", justify="right")
    for row in report.rows_of(target):
        table.add_column(SYSTEM_NAMES[row.system].replace(", ", "\n"), justify="right")
    for segment in report.segments(target):
        rows = report.rows_of(target, segment)
        means = [row.metrics[HEADLINE].mean for row in rows]
        cells = (_marked(f"{mean:.3f}", best=0 < mean == max(means)) for mean in means)
        table.add_row(segment, f"{rows[0].customers:,}", *cells)
    return table


def differences_table(differences: Iterable[DifferenceRow]) -> Table:
    """Paired differences in NDCG@10: green above zero, red below, plain where 0 is inside."""
    table = _table("Gain in NDCG@10, paired by shopper, 95 % intervals")
    for name in ("target", "system", "against"):
        table.add_column(name)
    table.add_column("gain", justify="right")
    for row in differences:
        one = row.metrics[HEADLINE]
        colour = "green" if one.low > 0 else "red" if one.high < 0 else "default"
        cell = f"[{colour}]{one.mean:+.3f}[/] [dim]{one.low:+.3f} … {one.high:+.3f}[/]"
        table.add_row(row.target, SYSTEM_NAMES[row.system], SYSTEM_NAMES[row.against], cell)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)


def _interval(one: Estimate, best: float) -> str:
    mean = _marked(f"{one.mean:.3f}", best=0 < one.mean == best)
    return f"{mean} [dim]{one.low:.3f} … {one.high:.3f}[/]"


def _marked(text: str, *, best: bool) -> str:
    return f"[bold]{text}[/]" if best else text
