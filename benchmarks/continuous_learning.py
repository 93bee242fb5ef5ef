"""Eight weeks of a simulated shop whose tastes drift, learnt from every night, and not.

    python benchmarks/continuous_learning.py --out FOLDER [--users 80] [--items 160] [--weeks 8]
        [--shops frozen,indexed,trained] [--config FILE]

One bundle is trained on six weeks of history. Then the same shoppers visit three shops for as many
weeks as asked for, over gRPC:

- `frozen`: the bundle stays as it is,
- `indexed`: every night the events that the server recorded are exported into the dataset, and
  `recsys index` brings the bundle up to them and to the items that have arrived,
- `trained`: on the first night of each week `recsys train` does so instead.

Meanwhile tastes turn, fashions and seasons pass and new items arrive. Nothing is learnt but from
events that shoppers reported by `RecordEvents`; what a list was worth, beside the best list of its
moment, is known from the simulation's true probabilities, without noise from choices.

Written to FOLDER after every day: a line of `NAME.jsonl`; after every week:
`continuous_learning.json` and `.png`. A run that was killed goes on after the last whole day. The
gates that compare a new bundle with the old one are off: so few shoppers can't tell.
"""

from __future__ import annotations

import json
import shutil
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel
from rich import print as show
from rich.progress import Progress
from rich.table import Table

from recsys.bundle import Registry
from recsys.config import Configuration, load_configuration, profile
from recsys.simulation import ORACLE_FILE, BehaviourConfig, SimulatedShop, SimulationConfig
from recsys.state import SqliteStateStore
from recsys.tables import write_table
from serving.bench.machine import Machine, this_machine
from serving.driving import DriveOptions, drive
from serving.loading import open_recommender
from serving.server import Server
from serving.settings import ServerSettings
from training.export_events import export_events
from training.index_catalogue import IndexOptions, index_catalogue
from training.pipeline import TrainingOptions, train
from training.plot_style import COLOURS, style
from training.process import release_freed_memory
from training.simulate import simulate

HISTORY_DAYS: Final = 42
WEEK: Final = 7
START: Final = date(2025, 1, 6)
SEED: Final = 7
TASTE_TURN_DAYS: Final = 120.0
SMALL: Final = Path(__file__).with_name("small_shop.toml")
SHOPS: Final = {"frozen": "popularity", "indexed": "bm25_knn_counts", "trained": "system"}
"""Names, and what their colours stand for elsewhere."""

PATIENT: Final = ServerSettings(port=0, max_answer_seconds=60.0)
"""No answer is cut short, whatever else the machine does."""


class Options(BaseModel):
    """From the command line."""

    out: Path
    users: int
    items: int
    weeks: int
    shops: tuple[str, ...]
    configuration: Configuration


class Day(BaseModel):
    """A shop's day; see `serving.drive_summary.ArmFigures`."""

    day: int
    bundle: str
    lists: int
    purchases: int
    expected_purchases: float
    best_purchases: float
    ndcg: float
    failed_calls: int
    events: int
    seconds_learning: float
    seconds_driving: float


class Week(BaseModel):
    """A shop's week.

    Attributes:
        week: from 1 on.
        lists: shown.
        purchases: drawn.
        expected_purchases: of the lists, under the truth.
        share_of_best: these over those of the best lists.
        ndcg: mean of the lists.
    """

    week: int
    lists: int
    purchases: int
    expected_purchases: float
    share_of_best: float
    ndcg: float


class Found(BaseModel):
    """All figures of a run."""

    machine: Machine
    users: int
    items: int
    history_days: int
    taste_turn_days: float
    shops: dict[str, list[Week]]
    minutes: dict[str, float]
    """Spent in each shop, on learning and on driving."""


