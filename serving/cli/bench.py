"""`recsys bench`: figures of this machine, each beside its peer in the same run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from serving.cli.bench_output import OutOption, printed, table_of, written
from serving.cli.bench_scale import app as scale_app
from serving.cli.output import RESULTS, JsonOption, new_app

if TYPE_CHECKING:
    from recsys.recommender import Contents
    from serving.bench.item_states import StoredStates
    from serving.bench.serving_path import ServingPath
    from serving.bench.speed_tables import Benchmarks
    from serving.bench.text_scoring import TextScoring
    from serving.bench.training import TrainingSpeed

REPEATS: Final = 7
CALLS: Final = 300
CLIENTS: Final = (1, 8)
GROUPS: Final = 256
TRAININGS: Final = 5
SEED: Final = 1
"""Defaults."""

app = new_app()
RegistryOption = Annotated[Path, typer.Option(help="Its current bundle is measured.")]


@app.callback()
def bench() -> None:
    """Measure a bundle on this machine; run nothing else beside it."""


@app.command("all")
def everything(
    registry: RegistryOption,
    out: OutOption = Path("bench"),
    *,
    as_json: JsonOption = False,
) -> None:
    """Encoder, serving and training with their defaults, and speed.md, the tables of the README.

    Example: recsys bench all --registry shop/registry --out bench
    """
    from serving.bench.speed_tables import Benchmarks  # noqa: PLC0415

    found = Benchmarks(
        encoder=_encoder(registry, out, repeats=REPEATS, seed=SEED),
        serving=_serving(registry, out, calls=CALLS, clients=CLIENTS),
        training=_training(registry, out, groups=GROUPS, repeats=TRAININGS, seed=SEED),
    )
    (out / "speed.md").write_text(found.markdown(), encoding="utf-8")
    printed(found, _show_everything, as_json=as_json)


@app.command()
def encoder(
    registry: RegistryOption,
    out: OutOption = Path("bench"),
    repeats: Annotated[int, typer.Option(min=5, help="Runs of each median.")] = REPEATS,
    seed: Annotated[int, typer.Option(min=0, help="Of the texts that are drawn.")] = SEED,
    *,
    as_json: JsonOption = False,
) -> None:
    """Cost of scoring texts, beside a plain cross-encoder and sentence-transformers'.

    Example: recsys bench encoder --registry shop/registry --out bench
    """
    found = _encoder(registry, out, repeats=repeats, seed=seed)
    printed(found, _show_encoder, as_json=as_json)


@app.command()
def serving(
    registry: RegistryOption,
    out: OutOption = Path("bench"),
    calls: Annotated[int, typer.Option(min=20, help="Calls of one client.")] = CALLS,
    clients: Annotated[list[int] | None, typer.Option(min=1, help="May be repeated.")] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Latency and throughput of `Recommend` through a server, and where its time goes.

    Example: recsys bench serving --registry shop/registry --clients 1 --clients 8
    """
    found = _serving(registry, out, calls=calls, clients=tuple(clients or CLIENTS))
    printed(found, _show_serving, as_json=as_json)


@app.command()
def training(
    registry: RegistryOption,
    out: OutOption = Path("bench"),
    groups: Annotated[int, typer.Option(min=16, help="Of 16 pairs each, to learn from.")] = GROUPS,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each median.")] = TRAININGS,
    seed: Annotated[int, typer.Option(min=0, help="Of the pairs that are drawn.")] = SEED,
    *,
    as_json: JsonOption = False,
) -> None:
    """Speed of fine-tuning, beside sentence-transformers' CrossEncoderTrainer.

    Example: recsys bench training --registry shop/registry
    """
    found = _training(registry, out, groups=groups, repeats=repeats, seed=seed)
    printed(found, _show_training, as_json=as_json)


def _encoder(registry: Path, folder: Path, *, repeats: int, seed: int) -> TextScoring:
    from serving.bench.plots import plot_text_scoring  # noqa: PLC0415
    from serving.bench.text_scoring import measure_text_scoring  # noqa: PLC0415

    found = measure_text_scoring(_contents(registry), folder, repeats, seed)
    plot_text_scoring(found, written(found, folder, "encoder") / "encoder.png")
    return found


def _serving(registry: Path, folder: Path, *, calls: int, clients: tuple[int, ...]) -> ServingPath:
    from serving.bench.plots import plot_serving  # noqa: PLC0415
    from serving.bench.serving_path import measure_serving  # noqa: PLC0415
    from serving.loading import verified_bundle  # noqa: PLC0415
    from training.process import set_up_process  # noqa: PLC0415

    set_up_process()
    found = measure_serving(registry, verified_bundle(registry), calls, clients)
    plot_serving(found, written(found, folder, "serving") / "serving.png")
    return found


def _training(
    registry: Path, folder: Path, *, groups: int, repeats: int, seed: int
) -> TrainingSpeed:
    from recsys.text import render_items  # noqa: PLC0415
    from serving.bench.training import measure_training  # noqa: PLC0415

    contents = _contents(registry)
    titles = render_items(contents.catalogue.table)
    found = measure_training(titles, contents.configuration, groups, seed, repeats)
    written(found, folder, "training")
    return found


def _contents(registry: Path) -> Contents:
    from recsys.recommender import Contents  # noqa: PLC0415
    from serving.loading import verified_bundle  # noqa: PLC0415
    from training.process import set_up_process  # noqa: PLC0415

    set_up_process()
    return Contents.load(verified_bundle(registry))


