"""`recsys simulate`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from training.simulate import SimulationSummary

app = new_app()


def _parse_day(text: str) -> date:
    return date.fromisoformat(str(text))


@app.command()
def simulate(  # noqa: PLR0913
    out: Annotated[Path, typer.Option("--out", metavar="DATASET", help="The dataset's folder.")],
    users: Annotated[int, typer.Option(min=1, help="Shoppers.")] = 2_000,
    items: Annotated[int, typer.Option(min=1, help="Items, new arrivals included.")] = 3_000,
    days: Annotated[int, typer.Option(min=1, help="Days.")] = 84,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same bytes.")] = 7,
    start: Annotated[
        date, typer.Option(parser=_parse_day, metavar="YYYY-MM-DD", help="First day, UTC.")
    ] = date(2026, 1, 5),
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the dataset of a shop whose shoppers choose by what item texts say.

    Beside the tables stands `oracle.json`, from which evaluation rebuilds the true probabilities.

    Example: recsys simulate --out shop --users 500 --items 800 --days 56
    """
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.simulation import SimulationConfig  # noqa: PLC0415
    from training.simulate import simulate as run  # noqa: PLC0415

    config = SimulationConfig(users=users, items=items, days=days, start=start)
    with Progress(console=NOTES) as progress:
        summary = run(out, config, seed, progress, overwrite=overwrite)
    if as_json:
        print_json(asdict(summary))
    else:
        RESULTS.print(_table(summary))


def _table(summary: SimulationSummary) -> Table:
    grid = Table("event", title=f"Dataset {summary.dataset}", caption=_caption(summary))
    grid.add_column("rows", justify="right")
    for name, rows in sorted(summary.events.items(), key=lambda entry: -entry[1]):
        grid.add_row(name, f"{rows:,}")
    grid.add_section()
    grid.add_row("clicks per impression", f"{summary.click_rate:.1%}")
    grid.add_row("purchases from lists per click", f"{summary.conversion:.1%}")
    grid.add_row("purchases of what was bought before", f"{summary.repurchase_share:.1%}")
    return grid


def _caption(summary: SimulationSummary) -> str:
    span = f"{summary.first_event:%Y-%m-%d} to {summary.last_event:%Y-%m-%d}"
    return (
        f"{summary.items:,} items ({summary.new_items_per_week:.0f} new a week), "
        f"{summary.users:,} shoppers, {span}, seed {summary.seed}"
    )
