"""`recsys import FORMAT`: one sub-command for each published format."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from training.import_online_retail import ImportSummary

app = new_app()


@app.callback()
def import_dataset() -> None:
    """Turn published data into a dataset; the first argument names the format.

    Example: recsys import online-retail online_retail_II.xlsx --out gifts
    """


@app.command("online-retail")
def online_retail(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The published .xlsx, a .csv or .parquet of it.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DATASET", help="The dataset's folder.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset that is there.")
    ] = False,
    max_rejects_share: Annotated[
        float, typer.Option(min=0, max=1, help="Malformed lines that are allowed, as a share.")
    ] = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Read UCI's Online Retail II: purchases of a gift shop, with item titles.

    Kept are purchases of products by identified customers; what is left out is counted by reason.

    Example: recsys import online-retail online_retail_II.xlsx --out gifts
    """
    from rich.progress import Progress  # noqa: PLC0415

    from training.import_online_retail import import_online_retail  # noqa: PLC0415

    with Progress(console=NOTES) as progress:
        summary = import_online_retail(
            source, out, progress, overwrite=overwrite, max_rejects_share=max_rejects_share
        )
    if as_json:
        print_json({"source": source, "dataset": out, **asdict(summary)})
    else:
        RESULTS.print(_table(summary, out))


def _table(summary: ImportSummary, out: Path) -> Table:
    grid = Table("lines", title=f"Dataset {out}", caption=_caption(summary))
    grid.add_column("", justify="right")
    grid.add_row("read", f"{summary.lines:,}")
    for reason, lines in summary.left_out.items():
        grid.add_row(f"left out: {reason}", f"{lines:,}")
    for reason, lines in summary.rejected.items():
        grid.add_row(f"malformed: {reason}", f"{lines:,}")
    grid.add_row("kept as purchases", f"{summary.kept:,}")
    return grid


def _caption(summary: ImportSummary) -> str:
    return (
        f"{summary.items:,} items, {summary.users:,} shoppers, "
        f"{summary.first_event} to {summary.last_event}"
    )
