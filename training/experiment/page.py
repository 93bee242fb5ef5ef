"""An experiment's report as one self-contained HTML page."""

from __future__ import annotations

from typing import Final

from training.experiment.plots import plot_days, plot_lifts, plot_segments
from training.experiment.report import DECISION_NAMES, ExperimentReport
from training.experiment.verdict import p_text, percent, value_text
from training.page import embedded, page_environment

TEMPLATE: Final = "experiment.html.jinja"


def experiment_page(report: ExperimentReport) -> str:
    """The report as HTML with its figures inside; it loads nothing from anywhere.

    Where the checks say stop there are the checks and nothing else. The same report gives the same
    text.
    """
    environment = page_environment()
    environment.filters.update(
        lift=percent,
        count=lambda number: f"{number:,.0f}",
        percent=lambda share: f"{share:.1%}",
        p=p_text,
    )
    page = environment.get_template(TEMPLATE).render(
        report=report,
        figures=_figures(report),
        decisions=DECISION_NAMES,
        value=value_text,
        interval=_interval,
    )
    return page + "\n"


def _interval(low: float | None, high: float | None) -> str:
    return "unknown" if low is None or high is None else f"{percent(low)} to {percent(high)}"


def _figures(report: ExperimentReport) -> dict[str, str]:
    """Figures by section; those that there is data for."""
    drawn = {}
    if any(row.best.estimate is not None for row in report.metrics):
        drawn["effects"] = embedded(lambda file: plot_lifts(report, file))
    if report.cumulative:
        drawn["days"] = embedded(lambda file: plot_days(report, file))
    if any(row.lift.estimate is not None for row in report.segments):
        drawn["segments"] = embedded(lambda file: plot_segments(report, file))
    return drawn