class Shop:
    """One shop: its dataset, registry and state store in a folder of their own, and its diary."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self.folder = options.out / name
        self.diary = options.out / f"{name}.jsonl"
        self.options = options

    @property
    def days(self) -> list[Day]:
        """The whole days so far."""
        if not self.diary.exists():
            return []
        return [Day.model_validate_json(line) for line in self.diary.read_text().splitlines()]

    def open(self, base: Path) -> None:
        """A copy of the common beginning, unless it is there."""
        if not self.folder.exists():
            half = self.folder.with_suffix(".part")
            shutil.rmtree(half, ignore_errors=True)
            shutil.copytree(base, half)
            half.rename(self.folder)

    def live(self, first: int, last: int, progress: Progress) -> None:
        """The days from `first` to before `last` that are not over yet."""
        begin = max([first, *(one.day + 1 for one in self.days)])
        with (
            closing(SqliteStateStore(self.folder / "state.sqlite")) as store,
            serving(store) as (
                server,
                address,
            ),
        ):
            version = ""
            for day in range(begin, last):
                start = time.monotonic()
                export_events(store, self.folder / "shop", progress)
                if day > HISTORY_DAYS and self.name != "frozen":
                    self._learn(day, progress)
                current = Registry(self.folder / "registry").current()
                if current != version:
                    server.install(open_recommender(self.folder / "registry"))
                    version = current
                learnt = time.monotonic() - start
                self._write(self._day(day, address, learnt, progress))

    def _learn(self, day: int, progress: Progress) -> None:
        dataset, registry = self.folder / "shop", self.folder / "registry"
        shop = shop_of(dataset)
        write_table(dataset, "items", shop.items(until_day=day))
        until = shop.moment(day)
        if self.name == "trained" and (day - HISTORY_DAYS) % WEEK == 0:
            chosen = TrainingOptions(self.options.configuration, until, allow_worse=True)
            train(dataset, registry, chosen, progress)
        else:
            index_catalogue(dataset, registry, IndexOptions(until), progress)
        release_freed_memory()

    def _day(self, day: int, address: str, learnt: float, progress: Progress) -> Day:
        dataset, start = self.folder / "shop", time.monotonic()
        chosen = DriveOptions(
            shop_of(dataset).moment(day), days=1, seed=SEED, concurrency=2, deadline_seconds=60.0
        )
        found = drive(dataset, address, chosen, datetime.now(UTC), progress)
        (bundle,) = found.bundles or {"": 0}
        total = asdict(found.total)
        return Day(
            day=day,
            bundle=bundle,
            failed_calls=sum(found.failed_calls.values()),
            events=found.recorded + found.duplicates,
            seconds_learning=learnt,
            seconds_driving=time.monotonic() - start,
            **{name: total[name] for name in Day.model_fields if name in total},
        )

    def _write(self, day: Day) -> None:
        with self.diary.open("a", encoding="utf-8") as file:
            file.write(day.model_dump_json() + "\n")

    def weeks(self) -> list[Week]:
        """The whole weeks so far."""
        days = self.days
        whole = range(0, len(days) - len(days) % WEEK, WEEK)
        return [week_of(1 + first // WEEK, days[first : first + WEEK]) for first in whole]


def week_of(number: int, days: Sequence[Day]) -> Week:
    """Seven days together."""
    lists = sum(one.lists for one in days)
    expected = sum(one.expected_purchases for one in days)
    return Week(
        week=number,
        lists=lists,
        purchases=sum(one.purchases for one in days),
        expected_purchases=expected,
        share_of_best=expected / sum(one.best_purchases for one in days),
        ndcg=sum(one.ndcg * one.lists for one in days) / lists,
    )


def shop_of(dataset: Path) -> SimulatedShop:
    """The truth behind a dataset of ours."""
    shop = SimulatedShop.from_dataset(dataset)
    if shop is None:
        raise SystemExit(f"{dataset / ORACLE_FILE} is gone; begin in a new folder")
    return shop


@contextmanager
def serving(store: SqliteStateStore) -> Iterator[tuple[Server, str]]:
    """A server without a bundle yet, and its address."""
    server = Server(PATIENT, store=store)
    address = server.start()
    try:
        yield server, address
    finally:
        server.drain()


def begin(options: Options, progress: Progress) -> Path:
    """The history and the bundle that is trained on it, for all shops alike."""
    base = options.out / "begin"
    if not (base / "registry" / "CURRENT").exists():
        config = SimulationConfig(
            users=options.users,
            items=options.items,
            days=HISTORY_DAYS,
            later_days=options.weeks * WEEK,
            start=START,
            launch_share=0.5,
            behaviour=BehaviourConfig(taste_turn_days=TASTE_TURN_DAYS),
        )
        simulate(base / "shop", config, SEED, progress, overwrite=True)
        train(base / "shop", base / "registry", TrainingOptions(options.configuration), progress)
        shutil.rmtree(base / "registry" / "work", ignore_errors=True)
    return base


def figures(shops: Sequence[Shop]) -> Found:
    """What is known by now."""
    options = shops[0].options
    spent = {"learning": "seconds_learning", "driving": "seconds_driving"}
    return Found(
        machine=this_machine(),
        users=options.users,
        items=options.items,
        history_days=HISTORY_DAYS,
        taste_turn_days=TASTE_TURN_DAYS,
        shops={one.name: one.weeks() for one in shops},
        minutes={
            f"{one.name}, {what}": sum(getattr(day, field) for day in one.days) / 60
            for one in shops
            for what, field in spent.items()
        },
    )


def plot(found: Found, path: Path) -> None:
    """How near the lists of each week are to the best ones."""
    with style():
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw(left, found, "share_of_best", "true expected purchases, share of the best lists'")
        draw(right, found, "ndcg", "NDCG@10 of true purchase probabilities")
        figure.savefig(path, dpi=150)


def draw(axes: Axes, found: Found, name: str, title: str) -> None:
    """A line for each shop over the weeks."""
    for shop, weeks in found.shops.items():
        values = [getattr(one, name) for one in weeks]
        axes.plot([one.week for one in weeks], values, "o-", color=COLOURS[SHOPS[shop]], label=shop)
    axes.set_title(title)
    axes.set_xlabel("week after the first training")
    axes.set_xticks(range(1, 1 + max(map(len, found.shops.values()))))
    axes.set_ylim(0, 1)
    axes.legend(loc="upper left")


def table(found: Found) -> Table:
    """The share of the best lists' purchases, and NDCG, by week."""
    grid = Table("week", title="share of the best lists' true expected purchases (NDCG@10)")
    for shop in found.shops:
        grid.add_column(shop, justify="right")
    for row in zip(*found.shops.values(), strict=False):
        cells = [f"{one.share_of_best:.3f} ({one.ndcg:.3f})" for one in row]
        grid.add_row(str(row[0].week), *cells)
    return grid


