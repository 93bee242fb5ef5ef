"""Figures of a training run, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.plot_style import (
    BLUE,
    COLOURS,
    FAINT,
    INK,
    RED,
    annotate,
    list_downwards,
    panels,
    save,
    style,
    whisker,
)
from training.report import HEADLINE, Estimate


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
    with style():
        figure = Figure(figsize=(14, 4.4), layout="constrained")
        ((losses, quality, bars),) = panels(figure, 3)
        _draw_curve(losses, history, "loss", "training")
        _draw_curve(losses, history, "eval_loss", "validation")
        _draw_curve(quality, history, f"eval_{metric}", "validation")
        for axes, title in ((losses, "Loss"), (quality, f"{name} on the validation slice")):
            _mark_best(axes, history, f"eval_{metric}")
            axes.set_title(title)
            axes.set_xlabel("optimiser step")
        _draw_before_after(bars, before, after)
        save(figure, path)


def plot_feature_importance(names: Sequence[str], gains: Sequence[float], path: Path) -> None:
    """Share of the total gain for each feature, largest first; at most the first 30.

    Args:
        names: features.
        gains: total gain of each, not negative, in the order of the names.
        path: the PNG file.
    """
    shares = np.asarray(gains, np.float64) / max(float(np.sum(gains)), 1e-12)
    order = np.argsort(-shares, kind="stable")[:30]
    with style():
        figure = Figure(figsize=(9, 1.4 + 0.24 * len(order)), layout="constrained")
        ((axes,),) = panels(figure, 1)
        axes.barh(range(len(order)), shares[order], color=BLUE, height=0.72)
        for place, share in enumerate(shares[order].tolist()):
            annotate(axes, share, place, f"{share:.1%}", bold=False)
        list_downwards(axes, [names[row] for row in order], float(shares.max(initial=0.0)))
        axes.set_title("What the ranker looks at: share of its trees' gain by feature")
        axes.xaxis.set_major_formatter("{x:.0%}")
        save(figure, path)


def _draw_curve(axes: Axes, history: Sequence[Mapping[str, float]], key: str, label: str) -> None:
    """A metric over the steps at which it was logged; nothing where it never was."""
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    if not points:
        return
    colour, marker = (FAINT, "") if key == "loss" else (RED, "o")
    steps, values = zip(*points, strict=True)
    axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=label)


def _mark_best(axes: Axes, history: Sequence[Mapping[str, float]], key: str) -> None:
    """A dotted line at the evaluation with the best figure: the first of equal ones."""
    scored = [entry for entry in history if key in entry]
    if scored:
        best = max(scored, key=lambda entry: entry[key])["step"]
        axes.axvline(best, color=INK, linestyle=":", linewidth=1.3, label=f"best: step {best:g}")
        axes.legend()


def _draw_before_after(
    axes: Axes, before: Mapping[str, Estimate], after: Mapping[str, Estimate]
) -> None:
    """Two horizontal bars for each metric: pretrained above, fine-tuned below."""
    shown = [*before.values(), *after.values()]
    for offset, estimates, colour, label in (
        (-0.19, before, COLOURS["zero_shot"], "before"),
        (0.19, after, COLOURS["fine_tuned"], "after"),
    ):
        places = np.arange(len(estimates)) + offset
        means = [one.mean for one in estimates.values()]
        axes.barh(places, means, 0.34, color=colour, label=label)
        for place, one in zip(places.tolist(), estimates.values(), strict=True):
            whisker(axes, one, place)
            annotate(axes, one.high, place, f"{one.mean:.3f}", bold=label == "after")
    list_downwards(axes, list(before), max((one.high for one in shown), default=1.0))
    axes.set_title("Test slice, before and after fine-tuning")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2)
