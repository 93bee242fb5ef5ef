"""Benchmarks as pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from serving.bench.serving_path import ServingPath
from serving.bench.text_scoring import Cost, TextScoring

_SIZE: Final[dict[str, Callable[[Cost], float]]] = {
    "shopper tokens": lambda cost: cost.shopper_tokens,
    "item tokens": lambda cost: cost.item_tokens,
    "candidates": lambda cost: cost.candidates,
}


def plot_text_scoring(found: TextScoring, path: Path) -> None:
    """Milliseconds against the three sizes of the task."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    for axes, (name, size) in zip(figure.subplots(1, 3), _SIZE.items(), strict=True):
        costs = [cost for cost in found.costs if cost.case == name]
        axes.plot([size(cost) for cost in costs], [c.two_part_ms for c in costs], marker="o")
        axes.set_xlabel(name)
        axes.set_title(_others(name, costs[0]), fontsize=9)
        axes.set_ylim(bottom=0)
        if name == "candidates":
            axes.set_xscale("log")
            axes.set_yscale("log")
    figure.axes[0].set_ylabel("milliseconds")
    figure.suptitle("Text scoring of one request")
    figure.savefig(path, dpi=150)


def plot_serving(found: ServingPath, path: Path) -> None:
    """Where the time of one call goes, and latency against candidates."""
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    steps, sizes = figure.subplots(1, 2, width_ratios=(3, 2))
    _plot_steps(found, steps)
    _plot_ranks(found, sizes)
    figure.savefig(path, dpi=150)


def _plot_steps(found: ServingPath, axes: Axes) -> None:
    names = list(found.steps_ms)
    bars = axes.barh(names, [found.steps_ms[name] for name in names])
    axes.bar_label(bars, fmt="%.1f ms", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("milliseconds, median, one client")
    axes.set_title(
        f"A call of Recommend: {found.candidates:,.0f} candidates, {found.read:.0f} of them read",
        fontsize=10,
    )


def _plot_ranks(found: ServingPath, axes: Axes) -> None:
    axes.plot([r.items for r in found.ranks], [r.p50_ms for r in found.ranks], marker="o")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items, all of them read by the cross-encoder")
    axes.set_ylabel("milliseconds, median, one client")
    axes.set_title("A call of Rank", fontsize=10)


def _others(name: str, cost: Cost) -> str:
    """The sizes that a sweep keeps."""
    sizes = {key: f"{size(cost):.0f} {key}" for key, size in _SIZE.items() if key != name}
    return ", ".join(sizes.values())
