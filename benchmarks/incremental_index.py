"""What it costs to follow a changed catalogue, beside building everything from nothing.

python benchmarks/incremental_index.py --items 100000 --out bench

Titles are three to six words of the encoder's own vocabulary, common ones more often (Zipf and
Mandelbrot). Of the changed items a third is new, a third has another title and a third is gone.
Each run reads the bundle from the disk, finds what changed, reads it with the encoders, updates
states, index and nearest items, and writes the bundle; the run from nothing does the same with no
bundle to start from. No events: they cost the same either way.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from argparse import ArgumentParser
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from recsys.config import Configuration, RetrievalConfig
from recsys.interactions import InteractionLog
from recsys.page import MerchandisingRules
from recsys.recommender import (
    MEANING,
    WORDS,
    Catalogue,
    CatalogueChange,
    CatalogueUpdate,
    Contents,
    ItemReader,
    TextModels,
    Upkeep,
    text_sums,
)
from recsys.recommender.contents import load_texts
from recsys.retrieval import (
    CoOccurrence,
    DeepNeighbours,
    Taste,
    TastePrior,
    TextSpace,
    VectorIndex,
    VectorNearness,
    WordCounts,
    WordModel,
    WordNearness,
)
from recsys.text import BiEncoder, Calibration, TextScorer, render_items
from serving.bench.machine import this_machine
from training.plot_style import BLUE, INK, style
from training.process import set_up_process
from training.tune_text import new_cross_encoder

SHARES: Final = (0.0001, 0.001, 0.01, 0.05, 0.2)
SEED_ITEMS: Final = 300
TITLE_WORDS: Final = (3, 7)
RANK_OFFSET: Final = 20
SHORTEST_WORD: Final = 3
COMPARED: Final = 2_000
CHECKED_SHARE: Final = 0.01


@dataclass(frozen=True)
class Run:
    """One way to the new bundle; seconds of each step, and of processor time in all of them."""

    share: float
    read: int
    deleted: int
    load_s: float
    update_s: float
    save_s: float
    cpu_s: float

    @property
    def seconds(self) -> float:
        """All together."""
        return self.load_s + self.update_s + self.save_s

    def beside(self, full: Run) -> dict[str, float]:
        """The figures, and their share of those from nothing."""
        ratios = {"ratio": self.seconds / full.seconds, "cpu_ratio": self.cpu_s / full.cpu_s}
        return asdict(self) | {"seconds": self.seconds} | ratios


class Titles:
    """Random titles."""

    def __init__(self, words: list[str], rng: np.random.Generator) -> None:
        self._words = np.array(words, object)[rng.permutation(len(words))]
        chance = 1 / (RANK_OFFSET + np.arange(len(words)))
        self._ends = np.cumsum(chance / chance.sum())
        self._rng = rng

    def draw(self, count: int) -> list[str]:
        """`count` titles."""
        lengths = self._rng.integers(*TITLE_WORDS, count)
        places = np.searchsorted(self._ends, self._rng.random(lengths.sum()))
        parts = np.split(self._words[np.minimum(places, len(self._words) - 1)], np.cumsum(lengths))
        return [" ".join(part) for part in parts[:count]]


def catalogue(titles: Titles, items: int) -> pl.DataFrame:
    """An `items` table."""
    ids = [f"item-{row:07}" for row in range(items)]
    return pl.DataFrame({"item_id": ids, "title": titles.draw(items)})


def changed(items: pl.DataFrame, titles: Titles, share: float, seed: int) -> pl.DataFrame:
    """The table with a share of its items new, gone or with another title."""
    rng = np.random.default_rng(seed)
    third = max(1, round(len(items) * share / 3))
    order = rng.permutation(len(items))
    gone, other = order[:third], np.sort(order[third : 2 * third])
    title = items["title"].to_numpy().copy()
    title[other] = titles.draw(third)
    new = pl.DataFrame(
        {"item_id": [f"new-{row:07}" for row in range(third)], "title": titles.draw(third)}
    )
    kept = items.with_columns(title=pl.Series(title, dtype=pl.String))
    return pl.concat([kept[np.sort(np.setdiff1d(order, gone))], new])


def seed_contents(items: pl.DataFrame, configuration: Configuration) -> Contents:
    """Untrained models over the first few items; what is fitted to texts is fitted to all."""
    few, everything = items[:SEED_ITEMS], WordCounts.of(render_items(items))
    ids = few["item_id"].to_list()
    texts = render_items(few)
    precision = configuration.cross_encoder.precision
    encoder = BiEncoder.pretrained(configuration.text.pretrained, precision)
    cross = new_cross_encoder(configuration)
    reader = ItemReader(encoder, cross, configuration, tuned=False)
    read = reader.read(texts, ids)
    index = VectorIndex.build(ids, read.vectors, configuration.retrieval.flat_index_limit)
    counts, model = WordCounts.of(texts), WordModel.fit(everything)
    limit = configuration.retrieval.neighbours_per_item
    near = DeepNeighbours.build(VectorNearness(read.vectors, index), len(ids), limit)
    lexical = DeepNeighbours.build(WordNearness.of(model, counts), len(ids), limit)
    nothing = np.zeros((0, read.vectors.shape[1]), np.float32)
    words = TextSpace.of_words(render_items(items), [], configuration.seed)
    spaces = {
        MEANING: TextSpace.of_meanings(read.vectors, nothing),
        WORDS: replace(words, items=words.items[: len(ids)]),
    }
    tokenizer, budget = encoder.tokenizer, configuration.text.query_max_tokens
    log = InteractionLog.build(few["item_id"], no_events())
    return Contents(
        configuration=configuration,
        catalogue=Catalogue.of(few),
        log=log,
        texts=TextModels(
            bi_encoder=encoder,
            vectors=read.vectors,
            untuned_vectors=read.untuned_vectors,
            index=index,
            neighbours=near.table,
            lexical=lexical.table,
            tastes={n: Taste(s, TastePrior.start(s.dimensions, 0.1)) for n, s in spaces.items()},
            scorer=TextScorer(cross, read.states, tokenizer, budget, precision),
            config=configuration.text,
            upkeep=Upkeep(reader.models, 0, text_sums(texts), counts, model, near, lexical),
        ),
        co_occurrence=CoOccurrence.build(log, 10),
        rankers={},
        calibration=Calibration(np.zeros(1), np.zeros(1), 0),
        rules=MerchandisingRules.none(),
    )


def no_events() -> pl.LazyFrame:
    """An `events` table without a row."""
    return pl.LazyFrame(
        schema={
            "event_id": pl.String,
            "user_id": pl.String,
            "item_id": pl.String,
            "event_type": pl.String,
            "event_time": pl.Datetime("us", "UTC"),
        }
    )


def updated(before: Contents, items: pl.DataFrame) -> tuple[Contents, CatalogueUpdate]:
    """The contents for a whole `items` table."""
    update = CatalogueUpdate(before, CatalogueChange.to(items))
    return update.apply(), update


def written(contents: Contents, folder: Path) -> float:
    """Seconds to write a bundle's files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    start = time.perf_counter()
    # A bundle without rankers can't be loaded: what is loaded in `incremental` is all the rest.
    contents.save(folder)
    return time.perf_counter() - start


