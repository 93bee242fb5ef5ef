"""What `recsys index` costs where little has changed, beside reading the whole catalogue again.

    python benchmarks/incremental_index.py DATASET --registry REG --until TIME --out FOLDER
        [--items 100000] [--check]

Grows the dataset's catalogue: titles are three to six words of the real ones, drawn as often as
they stand there. Then runs `recsys index --rebuild` over it, from a copy of the registry, with the
events before TIME. That is the whole: every text is read, everything else is made anew. Then, for
each share, so many of the items change (a third is new, a third has another title, a third is
gone), a day of events comes in, and `recsys index` follows. Every run is the command as cron calls
it, from the start of its process to the published bundle: sums, reading the dataset, the encoders,
checks, golden queries and all.

`--check` rebuilds the whole of the 1 % as well and says how far the two bundles are apart.

Written to FOLDER: `incremental_index.json`, with what must hold and whether it does, and
`incremental_index.png`.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BaseModel

from recsys.bundle import Registry
from recsys.recommender import Contents
from recsys.retrieval import ItemNeighbours
from recsys.tables import Dataset, write_dataset
from serving.bench.machine import Machine, this_machine
from serving.bench.variant_bundles import copy_registry
from training.plot_style import BLUE, FAINT, INK, style

SHARES: Final = (0.0001, 0.001, 0.01, 0.05, 0.2)
CHECKED_SHARE: Final = 0.01
MOST_OF_THE_WHOLE: Final = 0.08
TITLE_WORDS: Final = (3, 7)
NIGHT: Final = timedelta(days=1)
COMPARED: Final = 2_000
LEAST_IN_COMMON: Final = 0.95
ROUNDING: Final = 1e-5
COLORS: Final = {"of_the_whole": FAINT, "cpu_of_the_whole": BLUE}


class Run(BaseModel):
    """What the command says it did, and what it took."""

    added: int
    changed: int
    deleted: int
    events: int
    recall: float
    seconds: float
    cpu_seconds: float


class Night(Run):
    """A run beside that over the whole."""

    share: float
    """Of the items that changed; 1 for the whole."""

    of_the_whole: float
    """Its seconds, in proportion to those of the whole."""

    cpu_of_the_whole: float
    """The same of processor time, which hardly depends on what else the machine does."""

    @classmethod
    def of(cls, run: Run, share: float, whole: Run) -> Night:
        """A run in which a share of the items had changed."""
        return cls(
            **run.model_dump(),
            share=share,
            of_the_whole=run.seconds / whole.seconds,
            cpu_of_the_whole=run.cpu_seconds / whole.cpu_seconds,
        )


class Incremental(BaseModel):
    """All figures of a run."""

    machine: Machine
    items: int
    whole: Night
    nights: list[Night]
    apart: dict[str, float]
    """The bundle of the 1 % from the one that was rebuilt; empty without `--check`."""

    held: dict[str, bool]
    """What must hold, and whether it did."""


class Titles:
    """Random titles of the words of real ones, as frequent as there."""

    def __init__(self, real: Sequence[str], rng: np.random.Generator) -> None:
        self._words = np.array(" ".join(real).split(), object)
        self._rng = rng

    def draw(self, count: int) -> list[str]:
        """`count` titles."""
        lengths = self._rng.integers(*TITLE_WORDS, count)
        words = self._words[self._rng.integers(len(self._words), size=lengths.sum())]
        return [" ".join(part) for part in np.split(words, np.cumsum(lengths))[:count]]


@dataclass(frozen=True)
class Shop:
    """A dataset with a larger catalogue, and the registry that follows it.

    Attributes:
        folder: where all of it is.
        source: the real registry.
        items: the larger catalogue.
        events: the `events` table.
        until: the cut of the whole.
    """

    folder: Path
    source: Path
    items: pl.DataFrame
    events: pl.DataFrame
    until: datetime

    def registry(self, name: str) -> Path:
        """A fresh copy of the real registry."""
        return copy_registry(self.source, self.folder / name).root

    def indexed(self, registry: Path, items: pl.DataFrame, until: datetime, *flags: str) -> Run:
        """Run the command over the catalogue `items`."""
        dataset = self.folder / "dataset"
        write_dataset(dataset, items, self.events, overwrite=True)
        command = [sys.executable, "-m", "serving.cli.main", "index", str(dataset), "--json"]
        command += ["--registry", str(registry), "--until", until.isoformat(), *flags]
        started, used = time.perf_counter(), _cpu_of_children()
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        seconds, cpu = time.perf_counter() - started, _cpu_of_children() - used
        told = json.loads(done.stdout)
        return Run.model_validate({**told, "seconds": seconds, "cpu_seconds": cpu})


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def grown(items: pl.DataFrame, titles: Titles, count: int) -> pl.DataFrame:
    """The real items and as many generated ones as make `count`."""
    ids = [f"generated-{row:07}" for row in range(count - len(items))]
    new = pl.DataFrame({"item_id": ids, "title": titles.draw(len(ids))})
    return pl.concat([items, new], how="diagonal_relaxed")


def changed(items: pl.DataFrame, titles: Titles, share: float, seed: int) -> pl.DataFrame:
    """The table with a share of its items new, gone or with another title."""
    rng = np.random.default_rng(seed)
    third = max(1, round(len(items) * share / 3))
    order = rng.permutation(len(items))
    gone, other = order[:third], order[third : 2 * third]
    title = items["title"].to_numpy().copy()
    title[other] = titles.draw(third)
    ids = [f"new-{row:07}" for row in range(third)]
    new = pl.DataFrame({"item_id": ids, "title": titles.draw(third)})
    kept = items.with_columns(title=pl.Series(title, dtype=pl.String))
    return pl.concat([kept[np.setdiff1d(order, gone)], new], how="diagonal_relaxed")


def differences(ours: Contents, theirs: Contents) -> dict[str, float]:
    """How far a bundle that followed is from one that read everything.

    Raises:
        ValueError: they have other items, which nothing else makes good.
    """
    if ours.catalogue.item_ids != theirs.catalogue.item_ids:
        raise ValueError("the two bundles have other items")
    one, other = ours.texts, theirs.texts
    states = (text.scorer.states.together() for text in (one, other))
    return {
        "vectors": float(np.abs(one.vectors - other.vectors).max()),
        "states": float((next(states) - next(states)).abs().max()),
        "neighbours_in_common": _in_common(one.neighbours, other.neighbours),
        "lexical_in_common": _in_common(one.lexical, other.lexical),
    }


def _in_common(one: ItemNeighbours, other: ItemNeighbours) -> float:
    rows = np.linspace(0, one.items - 1, COMPARED).astype(int)
    return float(np.mean([_share_found(one.of(row)[0], other.of(row)[0]) for row in rows]))


def _share_found(one: NDArray[np.int32], other: NDArray[np.int32]) -> float:
    return float(np.isin(other, one).mean()) if len(other) else 1.0


def measured(options: Options, folder: Path) -> Incremental:
    """Index the whole, then night after night each from the whole."""
    dataset = Dataset(options.dataset)
    titles = Titles(dataset.items()["title"].to_list(), np.random.default_rng(options.seed))
    items = grown(dataset.items(), titles, options.items)
    shop = Shop(folder, options.registry, items, dataset.scan_events().collect(), options.until)
    registry = shop.registry("registry")
    rebuilding = ("--rebuild", "--allow-size-change")
    first = shop.indexed(registry, items, options.until, *rebuilding)
    whole = Night.of(first, 1.0, first)
    _say(whole)
    nights, apart = [], {}
    for share in options.shares:
        tonight = changed(items, titles, share, options.seed)
        run = shop.indexed(registry, tonight, options.until + NIGHT)
        nights.append(Night.of(run, share, whole))
        _say(nights[-1])
        if share == CHECKED_SHARE and options.check:
            again = shop.registry("rebuilt")
            shop.indexed(again, tonight, options.until + NIGHT, *rebuilding)
            apart = differences(current(registry), current(again))
        back(registry)
    found = Incremental(
        machine=this_machine(),
        items=len(items),
        whole=whole,
        nights=nights,
        apart=apart,
        held={},
    )
    return found.model_copy(update={"held": held(found)})


def _say(night: Night) -> None:
    print(night.model_dump_json(), file=sys.stderr, flush=True)


def current(registry: Path) -> Contents:
    """The current bundle's."""
    bundles = Registry(registry)
    return Contents.load(bundles.folder(bundles.current()))


