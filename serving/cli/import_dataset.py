"""`recsys import FORMAT`: one sub-command for each published format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from training.published_lines import ImportSummary

OutOption = Annotated[Path, typer.Option("--out", metavar="DATASET", help="The dataset's folder.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the dataset that is there.")
]
RejectsOption = Annotated[
    float,
    typer.Option(min=0, max=1, help="Malformed lines of a file that are allowed, as a share."),
]
FieldOption = Annotated[
    list[str],
    typer.Option(
        "--field",
        metavar="COLUMN=FIELD",
        help="A field that becomes a column of the items, or `none`; may be repeated.",
    ),
]
app = new_app()


@app.callback()
def import_dataset() -> None:
    """Turn published or another system's data into a dataset; the first argument is the format.

    Example: recsys import online-retail online_retail_II.xlsx --out gifts

    Example: recsys import movielens ml-latest-small.zip --out movies

    Example: recsys import metarank events.jsonl.gz --out shop
    """


@app.command("online-retail")
def online_retail(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="The published .xlsx, a .csv or .parquet of it.")
    ],
    out: OutOption,
    overwrite: OverwriteOption = False,
    max_rejects_share: RejectsOption = 0.01,
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
    _show(summary, source, out, as_json=as_json)


@app.command("movielens")
def movielens(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="The published zip archive, or the folder in it."),
    ],
    out: OutOption,
    overviews: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Plot summaries, which become descriptions."),
    ] = None,
    positive_rating: Annotated[
        float, typer.Option(min=0.5, max=5, help="A rating from here on is a purchase.")
    ] = 4.0,
    *,
    overwrite: OverwriteOption = False,
    max_rejects_share: RejectsOption = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Read GroupLens' MovieLens (ml-latest-small and others with CSV files): ratings of movies.

    Lower ratings are views, those up to 2.0 hides. Overviews: an object of
    texts by movieId, or a list of objects with movieId (or tmdbId, if there is
    a links.csv) and overview.

    Example: recsys import movielens ml.zip --out movies --overviews plots.json
    """
    from rich.progress import Progress  # noqa: PLC0415

    from training.import_movielens import MovieLensOptions, import_movielens  # noqa: PLC0415

    options = MovieLensOptions(positive_rating, overviews)
    with Progress(console=NOTES) as progress:
        summary = import_movielens(
            source, out, progress, options, overwrite=overwrite, max_rejects_share=max_rejects_share
        )
    _show(summary, source, out, as_json=as_json)


@app.command("metarank")
def metarank(  # noqa: PLR0913
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="A file of JSON lines, or a folder of them.")
    ],
    out: OutOption,
    *,
    field: FieldOption = [],  # noqa: B006  # typer copies it
    interaction: Annotated[
        list[str],
        typer.Option(
            metavar="TYPE=EVENT",
            help="The event type of a type of interactions, or `none`; may be repeated.",
        ),
    ] = [],  # noqa: B006
    tenant: Annotated[
        str | None, typer.Option(help="Whose events, where there are several tenants.")
    ] = None,
    overwrite: OverwriteOption = False,
    max_rejects_share: RejectsOption = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Read Metarank's events: item and user metadata, rankings, interactions.

    Rankings become impressions. The fields title, description, category,
    tags, brand, price and available, and some other names of them, are known,
    and so are clicks, views, carts and purchases; an unknown type of
    interaction ends the command with what to say.

    Example: recsys import metarank events/ --out shop --interaction like=purchase
    """
    from rich.progress import Progress  # noqa: PLC0415

    from training.import_metarank import MetarankOptions, import_metarank  # noqa: PLC0415

    options = MetarankOptions(tuple(field), tuple(interaction), tenant)
    with _usage_errors(), Progress(console=NOTES) as progress:
        summary = import_metarank(
            source, out, progress, options, overwrite=overwrite, max_rejects_share=max_rejects_share
        )
    _show(summary, source, out, as_json=as_json)


@app.command("gorse")
def gorse(
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="The master's dump, or a folder of exported .jsonl."),
    ],
    out: OutOption,
    *,
    field: FieldOption = [],  # noqa: B006
    feedback: Annotated[
        list[str],
        typer.Option(
            metavar="TYPE=EVENT",
            help="The event type of a type of feedback, or `none`; may be repeated.",
        ),
    ] = [],  # noqa: B006
    overwrite: OverwriteOption = False,
    max_rejects_share: RejectsOption = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Read what Gorse knows: its master's binary dump (/api/dump) or its dashboard's exports.

    Titles are in the labels or the comment, `--field title=Labels.name` says
    where. `read` is a view; what positive feedback such as star or like stands
    for has to be said, also by value: `--feedback "rating>=4=purchase"`.

    Example: recsys import gorse dump.bin --out shop --feedback star=purchase --feedback like=share
    """
    from rich.progress import Progress  # noqa: PLC0415

    from training.import_gorse import GorseOptions, import_gorse  # noqa: PLC0415

    options = GorseOptions(tuple(field), tuple(feedback))
    with _usage_errors(), Progress(console=NOTES) as progress:
        summary = import_gorse(
            source, out, progress, options, overwrite=overwrite, max_rejects_share=max_rejects_share
        )
    _show(summary, source, out, as_json=as_json)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """An option of another form is an error of usage."""
    from recsys.errors import ConfigurationError  # noqa: PLC0415

    try:
        yield
    except ConfigurationError as error:
        raise typer.BadParameter(str(error)) from error


def _show(summary: ImportSummary, source: Path, out: Path, *, as_json: bool) -> None:
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
    grid.add_row("kept", f"{summary.kept:,}")
    grid.add_section()
    for event_type, rows in summary.events.items():
        grid.add_row(f"events: {event_type}", f"{rows:,}")
    if summary.remarks:
        grid.add_section()
    for remark, number in summary.remarks.items():
        grid.add_row(remark, f"{number:,}")
    return grid


def _caption(summary: ImportSummary) -> str:
    described = f" ({summary.described:,} with a description)" if summary.described else ""
    return (
        f"{summary.items:,} items{described}, {summary.users:,} shoppers, "
        f"{summary.first_event} to {summary.last_event}"
    )