def incremental(
    held: Contents, items: pl.DataFrame, share: float, folder: Path
) -> tuple[Run, Contents]:
    """Follow a changed catalogue."""
    start, cpu = time.perf_counter(), time.process_time()
    texts = load_texts(folder / "before", held.configuration)
    before = replace(held, texts=texts)
    loaded = time.perf_counter()
    after, update = updated(before, items)
    done = time.perf_counter()
    saved = written(after, folder / "after")
    counts = update.counts
    steps = (loaded - start, done - loaded, saved)
    return Run(share, counts.read, counts.deleted, *steps, time.process_time() - cpu), after


def differences(found: Contents, expected: Contents) -> dict[str, float]:
    """How far the updated contents are from those built from nothing."""
    ours, theirs = found.texts, expected.texts
    near = {}
    for name in ("neighbours", "lexical"):
        one, other = getattr(ours, name), getattr(theirs, name)
        rows = np.linspace(0, one.items - 1, COMPARED).astype(int)
        near[f"{name}_in_common"] = float(
            np.mean([_share_in_common(one.of(row)[0], other.of(row)[0]) for row in rows])
        )
    return {
        "vectors": float(np.abs(ours.vectors - theirs.vectors).max()),
        "states": float(
            (ours.scorer.states.together() - theirs.scorer.states.together()).abs().max()
        ),
        **near,
    }


def _share_in_common(one: NDArray[np.int32], other: NDArray[np.int32]) -> float:
    return float(np.isin(other, one).mean()) if len(other) else 1.0


def plot(full: Run, runs: list[Run], items: int, path: Path) -> None:
    """Cost against the share of items that changed."""
    with style():
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        shares = [100 * run.share for run in runs]
        costs = [100 * run.cpu_s / full.cpu_s for run in runs]
        axes.plot(shares, costs, marker="o", color=BLUE)
        for share, cost in zip(shares, costs, strict=True):
            axes.annotate(f"{cost:.1f} %", (share, cost), (6, -10), textcoords="offset points")
        axes.axhline(100, color=INK, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(shares, [f"{share:g} %" for share in shares])
        axes.set_ylim(0, 105)
        axes.set_xlabel("items changed")
        axes.set_ylabel("% of the processor time from nothing")
        axes.set_title(f"Indexing {items:,} items; {full.cpu_s:.0f} s from nothing")
        figure.savefig(path, dpi=150)


def main() -> None:
    """Measure and print one JSON object."""
    parser = ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument(
        "--check", action="store_true", help="Compare one with a build from nothing."
    )
    options = parser.parse_args()
    threads = set_up_process(options.threads)
    configuration = Configuration(retrieval=RetrievalConfig(), threads=threads)
    tokenizer = BiEncoder.pretrained(configuration.text.pretrained, "fp32").tokenizer
    words = sorted(
        word for word in tokenizer.get_vocab() if word.isalpha() and len(word) >= SHORTEST_WORD
    )
    titles = Titles(words, np.random.default_rng(1))
    items = catalogue(titles, options.items)
    seed = seed_contents(items, configuration)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.out) as name:
        folder = Path(name)
        start, cpu = time.perf_counter(), time.process_time()
        built, update = updated(seed, items)
        update_s = time.perf_counter() - start
        save_s = written(built, folder / "before")
        cpu_s = time.process_time() - cpu
        full = Run(1.0, update.counts.read, 0, 0.0, update_s, save_s, cpu_s)
        print(json.dumps(asdict(full)), flush=True)
        runs, apart = [], {}
        for share in options.shares:
            after = changed(items, titles, share, seed=3)
            run, found = incremental(built, after, share, folder)
            runs.append(run)
            print(json.dumps(run.beside(full)), flush=True)
            if share == CHECKED_SHARE and options.check:
                apart = differences(found, updated(seed, after)[0])
        result = {
            "items": options.items,
            "threads": threads,
            "apart_at_1_percent": apart,
            "machine": this_machine().model_dump(mode="json"),
            "from_nothing": full.beside(full),
            "runs": [run.beside(full) for run in runs],
        }
    (options.out / "incremental_index.json").write_text(json.dumps(result, indent=1) + "\n")
    plot(full, runs, options.items, options.out / "incremental_index.png")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
