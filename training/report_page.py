"""An evaluation as one self-contained HTML page."""

from __future__ import annotations

from typing import Final

from training.page import embedded, page_environment
from training.report import (
    COMPARED_NAMES,
    HEADLINE,
    METRIC_NAMES,
    SIGNIFICANCE,
    SYSTEM_NAMES,
    TARGET_NAMES,
    TOP,
    EvaluationReport,
    Target,
    best,
)
from training.report_differences import LADDERS
from training.report_findings import findings, strongest_peer
from training.report_plots import (
    plot_candidates,
    plot_differences,
    plot_reliability,
    plot_segments,
    plot_systems,
)
from training.report_tables import p_text

TEMPLATE: Final = "evaluation.html.jinja"


def evaluation_page(report: EvaluationReport) -> str:
    """The report as HTML with its figures inside; it loads nothing from anywhere.

    Sections without data (candidates, calibration, segments) are left out. The same report gives
    the same text.
    """
    environment = page_environment()
    environment.filters.update(
        mean=lambda one: f"{one.mean:.3f}",
        signed=lambda one: _signed(one.mean),
        interval=lambda one: f"{one.low:.3f} to {one.high:.3f}",
        signed_interval=lambda one: f"{_signed(one.low)} to {_signed(one.high)}",
        percent=lambda share: f"{share:.1%}",
        count=lambda number: f"{number:,.0f}",
        p=p_text,
        source=lambda name: name.replace("_", " "),
    )
    page = environment.get_template(TEMPLATE).render(
        report=report,
        findings=findings(report),
        figures=_figures(report),
        strongest_peer=strongest_peer,
        best=best,
        ladders=_ladders(report),
        systems=SYSTEM_NAMES,
        compared=COMPARED_NAMES,
        targets=TARGET_NAMES,
        metrics=METRIC_NAMES,
        headline=HEADLINE,
        significance=SIGNIFICANCE,
        top=TOP,
    )
    return page + "\n"


def _ladders(report: EvaluationReport) -> list[tuple[list[str], list[Target]]]:
    """The steps of each ablation that were measured, with the targets that share them."""
    found: dict[tuple[str, ...], list[Target]] = {}
    for target in report.targets:
        measured = tuple(name for name in LADDERS[target] if report.row(target, name))
        found.setdefault(measured, []).append(target)
    return [(list(ladder), targets) for ladder, targets in found.items()]


def _signed(number: float) -> str:
    return f"{number:+.3f}".replace("-", "\N{MINUS SIGN}")


def _figures(report: EvaluationReport) -> dict[str, str]:
    """Figures by section as `data:` addresses; those that there is data for."""
    drawn = {"systems": embedded(lambda file: plot_systems(report, file))}
    if report.differences:
        drawn["differences"] = embedded(lambda file: plot_differences(report.differences, file))
    if any(report.segments(target) for target in report.targets):
        drawn["segments"] = embedded(lambda file: plot_segments(report, file))
    if report.candidates:
        drawn["candidates"] = embedded(lambda file: plot_candidates(report.candidates, file))
    calibration = report.calibration
    if calibration is not None:
        drawn["calibration"] = embedded(lambda file: plot_reliability(calibration, file))
    return drawn
