"""An evaluation as tables for the terminal; the page has the rest."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from rich import box
from rich.table import Table

from training.report import (
    COMPARED_NAMES,
    HEADLINE,
    SYSTEM_NAMES,
    CandidateReport,
    DifferenceRow,
    EvaluationReport,
    ResultRow,
    best,
)
from training.report_differences import PEERS

_SECTIONS: Final = (
    PEERS,
    ("without_text", "bi_encoder", "system"),
    ("zero_shot", "fine_tuned"),
    ("oracle",),
)
_COLOURS: Final = {"gain": "green", "loss": "red", "none shown": "default"}


def tables(report: EvaluationReport) -> list[Table]:
    """The ablation, what is gained at each comparison, and the recall of candidates."""
    found = [ablation_table(report)]
    if report.differences:
        found.append(differences_table(report))
    if report.candidates:
        found.append(candidates_table(report))
    return found


def ablation_table(report: EvaluationReport) -> Table:
    """Systems by targets, NDCG@10 with intervals; the best but for the oracle is bold."""
    table = _table("NDCG@10, 95 % intervals")
    table.add_column("system")
    for target in report.targets:
        shoppers = report.rows_of(target)[0].customers
        table.add_column(f"{target} items\n{shoppers:,} shoppers", justify="right", no_wrap=True)
    for section in _SECTIONS:
        for system in section:
            rows = [report.row(target, system) for target in report.targets]
            if any(rows):
                table.add_row(SYSTEM_NAMES[system], *(_cell(report, row) for row in rows))
        table.add_section()
    return table


def differences_table(report: EvaluationReport) -> Table:
    """Paired differences in NDCG@10: green a gain, red a loss, plain where neither is shown."""
    count = len(report.differences)
    table = _table(f"Gain in NDCG@10, paired by shopper; p by Holm for {count} comparisons")
    for name in ("items", "system", "against"):
        table.add_column(name)
    for name in ("gain", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for target, rows in groupby(report.differences, lambda row: row.target):
        for row in rows:
            names = COMPARED_NAMES[row.system], COMPARED_NAMES[row.against]
            table.add_row(target, *names, _gain(row), p_text(row.p_holm))
        table.add_section()
    return table


def candidates_table(report: EvaluationReport) -> Table:
    """Sources by targets: what each brings and what it alone does, the best source bold."""
    table = _table("Recall of candidates, before ranking")
    table.add_column("source")
    for one in report.candidates:
        table.add_column(f"{one.target} items\ncandidates", justify="right")
        table.add_column("\nrecall", justify="right")
        table.add_column("by no\nother", justify="right")
    for place, source in enumerate(report.candidates[0].sources):
        cells = [cell for one in report.candidates for cell in _source_cells(one, place)]
        table.add_row(source.source, *cells)
    table.add_section()
    totals = [
        cell
        for one in report.candidates
        for cell in (f"{one.candidates:,.0f}", f"[bold]{one.total.mean:.1%}[/]", "")
    ]
    table.add_row("all together", *totals)
    return table


def p_text(p_value: float) -> str:
    """Three decimals; what would be 0.000 is `<0.001`."""
    return f"{p_value:.3f}" if p_value >= 0.0005 else "<0.001"  # noqa: PLR2004


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)


def _cell(report: EvaluationReport, row: ResultRow | None) -> str:
    if row is None:
        return "·"
    one = row.metrics[HEADLINE]
    top = 0 < one.mean == best(report.rows_of(row.target), HEADLINE)
    mean = f"[bold]{one.mean:.3f}[/]" if top else f"{one.mean:.3f}"
    return f"{mean} [dim]{_short(one.low)} … {_short(one.high)}[/]"


def _gain(row: DifferenceRow) -> str:
    one = row.metrics[HEADLINE]
    colour = _COLOURS[row.verdict]
    ends = f"{_short(one.low, '+')} … {_short(one.high, '+')}"
    return f"[{colour}]{one.mean:+.3f}[/] [dim]{ends}[/]"


def _short(share: float, sign: str = "") -> str:
    """Three decimals without the 0 in front: an interval has to fit a narrow terminal."""
    return f"{share:{sign}.3f}".replace("0.", ".", 1)


def _source_cells(report: CandidateReport, place: int) -> tuple[str, str, str]:
    row = report.sources[place]
    top = max(one.alone.mean for one in report.sources)
    recall = f"{row.alone.mean:.1%}"
    marked = f"[bold]{recall}[/]" if row.alone.mean == top else recall
    return f"{row.candidates:,.0f}", marked, f"{row.only.mean:.1%}"
