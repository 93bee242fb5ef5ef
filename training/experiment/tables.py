"""An experiment's report as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.table import Table

from training.experiment.report import ExperimentReport, MetricRow
from training.experiment.verdict import p_text, percent, value_text

_COLOURS: Final = {"passed": "green", "inconclusive": "yellow", "worse": "red"}


def report_tables(report: ExperimentReport) -> list[Table]:
    """The check of sizes, then effects, guardrails and segments where there are any."""
    found = [_sizes(report)]
    if report.metrics:
        found.append(_effects(report))
    if any(row.guardrail is not None for row in report.metrics):
        found.append(_guardrails(report))
    if report.segments:
        found.append(_segments(report))
    return found


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _sizes(report: ExperimentReport) -> Table:
    check = report.sample_ratio
    verdict = "[red]mismatch[/]" if check.mismatch else "as intended"
    title = f"Shoppers by arm: p {p_text(check.p_value)}, {verdict}"
    table = _table(title, ("arm",), ("shoppers", "expected"))
    for one in check.arms:
        name = f"{one.arm} (control)" if one.arm == report.control else one.arm
        table.add_row(name, f"{one.shoppers:,}", f"{one.expected:,.0f}")
    return table


def _effects(report: ExperimentReport) -> Table:
    table = _table(
        "Lifts against the control, 95 % intervals",
        ("metric",),
        ("control", "arm's", "lift", "planned end", "any look", "p"),
    )
    for row in report.metrics:
        best = row.best
        always = best.always_low, best.always_high
        table.add_row(
            _name(report, row),
            value_text(row, row.control_value),
            value_text(row, row.arm_value),
            percent(best.estimate),
            _ends(best.low, best.high),
            _ends(*always),
            _p(best.p_value),
        )
    return table


def _guardrails(report: ExperimentReport) -> Table:
    table = _table(
        "Guardrails, more being better",
        ("metric",),
        ("may lose", "no worse than", "outcome", "p of any loss (Holm)"),
    )
    for row in report.metrics:
        if row.guardrail is not None:
            it = row.guardrail
            table.add_row(
                _name(report, row),
                f"{it.margin:.1%}",
                percent(it.bound),
                f"[{_COLOURS[it.outcome]}]{it.outcome}[/]",
                _p(it.p_holm),
            )
    return table


def _segments(report: ExperimentReport) -> Table:
    title = f"{report.primary} by segment; p by Benjamini and Hochberg, {len(report.segments)} rows"
    table = _table(title, ("segment",), ("shoppers", "lift", "planned end", "p"))
    for row in report.segments:
        name = f"{row.segment}: {row.value}"
        table.add_row(
            f"{name}, {row.arm}" if len(report.arms) > 1 else name,
            f"{row.control_shoppers:,} / {row.arm_shoppers:,}",
            percent(row.lift.estimate),
            _ends(row.lift.low, row.lift.high),
            _p(row.p_bh),
        )
    return table


def _name(report: ExperimentReport, row: MetricRow) -> str:
    name = f"{row.title}, {row.arm}" if len(report.arms) > 1 else row.title
    return f"[bold]{name}[/]" if row.role == "primary" else name


def _ends(low: float | None, high: float | None) -> str:
    return "unknown" if low is None or high is None else f"[dim]{percent(low)}…{percent(high)}[/]"


def _p(p_value: float | None) -> str:
    return p_text(p_value).removeprefix("= ").replace(" ", "")