def save(found: Found, out: Path) -> None:
    """Write the figures and the plot."""
    document = json.dumps(found.model_dump(mode="json"), indent=1)
    (out / "continuous_learning.json").write_text(document + "\n", encoding="utf-8")
    plot(found, out / "continuous_learning.png")


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--users", type=int, default=80)
    parser.add_argument("--items", type=int, default=160)
    parser.add_argument("--weeks", type=int, default=8)
    parser.add_argument("--shops", default=",".join(SHOPS), help="some of them, by commas")
    parser.add_argument("--config", type=Path, default=SMALL, help="over the profile `fast`")
    given = parser.parse_args()
    chosen = load_configuration(given.config, profile("fast"))
    shops = tuple(name for name in SHOPS if name in given.shops.split(","))
    sizes = {name: getattr(given, name) for name in ("out", "users", "items", "weeks")}
    return Options(**sizes, shops=shops, configuration=chosen)


def main() -> None:
    """Live through the weeks, one after the other, and print the table."""
    options = options_given()
    options.out.mkdir(parents=True, exist_ok=True)
    shops = [Shop(name, options) for name in options.shops]
    with Progress(transient=True) as progress:
        base = begin(options, progress)
        for week in range(options.weeks):
            first = HISTORY_DAYS + week * WEEK
            for shop in shops:
                shop.open(base)
                shop.live(first, first + WEEK, progress)
            save(figures(shops), options.out)
    show(table(figures(shops)))


if __name__ == "__main__":
    main()
