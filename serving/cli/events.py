"""`recsys events`: what shoppers did, as the server recorded it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

app = new_app()


@app.callback()
def events() -> None:
    """Handle the events that a server recorded."""


@app.command()
def export(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", metavar="DATASET")],
    state: Annotated[str, typer.Option(help="The server's state store, as in `recsys serve`.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Add recorded events to a dataset, as parts of its table `events`.

    Each event is added once, however often this is run; the server may go on meanwhile.

    Example: recsys events export shop --state registry/state.sqlite
    """
    from rich.progress import Progress  # noqa: PLC0415

    from serving.state_stores import store_to_read  # noqa: PLC0415
    from training.export_events import export_events  # noqa: PLC0415

    with closing(store_to_read(state)) as store, Progress(console=NOTES) as progress:
        summary = export_events(store, dataset, progress)
    if as_json:
        print_json(asdict(summary))
        return
    RESULTS.print(
        f"{summary.exported:,} events added to {dataset}, {summary.already_there:,} were there "
        f"already; {summary.late:,} of them were late",
        highlight=False,
    )
    if summary.erased:
        RESULTS.print(f"{summary.erased:,} events of erased shoppers were left out")
