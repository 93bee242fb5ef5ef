"""`recsys train`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json
from serving.cli.times import parse_time

if TYPE_CHECKING:
    from training.pipeline import TrainingSummary

app = new_app()
Profile = Literal["fast", "full"]


@app.command()
def train(  # noqa: PLR0913
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", metavar="DATASET")],
    registry: Annotated[Path, typer.Option(help="Where the bundle is published.")],
    *,
    until: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Hide every event from this time on."),
    ] = None,
    profile: Annotated[
        Profile, typer.Option(help="`fast` for a first look, `full` to serve.")
    ] = "full",
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML with settings over the profile's.")
    ] = None,
    allow_worse: Annotated[
        bool, typer.Option("--allow-worse", help="Publish although a gate is closed; logged.")
    ] = False,
    allow_size_change: Annotated[
        bool,
        typer.Option(
            "--allow-size-change",
            help="Publish although the catalogue is much smaller or larger; logged.",
        ),
    ] = False,
    signing_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ed25519 key (PEM) that signs the bundle."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune the text encoders, index the catalogue, learn to rank, publish a bundle.

    Nothing is published that ranks held-back requests worse than the bundle in service, or whose
    encoder ranks them worse than the untuned one, unless `--allow-worse` says so; nor a catalogue
    with 30 % fewer or more items than the one in service, unless `--allow-size-change` does.

    A run that was killed goes on where it stopped when it is started again.

    Example: recsys train shop --registry shop/registry --until 2010-11-09T00:00:00Z
    """
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.bundle import SigningKey  # noqa: PLC0415
    from recsys.config import load_configuration  # noqa: PLC0415
    from recsys.config import profile as profile_named  # noqa: PLC0415
    from training.pipeline import TrainingOptions  # noqa: PLC0415
    from training.pipeline import train as run  # noqa: PLC0415

    configuration = profile_named(profile)
    if config is not None:
        configuration = load_configuration(config, configuration)
    key = None if signing_key is None else SigningKey.read(signing_key)
    with Progress(console=NOTES) as progress:
        options = TrainingOptions(configuration, until, allow_worse, key, allow_size_change)
        summary = run(dataset, registry, options, progress)
    for gate in summary.gates:
        if not gate.passed:
            NOTES.print(f"[red]published although worse:[/] {gate}", highlight=False)
    for fault in summary.overridden:
        NOTES.print(f"[red]published although[/] {fault}", highlight=False)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        show(summary)


def show(summary: TrainingSummary) -> None:
    """Print what a training run did, as a table."""
    encoder, ranker = summary.encoder, summary.ranker
    table = Table(title=f"Bundle {summary.version}: knows events before {summary.horizon}")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for task, recalls in summary.bi_encoder.get("test", {}).items():
        for when, found in recalls["recall@100"].items():
            name = f"text neighbours by {task}, test Recall@100 {when}"
            table.add_row(name, _interval(found))
    table.add_row("bi-encoder served", "tuned" if summary.bi_encoder["kept"] else "pretrained")
    for name, key in (("before", "test_before"), ("after", "test_after"), ("gain", "test_gain")):
        table.add_row(f"cross-encoder, test NDCG@10 {name}", _interval(encoder[key]))
    table.add_row("fine-tuning steps (best)", f"{encoder['steps']} ({encoder['best_step']})")
    for tier, fitted in ranker["tiers"].items():
        name = f"ranker {tier.replace('_', ' ')}, held-back NDCG@10 (trees)"
        trees = sum(fitted["rounds"].values())
        table.add_row(name, f"{fitted['held_back_ndcg@10']:.4f} ({trees})")
    for gate in summary.gates:
        if gap := gate.difference:
            figure = _interval(gap.model_dump())
            table.add_row(f"{gate.part} minus {gate.against}, held-back NDCG@10", figure)
    for group, share in list(ranker["importance"].items())[:6]:
        table.add_row(f"gain from {group}", f"{share:.1%}")
    RESULTS.print(table)
    RESULTS.print(f"plots and figures: {summary.report}", highlight=False)


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['mean']:.4f} [{estimate['low']:.4f}, {estimate['high']:.4f}]"
