"""`recsys evaluate`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json, results_folder
from serving.cli.times import parse_time

if TYPE_CHECKING:
    from training.report import EvaluationReport

app = new_app()


@app.command()
def evaluate(  # noqa: PLR0913
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", metavar="DATASET")],
    registry: Annotated[Path, typer.Option(help="Folder of the published bundles.")],
    start: Annotated[
        datetime,
        typer.Option(
            "--from", parser=parse_time, metavar="TIME", help="Lists are made as of this time."
        ),
    ],
    *,
    end: Annotated[
        datetime | None,
        typer.Option(
            "--to", parser=parse_time, metavar="TIME", help="Truth ends here; absent: with the log."
        ),
    ] = None,
    bundle: Annotated[str | None, typer.Option(help="Version; absent: the current one.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Absent: REGISTRY/reports/VERSION."),
    ] = None,
    max_customers: Annotated[
        int | None, typer.Option(min=1, help="A seeded sample of the shoppers; absent: all.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of tie-breaking, sampling and the bootstrap.")
    ] = 20_260_101,
    as_json: JsonOption = False,
) -> None:
    """Measure a bundle on what shoppers did from a time on, beside popularity and BM25-kNN.

    The bundle must not know events from that time on: train it with the same `--until`.

    Writes evaluation.html, a page with everything, and evaluation.json, the same for machines.

    Example: recsys evaluate shop --registry shop/registry --from 2010-11-09T00:00:00Z
    """
    from rich.progress import Progress  # noqa: PLC0415

    from serving.loading import open_recommender  # noqa: PLC0415
    from training.evaluate import EvaluationOptions, save_report  # noqa: PLC0415
    from training.evaluate import evaluate as run  # noqa: PLC0415

    options = EvaluationOptions(start, end, max_customers, seed)
    recommender = open_recommender(registry, bundle, dataset)
    folder = results_folder(out or registry / "reports" / recommender.version)
    with Progress(console=NOTES) as progress:
        report = run(dataset, recommender, options, progress)
    files = save_report(report, folder)
    if as_json:
        print_json(report.model_dump(mode="json") | files)
    else:
        show(report, files)


def show(report: EvaluationReport, files: dict[str, Path]) -> None:
    """Print a report as tables, with its notes and where its files are."""
    from training.report_tables import tables  # noqa: PLC0415

    for table in tables(report):
        RESULTS.print(table)
    for note in report.notes:
        RESULTS.print(f"note: {note}", highlight=False)
    for token, lists in report.degraded.items():
        RESULTS.print(f"note: {lists:,} lists were degraded: {token}", highlight=False)
    for name, path in files.items():
        RESULTS.print(f"{name}: {path}", highlight=False, soft_wrap=True)
