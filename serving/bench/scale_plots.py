"""Costs against the size of the log and of the catalogue, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from serving.bench.catalogue_sizes import CatalogueSizes
    from serving.bench.features import FeatureSpeed
    from serving.bench.vector_search import VectorSearch


def plot_features(found: FeatureSpeed, path: Path) -> None:
    """Seconds and memory against the events of the log."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    events = [log.events for log in found.logs]
    read = [log.read_seconds for log in found.logs]
    both = [log.read_seconds + log.statistics_seconds for log in found.logs]
    seconds.plot(events, both, marker="o", label="and statistics of items")
    seconds.plot(events, read, marker="o", label="read the log")
    seconds.set_ylabel("seconds")
    seconds.legend(frameon=False)
    memory.plot(events, [log.peak_mib for log in found.logs], marker="o")
    memory.axhline(found.limit_mib, linestyle=":", color="grey")
    memory.set_ylabel("most resident memory, MiB")
    for axes in (seconds, memory):
        axes.set_xlabel("events")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    figure.suptitle("From events on disk to statistics of items")
    figure.savefig(path, dpi=150)


def plot_vector_search(found: VectorSearch, path: Path) -> None:
    """Search time, build time and memory against the number of vectors, by library."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, 3))
    labels = ("search, p50 ms, one thread", "build, seconds", "memory, MiB")
    for axes, label, field in zip(
        panels, labels, ("p50_ms", "build_seconds", "index_mib"), strict=True
    ):
        for library in dict.fromkeys(cost.library for cost in found.costs):
            own = [cost for cost in found.costs if cost.library == library]
            sizes = [cost.vectors for cost in own]
            axes.plot(sizes, [getattr(cost, field) for cost in own], marker="o", label=library)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("vectors")
        axes.set_ylabel(label)
    panels[0].legend(frameon=False)
    figure.suptitle(f"{found.dimension} dimensions, recall@100 of at least 0.98")
    figure.savefig(path, dpi=150)


def plot_catalogue_sizes(found: CatalogueSizes, path: Path) -> None:
    """Time of a call and memory of the server against the items of the catalogue."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    latency, memory = figure.subplots(1, 2)
    items = [cost.items for cost in found.costs]
    latency.plot(items, [cost.p50_ms for cost in found.costs], marker="o", label="median")
    latency.plot(items, [cost.p99_ms for cost in found.costs], marker="o", label="99th percentile")
    latency.set_ylabel("a call, milliseconds")
    memory.plot(items, [cost.resident_mib for cost in found.costs], marker="o", label="resident")
    memory.plot(items, [cost.anonymous_mib for cost in found.costs], marker="o", label="anonymous")
    memory.set_ylabel("MiB")
    for axes in (latency, memory):
        axes.set_xlabel("items")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    figure.suptitle(f"A server as its catalogue grows, {found.costs[-1].calls} calls")
    figure.savefig(path, dpi=150)
