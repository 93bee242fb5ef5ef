"""`recsys simulate`: make a simulated shop, or let its shoppers visit a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from serving.cli.output import NOTES, RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from serving.drive_summary import DriveSummary
    from training.simulate import SimulationSummary

app = new_app()


def _parse_day(text: str) -> date:
    return date.fromisoformat(str(text))


@app.command()
def simulate(  # noqa: PLR0913, PLR0917
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DATASET", help="Make this dataset; its folder."),
    ] = None,
    drive: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Let shoppers visit the server there instead."),
    ] = None,
    shop: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="With --drive: the simulated dataset behind it."),
    ] = None,
    users: Annotated[
        int | None, typer.Option(min=1, help="Shoppers. [default: 2000; with --drive: all]")
    ] = None,
    items: Annotated[
        int | None, typer.Option(min=1, help="Items, new arrivals included. [default: 3000]")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="Days. [default: 84; with --drive: 7]")
    ] = None,
    later_days: Annotated[
        int | None,
        typer.Option(min=0, help="Days after those in which items arrive, for --drive."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same events.")] = 7,
    start: Annotated[
        date | None,
        typer.Option(
            parser=_parse_day,
            metavar="YYYY-MM-DD",
            help="First day, UTC. [default: 2026-01-05; with --drive: after the last event]",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="With --drive: shoppers served at a time. [default: 4]"),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=1e-3, help="With --drive: most lists a second. [default: no limit]"),
    ] = None,
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the dataset that is there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the dataset of a shop whose shoppers choose by what item texts say, or let them shop.

    Beside the tables stands `oracle.json`, from which evaluation rebuilds the true probabilities.
    With --drive, the shoppers of such a dataset ask a running server for lists, choose from them by
    the true probabilities, and report what they did as events, from the day after the dataset's
    last event on.

    Example: recsys simulate --out shop --users 500 --items 800 --days 56

    Example: recsys simulate --drive 127.0.0.1:50051 --shop shop --days 7
    """
    if drive is not None:
        _refuse("--drive", out=out, items=items, later_days=later_days, overwrite=overwrite or None)
        given = {"days": days, "users": users, "concurrency": concurrency, "rate": rate}
        options = {name: value for name, value in given.items() if value is not None}
        _drive(_required("--shop", shop), drive, {**options, "seed": seed, "start": start}, as_json)
        return
    _refuse("--out", shop=shop, concurrency=concurrency, rate=rate)
    sizes = {"users": users, "items": items, "days": days, "later_days": later_days, "start": start}
    given_sizes = {name: value for name, value in sizes.items() if value is not None}
    _make(_required("--out or --drive", out), given_sizes, seed, overwrite, as_json)


def _required(name: str, value: Path | None) -> Path:
    if value is None:
        raise typer.BadParameter(f"give {name}")
    return value


def _refuse(mode: str, **options: object) -> None:
    for name, value in options.items():
        if value is not None:
            raise typer.BadParameter(f"--{name.replace('_', '-')} means nothing with {mode}")


def _make(
    out: Path, sizes: Mapping[str, object], seed: int, overwrite: bool, as_json: bool
) -> None:
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.simulation import SimulationConfig  # noqa: PLC0415
    from training.simulate import simulate as run  # noqa: PLC0415

    config = SimulationConfig.model_validate(sizes)
    with Progress(console=NOTES) as progress:
        summary = run(out, config, seed, progress, overwrite=overwrite)
    if as_json:
        print_json(asdict(summary))
    else:
        RESULTS.print(_table(summary))


def _drive(shop: Path, address: str, given: dict[str, Any], as_json: bool) -> None:
    from rich.progress import Progress  # noqa: PLC0415

    from serving.driving import DriveOptions  # noqa: PLC0415
    from serving.driving import drive as run  # noqa: PLC0415

    first = given.pop("start")
    start = None if first is None else datetime.combine(first, time(), UTC)
    options = DriveOptions(start=start, **given)
    with Progress(console=NOTES) as progress:
        summary = run(shop, address, options, datetime.now(UTC), progress)
    if as_json:
        print_json(asdict(summary))
    else:
        RESULTS.print(_drive_table(summary))


def _drive_table(summary: DriveSummary) -> Table:
    grid = Table("", title=f"Shoppers of {summary.dataset} at {summary.address}")
    columns = {arm or "no experiment": figures for arm, figures in summary.arms.items()}
    if len(columns) > 1:
        columns["all lists"] = summary.total
    for name in columns or ["all lists"]:
        grid.add_column(name, justify="right")
    shown = list(columns.values()) or [summary.total]
    for name, form in _ROWS.items():
        cells = [form.format(getattr(figures, name)) for figures in shown]
        grid.add_row(name.replace("_", " "), *cells)
    grid.caption = _drive_caption(summary)
    return grid


_ROWS: Final = {
    "shoppers": "{:,}",
    "lists": "{:,}",
    "impressions": "{:,}",
    "clicks": "{:,}",
    "purchases": "{:,}",
    "revenue": "{:,.2f}",
    "expected_clicks_per_shopper": "{:.4f}",
    "expected_purchases_per_shopper": "{:.4f}",
    "expected_revenue_per_shopper": "{:.4f}",
    "expected_purchases": "{:,.1f}",
    "best_purchases": "{:,.1f}",
    "ndcg": "{:.4f}",
}


def _drive_caption(summary: DriveSummary) -> str:
    parts = [
        f"{summary.start:%Y-%m-%d} to {summary.end:%Y-%m-%d}, seed {summary.seed}",
        f"{summary.recorded:,} events recorded, {summary.duplicates:,} were there",
        f"{summary.bought_again:,} bought again outside lists",
        f"{sum(summary.failed_calls.values()):,} of {summary.calls:,} calls failed",
    ]
    parts += [f"{count:,} {name}" for name, count in summary.failed_calls.items()]
    parts += [f"{count:,} answers {name}" for name, count in summary.degraded.items()]
    parts += [f"{count:,} events rejected: {why}" for why, count in summary.rejected.items()]
    return "; ".join(parts)


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