def back(registry: Path) -> None:
    """Undo a night: the bundle before it is current, and its own is gone."""
    bundles = Registry(registry)
    undone = bundles.current()
    bundles.rollback()
    shutil.rmtree(bundles.folder(undone))


def held(found: Incremental) -> dict[str, bool]:
    """What must hold."""
    promised = [night for night in found.nights if night.share <= CHECKED_SHARE]
    holds = {
        "up to 1 % changed: at most 8 % of the whole": bool(promised)
        and all(
            max(night.of_the_whole, night.cpu_of_the_whole) <= MOST_OF_THE_WHOLE
            for night in promised
        ),
    }
    if found.apart:
        holds["the same vectors and states"] = (
            max(found.apart["vectors"], found.apart["states"]) <= ROUNDING
        )
        holds["the same neighbours, within the index's recall"] = (
            min(found.apart["neighbours_in_common"], found.apart["lexical_in_common"])
            >= LEAST_IN_COMMON
        )
    return holds


def plot(found: Incremental, path: Path) -> None:
    """Cost against the share of items that changed."""
    with style():
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        shares = [100 * night.share for night in found.nights]
        for (part, color), label in zip(COLORS.items(), ("time", "processor time"), strict=True):
            costs = [100 * float(getattr(night, part)) for night in found.nights]
            axes.plot(shares, costs, marker="o", color=color, label=label)
        for share, cost in zip(shares, costs, strict=True):
            axes.annotate(f"{cost:.1f} %", (share, cost), (0, 8), textcoords="offset points")
        axes.legend(loc="center left")
        axes.axhline(100, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(shares, [f"{share:g} %" for share in shares])
        axes.set_ylim(0, 105)
        axes.set_xlabel("items changed")
        axes.set_ylabel("% of the whole")
        axes.set_title(f"Indexing {found.items:,} items; {found.whole.seconds:.0f} s for the whole")
        figure.savefig(path, dpi=150)


class Options(BaseModel):
    """Of the command line."""

    dataset: Path
    registry: Path
    until: datetime
    items: int
    shares: list[float]
    out: Path
    seed: int
    check: bool


def options_given() -> Options:
    """Read the command line."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--registry", type=Path, required=True)
    parser.add_argument("--until", required=True, help="a day before the events end, or earlier")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="compare the 1 %% with a rebuild")
    return Options.model_validate(vars(parser.parse_args()))


def main() -> int:
    """Measure, write, print; 1 where something does not hold that must."""
    options = options_given()
    options.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=options.out) as name:
        found = measured(options, Path(name))
    text = found.model_dump_json(indent=2)
    (options.out / "incremental_index.json").write_text(text + "\n", encoding="utf-8")
    plot(found, options.out / "incremental_index.png")
    print(text)
    return 0 if all(found.held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