def _show_everything(found: Benchmarks) -> None:
    _show_encoder(found.encoder)
    _show_serving(found.serving)
    _show_training(found.training)


def _show_encoder(found: TextScoring) -> None:
    table = table_of(f"Text scoring of one request, median of {found.repeats}, {found.precision}")
    for name in ("shopper\ntokens", "item\ntokens", "candidates", "this\nproduct", "plain"):
        table.add_column(name, justify="right")
    table.add_column("ratio", justify="right")
    table.add_column("sentence-\ntransformers", justify="right")
    table.add_column("ratio", justify="right")
    last = ""
    for cost in found.costs:
        if cost.case != last:
            table.add_section()
            last = cost.case
        cells = [f"{cost.shopper_tokens}", f"{cost.item_tokens:.1f}", f"{cost.candidates:,}"]
        cells.append(f"[bold]{cost.two_part_ms:.1f} ms[/]")
        for other in (cost.plain_ms, cost.peer_ms):
            cells += ["·", "·"] if other is None else _slower(other, cost.two_part_ms)
        table.add_row(*cells)
    RESULTS.print(table)
    own, peer = found.embedding.this_product, found.embedding.sentence_transformers
    RESULTS.print(
        f"embedding of {found.embedding.texts:,} texts: {own:,.0f} a second, SentenceTransformer"
        f" {peer:,.0f}: [bold]{own / peer:.1f} x[/]; smallest cosine of both vectors"
        f" {found.embedding.smallest_cosine:.4f}",
        highlight=False,
    )
    kernels = ", ".join(f"{name} {taken:.1f} ms" for name, taken in found.kernels_ms.items())
    RESULTS.print(f"a sample of 100 candidates by precision: {kernels}", highlight=False)
    _show_states(found.item_states)
    RESULTS.print(found.machine.line(), style="dim", highlight=False)


def _show_states(found: list[StoredStates]) -> None:
    table = table_of("Stored item states, 100 candidates; errors of a logit against float32 states")
    table.add_column("stored as")
    for name in (
        *("MiB per\n100,000 items", "largest\nerror", "typical\nerror", "same\ntop 10"),
        *("in\nmemory", "on\ndisk", "read"),
    ):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            f"[bold]{one.stored_as}[/]" if one.chosen else one.stored_as,
            f"{one.mib_per_100_000_items:,.0f}",
            f"{one.largest_error:.4f}",
            f"{one.typical_error:.4f}",
            f"{one.same_top_10:.1%}",
            f"{one.warm_ms:.1f} ms",
            f"{one.cold_ms:.1f} ms",
            "·" if one.cold_read_mib is None else f"{one.cold_read_mib:.1f} MiB",
        )
    RESULTS.print(table)


def _slower(other: float, own: float) -> list[str]:
    return [f"{other:,.0f} ms", f"{other / own:.1f} x"]


def _show_serving(found: ServingPath) -> None:
    table = table_of(f"Recommend, a page of 10 from {found.items:,} items, bundle {found.bundle}")
    for name in ("clients", "calls", "errors", "calls/s", "p50", "p99"):
        table.add_column(name, justify="right")
    for load in found.loads:
        table.add_row(
            f"{load.clients}",
            f"{load.calls:,}",
            f"{load.errors}",
            f"{load.calls_per_second:.1f}",
            f"{load.p50_ms:.0f} ms",
            f"{load.p99_ms:.0f} ms",
        )
    RESULTS.print(table)
    steps = table_of(f"One call: {found.candidates:.0f} candidates, {found.read:.0f} of them read")
    steps.add_column("step")
    steps.add_column("median", justify="right")
    for name, milliseconds in found.steps_ms.items():
        steps.add_row(name, f"{milliseconds:.1f} ms")
    steps.add_section()
    steps.add_row("together", f"[bold]{sum(found.steps_ms.values()):.1f} ms[/]")
    steps.add_row("with sentence-transformers' cross-encoder", f"{found.with_peer_ms:,.0f} ms")
    RESULTS.print(steps)
    deadlines = table_of("With a deadline, one client")
    for name in ("deadline", "calls", "full", "partly read", "not read", "exceeded", "late", "p99"):
        deadlines.add_column(name, justify="right")
    for one in found.deadlines:
        lacks = [one.degraded.get(f"cross_encoder_{name}", 0) for name in ("partial", "skipped")]
        counts = [one.calls, one.full, *lacks, one.exceeded, one.late]
        slowest = "·" if one.p99_ms is None else f"{one.p99_ms:.1f} ms"
        deadlines.add_row(f"{one.deadline_ms} ms", *(f"{count:,}" for count in counts), slowest)
    RESULTS.print(deadlines)
    RESULTS.print(found.machine.line(), style="dim", highlight=False)


def _show_training(found: TrainingSpeed) -> None:
    own, peer = found.this_product, found.sentence_transformers
    table = table_of(
        f"Fine-tuning, {found.shopper_titles} titles a shopper, pairs a second, median of"
        f" {found.repeats}"
    )
    for name in ("this product", "CrossEncoderTrainer", "ratio"):
        table.add_column(name, justify="right")
    table.add_row(f"[bold]{own:,.0f}[/]", f"{peer:,.0f}", f"{own / peer:.1f} x")
    RESULTS.print(table)
    RESULTS.print(found.machine.line(), style="dim", highlight=False)


app.add_typer(scale_app)
