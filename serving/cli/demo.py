"""`recsys demo`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.rule import Rule

from serving.cli.output import NOTES, RESULTS, new_app

if TYPE_CHECKING:
    from datetime import datetime

    from recsys.recommender import Recommender

app = new_app()
USERS: Final = 500
ITEMS: Final = 800
DAYS: Final = 70
LAST_DAYS: Final = 14
"""Days that training does not see and evaluation looks at."""

SHOPPERS_SHOWN: Final = 3
CUSTOMERS: Final = 200
"""Shoppers that evaluation asks for, a seeded sample."""


@app.command()
def demo(
    workdir: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the shop and its bundles go.")
    ] = Path("demo-shop"),
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated shop.")] = 7,
) -> None:
    """Simulate a shop and take it through every stage: a first look in a few minutes.

    Simulate, validate, train (fast profile), evaluate against peers, serve over gRPC, and ask the
    server for a few recommendations with their reasons.

    Example: recsys demo --workdir demo-shop
    """
    dataset, registry = workdir / "shop", workdir / "registry"
    until = _make_shop(dataset, seed)
    _train(dataset, registry, until)
    recommender = _evaluate(dataset, registry, until)
    _ask(recommender, until, dataset)
    _say_what_next(workdir, until, _busiest(dataset, until)[0])


def _make_shop(dataset: Path, seed: int) -> datetime:
    from datetime import UTC, datetime  # noqa: PLC0415

    from rich.progress import Progress  # noqa: PLC0415

    from recsys.simulation import SimulationConfig  # noqa: PLC0415
    from training.simulate import simulate  # noqa: PLC0415
    from training.validate_dataset import validate_dataset  # noqa: PLC0415

    _heading(f"1 of 5: a shop with {USERS} shoppers, {ITEMS} items and {DAYS} days")
    config = SimulationConfig(users=USERS, items=ITEMS, days=DAYS)
    with Progress(console=NOTES) as progress:
        summary = simulate(dataset, config, seed, progress, overwrite=True)
    _heading("2 of 5: check it against the data contract")
    with Progress(console=NOTES) as progress:
        report = validate_dataset(dataset, progress)
    report.require(0.0)
    RESULTS.print(f"{sum(summary.events.values()):,} events, every row as the contract wants it")
    first = datetime.combine(config.start, datetime.min.time(), tzinfo=UTC)
    return first + timedelta(days=DAYS - LAST_DAYS)


def _train(dataset: Path, registry: Path, until: datetime) -> None:
    from rich.progress import Progress  # noqa: PLC0415

    from recsys.config import profile  # noqa: PLC0415
    from serving.cli.train import show  # noqa: PLC0415
    from training.pipeline import TrainingOptions, train  # noqa: PLC0415

    _heading(f"3 of 5: train on what happened before {until:%Y-%m-%d}")
    with Progress(console=NOTES) as progress:
        options = TrainingOptions(profile("fast"), until)
        summary = train(dataset, registry, options, progress)
    show(summary)


def _evaluate(dataset: Path, registry: Path, until: datetime) -> Recommender:
    from rich.progress import Progress  # noqa: PLC0415

    from serving.cli.evaluate import show  # noqa: PLC0415
    from serving.loading import open_recommender  # noqa: PLC0415
    from training.evaluate import EvaluationOptions, evaluate, save_report  # noqa: PLC0415

    _heading(f"4 of 5: measure it on the {LAST_DAYS} days that it has not seen")
    recommender = open_recommender(registry)
    with Progress(console=NOTES) as progress:
        report = evaluate(
            dataset, recommender, EvaluationOptions(until, max_customers=CUSTOMERS), progress
        )
    folder = registry / "reports" / recommender.version
    show(report, save_report(report, folder))
    return recommender


def _ask(recommender: Recommender, until: datetime, dataset: Path) -> None:
    from recsys import v1  # noqa: PLC0415
    from serving.cli.answer_table import answer_table  # noqa: PLC0415
    from serving.client import RecommendationClient  # noqa: PLC0415
    from serving.server import Server  # noqa: PLC0415
    from serving.settings import ServerSettings  # noqa: PLC0415

    _heading("5 of 5: serve it over gRPC and ask")
    server = Server(ServerSettings(port=0))
    address = server.start()
    try:
        server.install(recommender)
        with RecommendationClient(address) as client:
            for user in _busiest(dataset, until):
                request = v1.RecommendRequest(user_id=user, page_size=5, as_of=until, explain=True)
                RESULTS.print(f"shopper {user}", style="bold")
                RESULTS.print(answer_table(client.recommend(request).items))
    finally:
        server.drain()


def _busiest(dataset: Path, until: datetime) -> list[str]:
    """The shoppers who bought most often before the cut; ties by id."""
    import polars as pl  # noqa: PLC0415

    from recsys.tables import Dataset  # noqa: PLC0415

    bought = (
        Dataset(dataset)
        .scan_events()
        .filter(pl.col("event_time") < until, pl.col("event_type").cast(pl.String) == "purchase")
    )
    counts = bought.group_by("user_id").len().sort("len", "user_id", descending=[True, False])
    return counts.head(SHOPPERS_SHOWN).collect()["user_id"].to_list()


def _heading(text: str) -> None:
    NOTES.print(Rule(f"[bold]{text}", align="left"))


def _say_what_next(workdir: Path, until: datetime, user: str) -> None:
    registry = workdir / "registry"
    RESULTS.print("\nTry next, in two terminals:")
    RESULTS.print(f"  recsys serve --registry {registry}", highlight=False)
    RESULTS.print(
        f"  recsys recommend {user} --as-of {until:%Y-%m-%dT%H:%M:%SZ} -k 10", highlight=False
    )
