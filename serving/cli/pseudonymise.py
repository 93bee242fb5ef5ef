"""`recsys pseudonymise`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from training.pseudonymise import PseudonymiseSummary

app = new_app()


@app.command()
def pseudonymise(
    dataset: Annotated[Path, typer.Argument(help="A dataset's folder.", metavar="DATASET")],
    out: Annotated[Path, typer.Option("--out", metavar="DATASET", help="The new one's folder.")],
    pseudonym_key: Annotated[
        Path, typer.Option(metavar="FILE", help="Key, as for `recsys serve`.")
    ],
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a dataset, with keyed pseudonyms in the place of shoppers' and visits' ids.

    Train, index and export into the copy; a server with the same key takes the shop's own ids.

    Make a key: (umask 077; openssl rand -hex 32 > pseudonym.key)

    Example: recsys pseudonymise raw --out shop --pseudonym-key pseudonym.key
    """
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.pseudonyms import Pseudonyms  # noqa: PLC0415
    from training.pseudonymise import pseudonymise as run  # noqa: PLC0415

    names = Pseudonyms.read(pseudonym_key)
    with Progress(console=NOTES) as progress:
        summary = run(dataset, out, names, progress, overwrite=overwrite)
    if as_json:
        print_json({"dataset": out, **asdict(summary)})
    else:
        _show(summary, out)


def _show(summary: PseudonymiseSummary, out: Path) -> None:
    rows = ", ".join(f"{rows:,} {name}" for name, rows in summary.rows.items())
    RESULTS.print(
        f"{out}: {rows}; pseudonyms by the key {summary.pseudonym_key}",
        highlight=False,
        soft_wrap=True,
    )
    if summary.dropped_columns:
        RESULTS.print(f"dropped columns of events: {', '.join(summary.dropped_columns)}")
    if summary.attributes:
        RESULTS.print(
            f"columns of users were kept: {', '.join(summary.attributes)}; "
            "none of them should tell who somebody is"
        )
    if summary.telling_event_ids:
        RESULTS.print(
            f"{summary.telling_event_ids:,} values of event_id have the shopper's id in them and "
            "were kept: give events ids that tell nothing",
            highlight=False,
            soft_wrap=True,
        )
    if summary.forgotten:
        RESULTS.print(
            f"{summary.forgotten:,} shoppers were erased from the old dataset; the new one would "
            "not know them, should they come back",
            highlight=False,
            soft_wrap=True,
        )
    for path in summary.left_out:
        RESULTS.print(f"left out: {path}", highlight=False, soft_wrap=True)
