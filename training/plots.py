"""Figures of the reports, as PNG files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.report import (
    HEADLINE,
    SYSTEM_NAMES,
    TARGET_NAMES,
    Estimate,
    EvaluationReport,
    ResultRow,
    Target,
)

_INK: Final = "#202124"
_FAINT: Final = "#80868b"
_BLUE: Final = "#3a86b7"
_RED: Final = "#e4572e"
_COLOURS: Final = {
    "popularity": "#b4bac1",
    "bm25_knn": "#8ecae6",
    "bm25_knn_counts": _BLUE,
    "zero_shot": "#a7d7a9",
    "fine_tuned": "#3f9b4f",
    "system": _RED,
    "oracle": "#f2b134",
}


def plot_evaluation(report: EvaluationReport, path: Path) -> None:
    """NDCG@10 with 95 % intervals: the systems on each target above, their segments below."""
    targets = [target for target in TARGET_NAMES if report.rows_of(target)]
    split = [target for target in targets if report.segments(target)]
    with _style():
        figure = Figure(figsize=(13, 8.4), layout="constrained")
        above, below = _panels(figure, len(targets), len(split))
        for axes, target in zip(above, targets, strict=True):
            _draw_systems(axes, report.rows_of(target), target)
        for axes, target in zip(below, split, strict=True):
            _draw_segments(axes, report, target)
        below[0].legend(loc="upper left", ncols=2)
        title = f"Bundle {report.bundle}: ranking quality from {report.start:%Y-%m-%d %H:%M} UTC on"
        figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
        _save(figure, path)


def plot_fine_tuning(
    history: Sequence[Mapping[str, float]],
    before: Mapping[str, Estimate],
    after: Mapping[str, Estimate],
    path: Path,
    *,
    metric: str,
) -> None:
    """Curves of a fine-tuning, and test metrics before and after it.

    Args:
        history: entries as in `Trainer.state.log_history`: `step` and either `loss` (training) or
            `eval_loss` and the metric after `eval_` (validation); others are skipped. May be empty.
        before: test metrics of the pretrained model, by name.
        after: the same metrics of the best checkpoint.
        path: the PNG file.
        metric: key of what was validated, higher is better.
    """
    name = metric.upper() if metric == HEADLINE else metric.capitalize()
    with _style():
        figure = Figure(figsize=(14, 4.4), layout="constrained")
        ((losses, quality, bars),) = _panels(figure, 3)
        _draw_curve(losses, history, "loss", "training")
        _draw_curve(losses, history, "eval_loss", "validation")
        _draw_curve(quality, history, f"eval_{metric}", "validation")
        for axes, title in ((losses, "Loss"), (quality, f"{name} on the validation slice")):
            _mark_best(axes, history, f"eval_{metric}")
            axes.set_title(title)
            axes.set_xlabel("optimiser step")
        _draw_before_after(bars, before, after)
        _save(figure, path)


def plot_feature_importance(names: Sequence[str], gains: Sequence[float], path: Path) -> None:
    """Share of the total gain for each feature, largest first; at most the first 30.

    Args:
        names: features.
        gains: total gain of each, not negative, in the order of the names.
        path: the PNG file.
    """
    shares = np.asarray(gains, np.float64) / max(float(np.sum(gains)), 1e-12)
    order = np.argsort(-shares, kind="stable")[:30]
    with _style():
        figure = Figure(figsize=(9, 1.4 + 0.24 * len(order)), layout="constrained")
        ((axes,),) = _panels(figure, 1)
        axes.barh(range(len(order)), shares[order], color=_BLUE, height=0.72)
        for place, share in enumerate(shares[order].tolist()):
            _label(axes, share, place, f"{share:.1%}", bold=False)
        _list_downwards(axes, [names[row] for row in order], float(shares.max(initial=0.0)))
        axes.set_title("What the ranker looks at: share of its trees' gain by feature")
        axes.xaxis.set_major_formatter("{x:.0%}")
        _save(figure, path)


def _draw_systems(axes: Axes, rows: Sequence[ResultRow], target: Target) -> None:
    """Horizontal bars, one for each system."""
    shown = [row.metrics[HEADLINE] for row in rows]
    for place, (row, one) in enumerate(zip(rows, shown, strict=True)):
        axes.barh(place, one.mean, color=_COLOURS[row.system], height=0.66)
        _whisker(axes, one, place)
        _label(axes, one.high, place, f"{one.mean:.3f}", bold=row.system == "system")
    _list_downwards(axes, [SYSTEM_NAMES[row.system] for row in rows], max(o.high for o in shown))
    axes.set_title(f"{TARGET_NAMES[target]}\n{rows[0].customers:,} shoppers")
    axes.set_xlabel("NDCG@10, 95 % interval")


def _draw_segments(axes: Axes, report: EvaluationReport, target: Target) -> None:
    """Vertical bars in groups, one group for each segment."""
    segments = report.segments(target)
    systems = [row.system for row in report.rows_of(target)]
    width = 0.8 / len(systems)
    for place, system in enumerate(systems):
        rows = [report.rows_of(target, segment)[place] for segment in segments]
        shown = [row.metrics[HEADLINE] for row in rows]
        at = np.arange(len(segments)) + (place - (len(systems) - 1) / 2) * width
        means = np.array([one.mean for one in shown])
        ends = np.array([[one.mean - one.low, one.high - one.mean] for one in shown]).T
        axes.bar(at, means, width * 0.92, color=_COLOURS[system], label=SYSTEM_NAMES[system])
        axes.errorbar(at, means, ends, fmt="none", ecolor=_INK, elinewidth=0.9)
    counts = [report.rows_of(target, segment)[0].customers for segment in segments]
    names = [segment.replace(" ", "\n") for segment in segments]
    labels = [f"{name}\n({count:,})" for name, count in zip(names, counts, strict=True)]
    axes.set_xticks(range(len(segments)), labels)
    axes.grid(visible=False, axis="x")
    axes.margins(y=0.25)
    axes.set_ylim(bottom=0)
    axes.set_title(f"{TARGET_NAMES[target]}: by history, by true items")
    axes.set_xlabel("segment (shoppers in it)")
    axes.set_ylabel("NDCG@10")


def _draw_curve(axes: Axes, history: Sequence[Mapping[str, float]], key: str, label: str) -> None:
    """A metric over the steps at which it was logged; nothing where it never was."""
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    if not points:
        return
    colour, marker = (_FAINT, "") if key == "loss" else (_RED, "o")
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=label)


def _mark_best(axes: Axes, history: Sequence[Mapping[str, float]], key: str) -> None:
    """A dotted line at the evaluation with the best figure: the first of equal ones."""
    scored = [entry for entry in history if key in entry]
    if scored:
        best = max(scored, key=lambda entry: entry[key])["step"]
        axes.axvline(best, color=_INK, linestyle=":", linewidth=1.3, label=f"best: step {best:g}")
        axes.legend()


def _draw_before_after(
    axes: Axes, before: Mapping[str, Estimate], after: Mapping[str, Estimate]
) -> None:
    """Two horizontal bars for each metric: pretrained above, fine-tuned below."""
    shown = [*before.values(), *after.values()]
    for offset, estimates, colour, label in (
        (-0.19, before, _COLOURS["zero_shot"], "before"),
        (0.19, after, _COLOURS["fine_tuned"], "after"),
    ):
        places = np.arange(len(estimates)) + offset
        means = [one.mean for one in estimates.values()]
        axes.barh(places, means, 0.34, color=colour, label=label)
        for place, one in zip(places.tolist(), estimates.values(), strict=True):
            _whisker(axes, one, place)
            _label(axes, one.high, place, f"{one.mean:.3f}", bold=label == "after")
    _list_downwards(axes, list(before), max((one.high for one in shown), default=1.0))
    axes.set_title("Test slice, before and after fine-tuning")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)


def _whisker(axes: Axes, one: Estimate, place: float) -> None:
    ends = [[one.mean - one.low], [one.high - one.mean]]
    axes.errorbar(
        [one.mean], [place], xerr=ends, fmt="none", ecolor=_INK, elinewidth=1.1, capsize=2.5
    )


def _label(axes: Axes, right_of: float, place: float, text: str, *, bold: bool) -> None:
    axes.annotate(
        text,
        (right_of, place),
        (5, 0),
        textcoords="offset points",
        va="center",
        fontweight="bold" if bold else "normal",
    )


def _list_downwards(axes: Axes, names: Sequence[str], largest: float) -> None:
    """Names at 0, 1, …, first on top; room at the right for the labels of bars up to `largest`."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.22 * largest or 1.0)


def _panels(figure: Figure, *columns: int) -> list[list[Axes]]:
    """Rows of axes, one row for each given number of columns; a row's axes have equal widths."""
    grid = figure.add_gridspec(len(columns), 1)
    rows = []
    for row, count in enumerate(columns):
        inner = grid[row, 0].subgridspec(1, count)
        rows.append([figure.add_subplot(inner[0, column]) for column in range(count)])
    return rows


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=150, metadata={"Software": None})


@contextmanager
def _style() -> Iterator[None]:
    with rc_context(
        {
            "font.size": 9.5,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.edgecolor": _FAINT,
            "axes.labelcolor": _FAINT,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e8eaed",
            "text.color": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
            "legend.frameon": False,
            "figure.constrained_layout.h_pad": 0.12,
            "figure.constrained_layout.w_pad": 0.12,
        }
    ):
        yield
