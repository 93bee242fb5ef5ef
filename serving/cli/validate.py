"""`recsys validate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from training.validate_dataset import MerchandisingReport, ValidationReport

app = new_app()


@app.command()
def validate(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", metavar="DATASET")],
    max_rejects_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Rejected rows of a table that are allowed, as a share."),
    ] = 0.01,
    rejects: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for rejects; DATASET/rejected if not given."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every row of a dataset against the contract.

    Rejected rows are written as parquet with their reasons. Fails when a table has too many.

    Example: recsys validate shop --max-rejects-share 0.001
    """
    from rich.progress import Progress  # noqa: PLC0415

    from training.validate_dataset import validate_dataset  # noqa: PLC0415

    with Progress(console=NOTES) as progress:
        report = validate_dataset(dataset, progress, rejects)
    if as_json:
        print_json(asdict(report))
    else:
        _show(report)
    report.require(max_rejects_share)


def _show(report: ValidationReport) -> None:
    RESULTS.print(_tables(report))
    for name, table in report.tables.items():
        for reason, rows in table.reasons.items():
            RESULTS.print(f"{name}: {rows:,} rows break the rule {reason!r}", highlight=False)
        if table.rejects:
            RESULTS.print(f"{name}: rejected rows are in {table.rejects}", highlight=False)
        if table.dropped_columns:
            RESULTS.print(
                f"{name}: unknown columns are ignored: {', '.join(table.dropped_columns)}"
            )
    events = report.events
    if events.unknown_items:
        RESULTS.print(f"warning: {events.unknown_items:,} events on items outside the catalogue")
    _warn_of_rules(report.merchandising)
    kinds = ", ".join(f"{rows:,} {kind}" for kind, rows in events.event_types.items())
    RESULTS.print(f"events from {events.first} to {events.last}: {kinds}", highlight=False)


def _warn_of_rules(report: MerchandisingReport) -> None:
    if report.unknown_items:
        RESULTS.print(f"warning: {report.unknown_items:,} rules on items outside the catalogue")
    if report.overlapping:
        RESULTS.print(
            f"warning: {report.overlapping:,} rules share an item or a position with another one; "
            "the one that came into force last counts"
        )


def _tables(report: ValidationReport) -> Table:
    grid = Table("table", title=f"Dataset {report.dataset}")
    for heading in ("rows", "rejected", "share"):
        grid.add_column(heading, justify="right")
    for name, table in report.tables.items():
        share = table.rejected / max(table.rows, 1)
        grid.add_row(name, f"{table.rows:,}", f"{table.rejected:,}", f"{share:.3%}")
    return grid
