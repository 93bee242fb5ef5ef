"""Figures of an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.plot_style import (
    BLUE,
    COLOURS,
    FAINT,
    INK,
    RED,
    PngFile,
    annotate,
    list_downwards,
    panels,
    save,
    style,
    whisker,
)
from training.report import (
    COMPARED_NAMES,
    HEADLINE,
    SYSTEM_NAMES,
    TARGET_NAMES,
    CalibrationReport,
    CandidateReport,
    DifferenceRow,
    EvaluationReport,
    ResultRow,
    Target,
)

IN_SEGMENTS: Final = ("popularity", "bm25_knn_counts", "without_text", "system", "oracle")
"""Systems that the figure of segments shows, where they were measured."""


def plot_systems(report: EvaluationReport, file: PngFile) -> None:
    """NDCG@10 with 95 % intervals: the systems on each target."""
    targets = report.targets
    most = max(len(report.rows_of(target)) for target in targets)
    with style():
        figure = Figure(figsize=(13, 1.2 + 0.36 * most), layout="constrained")
        (row,) = panels(figure, len(targets))
        for axes, target in zip(row, targets, strict=True):
            _draw_systems(axes, report.rows_of(target), target)
        save(figure, file)


def plot_differences(rows: Sequence[DifferenceRow], file: PngFile) -> None:
    """Paired differences in NDCG@10 with 95 % intervals, one line for each, under its target.

    Blue is a gain and red a loss after correction, grey shows neither.
    """
    lines: list[tuple[str, DifferenceRow | None]] = []
    for target, group in groupby(rows, lambda row: row.target):
        lines.append((TARGET_NAMES[target], None))
        lines += [
            (f"{COMPARED_NAMES[row.system]} against {COMPARED_NAMES[row.against]}", row)
            for row in group
        ]
    with style():
        figure = Figure(figsize=(11, 1.0 + 0.26 * len(lines)), layout="constrained")
        ((axes,),) = panels(figure, 1)
        for place, (_, row) in enumerate(lines):
            if row is not None:
                _draw_difference(axes, row, place)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(lines)), [name for name, _ in lines])
        for (_, row), tick in zip(lines, axes.get_yticklabels(), strict=True):
            tick.set_fontweight("bold" if row is None else "normal")
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("difference in NDCG@10, 95 % interval")
        save(figure, file)


def plot_segments(report: EvaluationReport, file: PngFile) -> None:
    """NDCG@10 with 95 % intervals by length of history and by true items, a row a target."""
    targets = [target for target in report.targets if report.segments(target)]
    with style():
        figure = Figure(figsize=(12, 3.6 * len(targets)), layout="constrained")
        for (axes,), target in zip(panels(figure, *[1] * len(targets)), targets, strict=True):
            _draw_segments(axes, report, target)
        save(figure, file)


def plot_candidates(reports: Sequence[CandidateReport], file: PngFile) -> None:
    """Recall of candidates by source, and of the best so many candidates; a row a target."""
    with style():
        figure = Figure(figsize=(12, 3.6 * len(reports)), layout="constrained")
        for (sources, curve), one in zip(panels(figure, *[2] * len(reports)), reports, strict=True):
            _draw_sources(sources, one)
            _draw_depths(curve, one)
        save(figure, file)


def plot_reliability(calibration: CalibrationReport, file: PngFile) -> None:
    """Share that came true by predicted probability, with 95 % intervals, beside the diagonal."""
    predicted = [one.probability for one in calibration.bins]
    shares = [one.share for one in calibration.bins]
    means = np.array([one.mean for one in shares])
    ends = np.array([[one.mean - one.low, one.high - one.mean] for one in shares]).T
    largest = 1.05 * max(*predicted, *(one.high for one in shares))
    with style():
        figure = Figure(figsize=(5.6, 5.2), layout="constrained")
        ((axes,),) = panels(figure, 1)
        axes.plot([0, largest], [0, largest], color=FAINT, linestyle=":", label="perfect")
        axes.errorbar(
            predicted,
            means,
            ends,
            fmt="o-",
            color=RED,
            ecolor=INK,
            elinewidth=1.1,
            label="observed",
        )
        axes.set_xlim(0, largest)
        axes.set_ylim(0, largest)
        axes.set_aspect("equal")
        axes.set_xlabel("predicted purchase probability")
        axes.set_ylabel("share bought")
        axes.legend(loc="upper left")
        save(figure, file)


def _draw_systems(axes: Axes, rows: Sequence[ResultRow], target: Target) -> None:
    """Horizontal bars, one for each system."""
    shown = [row.metrics[HEADLINE] for row in rows]
    for place, (row, one) in enumerate(zip(rows, shown, strict=True)):
        axes.barh(place, one.mean, color=COLOURS[row.system], height=0.66)
        whisker(axes, one, place)
        annotate(axes, one.high, place, f"{one.mean:.3f}", bold=row.system == "system")
    list_downwards(
        axes,
        [SYSTEM_NAMES[row.system].replace(" (", "\n(") for row in rows],
        max(one.high for one in shown),
    )
    axes.set_title(f"{TARGET_NAMES[target]}\n{rows[0].customers:,} shoppers")
    axes.set_xlabel("NDCG@10, 95 % interval")


def _draw_difference(axes: Axes, row: DifferenceRow, place: int) -> None:
    one = row.metrics[HEADLINE]
    colour = {"gain": BLUE, "loss": RED, "none shown": FAINT}[row.verdict]
    axes.plot([one.low, one.high], [place, place], color=colour, linewidth=2.2)
    axes.plot([one.mean], [place], "o", color=colour, markersize=5.5)


def _draw_segments(axes: Axes, report: EvaluationReport, target: Target) -> None:
    """Vertical bars in groups, one group for each segment."""
    segments = report.segments(target)
    measured = [row.system for row in report.rows_of(target)]
    systems = [system for system in IN_SEGMENTS if system in measured]
    width = 0.8 / len(systems)
    for place, system in enumerate(systems):
        rows = [report.rows_of(target, segment)[measured.index(system)] for segment in segments]
        shown = [row.metrics[HEADLINE] for row in rows]
        at = np.arange(len(segments)) + (place - (len(systems) - 1) / 2) * width
        means = np.array([one.mean for one in shown])
        ends = np.array([[one.mean - one.low, one.high - one.mean] for one in shown]).T
        axes.bar(at, means, width * 0.92, color=COLOURS[system], label=SYSTEM_NAMES[system])
        axes.errorbar(at, means, ends, fmt="none", ecolor=INK, elinewidth=0.9)
    counts = [report.rows_of(target, segment)[0].customers for segment in segments]
    labels = [f"{name}\n({count:,})" for name, count in zip(segments, counts, strict=True)]
    axes.set_xticks(range(len(segments)), labels)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.1)
    axes.set_ylim(bottom=0)
    axes.set_title(TARGET_NAMES[target])
    axes.set_ylabel("NDCG@10")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _draw_sources(axes: Axes, report: CandidateReport) -> None:
    """Horizontal bars: what each source brings, and within it what only this one does."""
    for place, row in enumerate(report.sources):
        axes.barh(place, row.alone.mean, color="#8ecae6", height=0.66)
        axes.barh(place, row.only.mean, color=BLUE, height=0.66)
        annotate(axes, row.alone.mean, place, f"{row.alone.mean:.1%}", bold=False)
    below = len(report.sources)
    axes.barh(below, report.total.mean, color=RED, height=0.66)
    annotate(axes, report.total.mean, below, f"{report.total.mean:.1%}", bold=True)
    names = [*(row.source.replace("_", " ") for row in report.sources), "all together"]
    list_downwards(axes, names, report.total.mean)
    axes.set_title(f"{TARGET_NAMES[report.target]}: recall by source\ndark: by no other source")
    axes.xaxis.set_major_formatter("{x:.0%}")


def _draw_depths(axes: Axes, report: CandidateReport) -> None:
    depths, recalls = zip(*((one.candidates, one.recall) for one in report.curve), strict=True)
    axes.plot(depths, recalls, color=RED, marker="o", markersize=4)
    axes.axvline(report.candidates, color=FAINT, linestyle=":", label="mean number")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(bottom=0)
    axes.set_title("Recall of the best so many candidates\nby best rank in any source")
    axes.set_xlabel("candidates")
    axes.legend(loc="lower right")
