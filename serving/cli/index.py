"""`recsys index`."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json
from serving.cli.times import parse_time

if TYPE_CHECKING:
    from recsys.state import ItemChange
    from training.index_catalogue import IndexSummary

app = new_app()


@app.command()
def index(  # noqa: PLR0913
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.", metavar="DATASET")],
    registry: Annotated[Path, typer.Option(help="Its current bundle is brought up to date.")],
    *,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="The servers' state store, as in `recsys serve`: its changes of the catalogue "
            "are taken in.",
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(parser=parse_time, metavar="TIME", help="Hide every event from this time on."),
    ] = None,
    min_items: Annotated[int, typer.Option(min=1, help="Refuse a catalogue with fewer items.")] = 1,
    allow_size_change: Annotated[
        bool,
        typer.Option(
            "--allow-size-change",
            help="Publish although it grew or shrank by over 30 %, or has no item left; logged.",
        ),
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Read every text again, not only the new ones.")
    ] = False,
    signing_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ed25519 key (PEM) that signs the bundle."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the current bundle up to tonight's catalogue and events, without training.

    The encoders read items whose text is new; items that are gone are dropped; prices,
    availability, shoppers' histories, popularity and co-occurrence are those of the dataset. What
    is published is what reading everything again would give. The rankers stay as trained. With
    `--state`, items that were put in, changed or deleted by `CatalogService` are so in the bundle,
    too, unless the dataset's row has a later `updated_at`.

    Exit codes: 0 published, or nothing had changed; 2 usage; 3 failure: the old bundle is served
    on, and the next run starts where this one stopped. One run at a time.

    Example: recsys index shop --registry shop/registry --state shop/registry/state.sqlite --json
    """
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.bundle import SigningKey  # noqa: PLC0415
    from training.index_catalogue import IndexOptions, index_catalogue  # noqa: PLC0415
    from training.index_checks import Sizes  # noqa: PLC0415

    key = None if signing_key is None else SigningKey.read(signing_key)
    sizes = Sizes(min_items=min_items, overridden=allow_size_change)
    changes = () if state is None else recorded_changes(state)
    with Progress(console=NOTES) as progress:
        options = IndexOptions(until, sizes, rebuild, key, changes)
        summary = index_catalogue(dataset, registry, options, progress)
    for fault in summary.overridden:
        NOTES.print(f"[red]published although[/] {fault}", highlight=False)
    if as_json:
        print_json(summary.model_dump(mode="json"))
    else:
        show(summary)


def recorded_changes(state: str) -> tuple[ItemChange, ...]:
    """The changes of the catalogue that a state store holds."""
    from serving.state_stores import store_to_read  # noqa: PLC0415

    with closing(store_to_read(state)) as store:
        return store.catalogue_changes()


def show(summary: IndexSummary) -> None:
    """Print what an indexing run did, as a table."""
    made = f"made from {summary.previous}" if summary.published else "nothing had changed"
    table = Table(title=f"Bundle {summary.version}: knows events before {summary.horizon}; {made}")
    table.add_column("what")
    table.add_column("figure", justify="right")
    counts = ("items", "added", "changed", "deleted", "from_state")
    for name in (*counts, "events", "events_since_training"):
        table.add_row(name.replace("_", " "), f"{getattr(summary, name):,}")
    table.add_row("trained until", f"{summary.trained_until:%Y-%m-%d %H:%M}")
    table.add_row("recall of the index, sampled", f"{summary.recall:.1%}")
    RESULTS.print(table)
