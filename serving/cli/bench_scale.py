"""`recsys bench features`, `index` and `catalogue`: what large logs and catalogues cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.bench_output import OutOption, printed, show_line, table_of, written
from serving.cli.output import NOTES, RESULTS, JsonOption, new_app

if TYPE_CHECKING:
    from serving.bench.catalogue_sizes import CatalogueCost, CatalogueSizes
    from serving.bench.features import FeatureSpeed
    from serving.bench.vector_libraries import SearchCost
    from serving.bench.vector_search import VectorSearch

app = new_app()
EVENTS_A_SHOPPER = 225
"""What a simulated shopper causes in the default 84 days, impressions included."""


@app.command()
def features(
    dataset: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Its events; default: a simulated log.")
    ] = None,
    events: Annotated[
        int, typer.Option(min=10_000, help="Events to simulate, about.")
    ] = 10_000_000,
    items: Annotated[int, typer.Option(min=100, help="Items to simulate.")] = 20_000,
    limit_mib: Annotated[
        int, typer.Option("--memory", metavar="MIB", min=1_024, help="A process is allowed.")
    ] = 4_096,
    out: OutOption = Path("bench"),
    seed: Annotated[int, typer.Option(min=0, help="Of the simulation and the requests.")] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """From events on disk to point-in-time features: speed, memory, and pandas beside it.

    Example: recsys bench features --events 10000000 --memory 4096
    """
    from serving.bench.features import measure_features  # noqa: PLC0415
    from serving.bench.scale_plots import plot_features  # noqa: PLC0415

    log = nullcontext(dataset) if dataset else simulated_log(events, items, seed)
    with log as folder:
        found = measure_features(folder, limit_mib, seed)
    plot_features(found, written(found, out, "features") / "features.png")
    printed(found, _show_features, as_json=as_json)


@contextmanager
def simulated_log(events: int, items: int, seed: int) -> Iterator[Path]:
    """A simulated dataset of about so many events, removed afterwards."""
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.simulation import SimulationConfig  # noqa: PLC0415
    from training.simulate import simulate  # noqa: PLC0415

    config = SimulationConfig(users=max(1, -(-events // EVENTS_A_SHOPPER)), items=items)
    with TemporaryDirectory() as folder:
        simulated = Path(folder) / "log"
        with Progress(console=NOTES) as progress:
            simulate(simulated, config, seed, progress)
        yield simulated


@app.command()
def index(
    vectors: Annotated[
        list[int] | None, typer.Option(min=1_000, help="Catalogue size; may be repeated.")
    ] = None,
    queries: Annotated[int, typer.Option(min=10, help="Searched one by one.")] = 1_000,
    dimension: Annotated[int, typer.Option(min=8, help="Of the vectors.")] = 384,
    out: OutOption = Path("bench"),
    seed: Annotated[int, typer.Option(min=0, help="Of the vectors that are generated.")] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """The vector index at sizes of the catalogue, hnswlib and usearch beside it at equal recall.

    Example: recsys bench index --vectors 100000 --vectors 1000000
    """
    from serving.bench.scale_plots import plot_vector_search  # noqa: PLC0415
    from serving.bench.vector_search import measure_vector_search  # noqa: PLC0415

    sizes = sorted(vectors or [10_000, 100_000, 1_000_000])
    found = measure_vector_search(sizes, (queries, dimension), seed, _note)
    plot_vector_search(found, written(found, out, "index") / "index.png")
    printed(found, _show_index, as_json=as_json)


@app.command()
def catalogue(
    registry: Annotated[Path, typer.Option(help="Its current bundle is grown.")],
    items: Annotated[
        list[int] | None, typer.Option(min=10, help="Catalogue size; may be repeated.")
    ] = None,
    calls: Annotated[int, typer.Option(min=10, help="Of different shoppers.")] = 200,
    out: OutOption = Path("bench"),
    seed: Annotated[int, typer.Option(min=0, help="Of the items that are added.")] = 1,
    *,
    as_json: JsonOption = False,
) -> None:
    """Memory of a server and time of a call as the catalogue grows by variants of its items.

    Example: recsys bench catalogue --registry shop/registry --items 10000 --items 100000
    """
    from serving.bench.catalogue_sizes import measure_catalogue_sizes  # noqa: PLC0415
    from serving.bench.scale_plots import plot_catalogue_sizes  # noqa: PLC0415
    from serving.loading import verified_bundle  # noqa: PLC0415

    sizes = sorted(items or [10_000, 30_000, 100_000])
    found = measure_catalogue_sizes(verified_bundle(registry), sizes, calls, seed, _note_size)
    plot_catalogue_sizes(found, written(found, out, "catalogue") / "catalogue.png")
    printed(found, _show_catalogue, as_json=as_json)


def _note(cost: SearchCost) -> None:
    NOTES.print(
        f"{cost.vectors:,} vectors, {cost.library}: {cost.build_seconds:.0f} s to build, "
        f"{cost.p50_ms:.2f} ms, recall {cost.recall:.3f}",
        highlight=False,
    )


def _note_size(cost: CatalogueCost) -> None:
    NOTES.print(
        f"{cost.items:,} items: {cost.p50_ms:.0f} ms, {cost.resident_mib:,.0f} MiB resident",
        highlight=False,
    )


def _show_features(found: FeatureSpeed) -> None:
    columns = ("events", "days", "read", "statistics", "events/s", "resident", "feature rows/s")
    table = table_of(f"A log of {found.items:,} items, {found.limit_mib:,} MiB allowed", *columns)
    for log in found.logs:
        table.add_row(
            f"{log.events:,}",
            f"{log.days:.0f}",
            f"{log.read_seconds:.2f} s",
            f"{log.statistics_seconds:.2f} s",
            f"[bold]{log.events_per_second:,.0f}[/]",
            f"{log.peak_mib:,.0f} MiB",
            f"{log.feature_rows_per_second:,.0f}",
        )
    RESULTS.print(table)
    peers = table_of(
        "The same events, counted another way", "peer", "events", "events/s", "product", "equal"
    )
    for peer in found.peers:
        peers.add_row(
            peer.name,
            f"{peer.events:,}",
            f"{peer.events_per_second:,.0f}",
            f"{peer.this_product:,.0f}",
            "yes" if peer.equal else "NO",
        )
    RESULTS.print(peers)
    show_line(found.machine.line())


def _show_index(found: VectorSearch) -> None:
    columns = ("library", "vectors", "recall@100", "p50", "p99", "to build", "memory", "settings")
    table = table_of(f"Search by one thread, {found.dimension} dimensions", *columns)
    for cost in found.costs:
        table.add_row(
            cost.library,
            f"{cost.vectors:,}",
            f"{cost.recall:.3f}",
            f"[bold]{cost.p50_ms:.2f} ms[/]",
            f"{cost.p99_ms:.2f} ms",
            f"{cost.build_seconds:,.0f} s",
            f"{cost.index_mib:,.0f} MiB",
            cost.settings,
        )
    RESULTS.print(table)
    for library in found.missing:
        show_line(f"{library} is not installed: pip install 'vitrine-recsys[bench]'")
    show_line(f"built by {found.build_threads} threads; {found.machine.line()}")


def _show_catalogue(found: CatalogueSizes) -> None:
    columns = ("items", "p50", "p99", "resident", "anonymous", "of files", "peak", "bundle")
    changes = table_of(
        "Changes of two items each, and calls meanwhile",
        *("items", "first", "others", "slowest", "p50", "p99", "resident then"),
    )
    table = table_of(f"A server over bundle {found.bundle}, grown", *columns)
    for cost in found.costs:
        memory = (cost.resident_mib, cost.anonymous_mib, cost.file_mib, cost.peak_mib)
        table.add_row(
            f"{cost.items:,}",
            f"{cost.p50_ms:.0f} ms",
            f"{cost.p99_ms:.0f} ms",
            *(f"{mib:,.0f} MiB" for mib in (*memory, cost.bundle_mib)),
        )
        if (change := cost.change) is not None:
            seconds = (change.first_seconds, change.median_seconds, change.slowest_seconds)
            changes.add_row(
                f"{cost.items:,}",
                *(f"{taken:.1f} s" for taken in seconds),
                f"{change.p50_ms:.0f} ms",
                f"{change.p99_ms:.0f} ms",
                f"{cost.resident_changed_mib:,.0f} MiB",
            )
    RESULTS.print(table)
    RESULTS.print(changes)
    show_line(found.machine.line())
