"""Figures of an experiment, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.experiment.report import DayRow, EffectRow, ExperimentReport
from training.plot_style import BLUE, FAINT, INK, RED, PngFile, panels, save, style

_PALE: Final = "#cfe3f1"


def plot_lifts(report: ExperimentReport, file: PngFile) -> None:
    """Lifts of all metrics with both intervals; guardrails' margin as a dotted line."""
    lines = [
        (f"{row.title}\n{row.arm}" if len(report.arms) > 1 else row.title, row.best, row)
        for row in report.metrics
        if row.best.estimate is not None
    ]
    with style():
        figure = Figure(figsize=(9, 1.2 + 0.5 * len(lines)), layout="constrained")
        ((axes,),) = panels(figure, 1)
        for place, (_, effect, row) in enumerate(lines):
            _draw_interval(axes, effect, place, better=1 if row.higher_is_better else -1)
            if row.guardrail is not None:
                edge = -row.guardrail.margin * (1 if row.higher_is_better else -1)
                axes.plot([edge, edge], [place - 0.35, place + 0.35], ":", color=RED)
        _finish(axes, [name for name, _, _ in lines])
        axes.set_xlabel("lift against the control, 95 % intervals")
        save(figure, file)


def plot_segments(report: ExperimentReport, file: PngFile) -> None:
    """Lifts of the primary metric by segment, with both intervals."""
    rows = [row for row in report.segments if row.lift.estimate is not None]
    names = [
        f"{row.segment}: {row.value}" + (f"\n{row.arm}" if len(report.arms) > 1 else "")
        for row in rows
    ]
    with style():
        figure = Figure(figsize=(9, 1.2 + 0.42 * len(rows)), layout="constrained")
        ((axes,),) = panels(figure, 1)
        for place, row in enumerate(rows):
            _draw_interval(axes, row.lift, place, better=0)
        _finish(axes, names)
        axes.set_xlabel("lift against the control")
        save(figure, file)


def plot_days(report: ExperimentReport, file: PngFile) -> None:
    """Two panels an arm: the lift as it stood each day, and by days since exposure."""
    with style():
        figure = Figure(figsize=(12, 3.8 * len(report.arms)), layout="constrained")
        rows = panels(figure, *[2] * len(report.arms))
        for (cumulative, tenure), arm in zip(rows, report.arms, strict=True):
            _draw_cumulative(cumulative, [row for row in report.cumulative if row.arm == arm])
            cumulative.set_title(f"{arm}: the lift as it stood at the end of each day")
            _draw_tenure(tenure, [row for row in report.by_tenure if row.arm == arm])
            tenure.set_title(f"{arm}: the lift by days since a shopper's exposure")
        save(figure, file)


def _draw_interval(axes: Axes, effect: EffectRow, place: int, *, better: int) -> None:
    """Blue where the fixed interval is better than 0 for sure, red where worse, else grey."""
    low, high = effect.low, effect.high
    if effect.estimate is None or low is None or high is None:
        return
    gain = 1 if low > 0 else -1 if high < 0 else 0
    colour = {1: BLUE, -1: RED, 0: FAINT}[gain * better] if better else INK
    if effect.always_low is not None and effect.always_high is not None:
        ends = [effect.always_low, effect.always_high]
        axes.plot(ends, [place, place], color=colour, linewidth=1.0)
    axes.plot([low, high], [place, place], color=colour, linewidth=3.2)
    axes.plot([effect.estimate], [place], "o", color=colour, markersize=6)


def _finish(axes: Axes, names: Sequence[str]) -> None:
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter("{x:+.0%}")


def _columns(rows: Sequence[DayRow]) -> np.ndarray:
    """Day, estimate, fixed ends, always-valid ends; float64 (6, n), NaN where unknown."""
    table = [
        (
            row.day,
            row.lift.estimate,
            row.lift.low,
            row.lift.high,
            row.lift.always_low,
            row.lift.always_high,
        )
        for row in rows
    ]
    return np.array(table, np.float64).reshape(-1, 6).T


def _draw_cumulative(axes: Axes, rows: Sequence[DayRow]) -> None:
    day, estimate, low, high, always_low, always_high = _columns(rows)
    axes.fill_between(day, always_low, always_high, color=_PALE, label="valid at any look")
    axes.plot(day, low, "--", color=BLUE, linewidth=1, label="fixed, one planned look")
    axes.plot(day, high, "--", color=BLUE, linewidth=1)
    axes.plot(day, estimate, "o-", color=BLUE, markersize=3.5)
    _finish_days(axes, "day of the experiment", np.concatenate([low, high]))
    axes.legend(loc="lower right")


def _draw_tenure(axes: Axes, rows: Sequence[DayRow]) -> None:
    day, estimate, low, high, *_ = _columns(rows)
    ends = np.stack([estimate - low, high - estimate])
    axes.errorbar(day, estimate, ends, fmt="o", color=BLUE, ecolor=FAINT, capsize=2.5)
    _finish_days(axes, "days since exposure", np.concatenate([low, high]))


def _finish_days(axes: Axes, label: str, ends: np.ndarray) -> None:
    """Days that know little don't stretch the axis."""
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xlabel(label)
    axes.yaxis.set_major_formatter("{x:+.0%}")
    if len(ends):
        reach = 1.3 * float(np.quantile(np.abs(ends), 0.9)) or 1.0
        axes.set_ylim(-reach, reach)
