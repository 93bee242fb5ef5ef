"""What the two-part pattern and its join layer cost in quality, and what they save in time.

Fine-tunes the plain pattern and the two-part pattern joined at several layers from the same
pretrained model, on the same examples, by the same job, and measures NDCG@10 on the test slice of
`recsys train`, paired by shopper with the plain pattern; then the time that each takes to score
100 candidates. Prints a table, writes it as JSON and draws quality against time.

    python benchmarks/attention_patterns.py DATASET --until 2010-11-09T00:00:00Z --out patterns

The plain pattern takes most of the time. What is finished is kept in the folder of the figures: a
run that was broken off goes on there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from encoder_recipes import OUTPUT, Recipe, untuned_neighbours
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from recsys.config import Configuration, NegativesConfig, profile
from recsys.evaluation import bootstrap_difference, bootstrap_mean
from recsys.interactions import Candidates
from recsys.text import (
    CrossEncoder,
    ShopperTexts,
    StateTable,
    TextScorer,
    encode_states,
    load_tokenizer,
)
from serving.bench.machine import this_machine
from serving.cli.times import parse_time
from training.examples import Groups
from training.fit_cross_encoder import FitJob, fit_cross_encoder
from training.group_objectives import group_ndcg, ranking_scores
from training.process import set_up_process
from training.training_data import TrainingData, read_training_data
from training.tune_text import (
    LabelledGroups,
    examples,
    labelled_groups,
    new_cross_encoder,
    text_rows,
)

PLAIN: Final = "plain"
GROUPS_PER_BATCH: Final = 8
BLOCK: Final = 40
"""Test shoppers whose scores are kept at a time."""

CANDIDATES: Final = 100
JOINS: Final = (2, 3, 4, 5)

VALIDATION_SHOPPERS: Final = 120
"""With a few dozen, chance decides whether the untuned weights are kept."""

NEGATIVES: Final = NegativesConfig(per_group=7)
"""Half of the default, as the plain pattern reads each pair by itself."""


def variants(groups: int, test: int) -> list[Recipe]:
    """The plain pattern, then the two-part pattern joined at each of `JOINS`."""
    steps = -(-groups // GROUPS_PER_BATCH)
    shared = {
        "max_groups": groups,
        "max_evaluation_groups": VALIDATION_SHOPPERS,
        "max_test_groups": test,
        "groups_per_batch": GROUPS_PER_BATCH,
        "evaluation_steps": -(-steps // 2),
        "negatives": NEGATIVES.model_dump(),
    }
    two_part = [
        Recipe("two_part", f"join {layer}", shared | {"join_layer": layer}) for layer in JOINS
    ]
    return [Recipe(PLAIN, PLAIN, shared | {"attention": "plain"}), *two_part]


@dataclass(frozen=True)
class Trial:
    """One variant of the encoder.

    Attributes:
        recipe: of the variant.
        configuration: the whole of it.
        folder: what is finished of it.
        data: for the texts.
        groups: the same for all variants.
    """

    recipe: Recipe
    configuration: Configuration
    folder: Path
    data: TrainingData
    groups: LabelledGroups

    def run(self, progress: Progress) -> None:
        """Fine-tune and test, as far as that is not done."""
        if not (self.folder / "tuned.json").exists():
            self._tune(progress)
        scorer, test = self.scorer(), self.groups.test
        task = progress.add_task(f"test {self.recipe.name}", total=len(test.item))
        for start in range(0, len(test.item), BLOCK):
            path = self.folder / f"test-{start}.npy"
            rows = range(start, min(start + BLOCK, len(test.item)))
            if not path.exists():
                logits = [scorer.scores(*asked(test, row, test.item.shape[1])) for row in rows]
                np.save(path, ranking_scores(np.stack(logits)))
            progress.advance(task, len(rows))

    def ndcg(self) -> NDArray[np.float64]:
        """NDCG@10 of each test shopper."""
        test = self.groups.test
        starts = range(0, len(test.item), BLOCK)
        scores = np.concatenate([np.load(self.folder / f"test-{start}.npy") for start in starts])
        return group_ndcg(scores, test.label, test.relevant)

    def tuned(self) -> dict[str, Any]:
        """What fine-tuning did."""
        found: dict[str, Any] = json.loads((self.folder / "tuned.json").read_text("utf-8"))
        return found

    def scorer(self) -> TextScorer:
        """The tuned encoder as it is served, remembering nothing."""
        model = CrossEncoder.load(self.folder / "model")
        text, precision = self.configuration.text, self.configuration.cross_encoder.precision
        tokens = text_rows(self.data.texts, model, self.configuration, text.item_max_tokens).tokens
        join = model.shape.join_layer
        states: StateTable = encode_states(model.bert, tokens, layer=join, precision=precision)
        tokenizer = load_tokenizer(text.pretrained)
        return TextScorer(model, states, tokenizer, text.query_max_tokens, precision).forgetful()

    def _tune(self, progress: Progress) -> None:
        config, encoder = self.configuration, new_cross_encoder(self.configuration)
        items = text_rows(self.data.texts, encoder, config, config.text.item_max_tokens)
        train, validation = (
            examples(part, items, encoder, config)
            for part in (self.groups.train, self.groups.validation)
        )
        job = FitJob(config.cross_encoder, self.folder / "checkpoints", config.seed, progress)
        started = time.perf_counter()
        result = fit_cross_encoder(encoder, train, validation, job)
        seconds = time.perf_counter() - started
        encoder.save(self.folder / "model")
        found = {"steps": result.steps, "best_step": result.best_step, "seconds": seconds}
        (self.folder / "tuned.json").write_text(json.dumps(found) + "\n", "utf-8")


def scoring_ms(trials: Sequence[Trial], repeats: int) -> list[list[float]]:
    """Milliseconds of each trial to score 100 candidates of test shoppers, all in turn."""
    scorers = [trial.scorer() for trial in trials]
    taken: list[list[float]] = [[] for _ in trials]
    groups = trials[0].groups.test
    for request in range(repeats + 1):
        of = asked(groups, request % len(groups.item), CANDIDATES)
        for scorer, times in zip(scorers, taken, strict=True):
            started = time.perf_counter()
            scorer.scores(*of)
            times.append(1_000 * (time.perf_counter() - started))
    return [times[1:] for times in taken]


def asked(groups: Groups, row: int, items: int) -> tuple[ShopperTexts, Candidates]:
    """The shopper's side of a group, and the first of its items as candidates."""
    shoppers, drawn = groups.shoppers, groups.item[row, :items]
    own = slice(int(shoppers.offsets[row]), int(shoppers.offsets[row + 1]))
    segments, kind = shoppers.segments[own], shoppers.kind[row : row + 1]
    side = ShopperTexts(np.array([0, len(segments)]), segments, kind, shoppers.queries)
    ranks = np.zeros((len(drawn), 0), np.int32)
    return side, Candidates(np.array([0, len(drawn)]), drawn, (), ranks)


def figures(trials: Sequence[Trial], repeats: int) -> dict[str, Any]:
    """The run as JSON: quality, its difference from the plain pattern, and time."""
    rng = np.random.default_rng(1)
    times = scoring_ms(trials, repeats)
    plain = trials[0].ndcg()
    rows = []
    for trial, taken in zip(trials, times, strict=True):
        ndcg = trial.ndcg()
        rows.append(
            {
                "name": trial.recipe.name,
                "ndcg@10": asdict(bootstrap_mean(ndcg, rng)),
                "minus_plain": asdict(bootstrap_difference(ndcg, plain, rng)),
                "ms_per_100": float(np.median(taken)),
                "faster_than_plain": float(np.median(np.array(times[0]) / np.array(taken))),
                **trial.tuned(),
            }
        )
    return {
        "machine": this_machine().model_dump(),
        "precision": trials[0].configuration.cross_encoder.precision,
        "shopper_titles": trials[0].configuration.text.shopper_max_segments,
        "training_groups": len(trials[0].groups.train.item),
        "items_per_group": trials[0].groups.train.item.shape[1],
        "test_shoppers": len(plain),
        "variants": rows,
    }


def run(
    dataset: Path,
    out: Annotated[Path, typer.Option(help="Folder for the figures and what is finished.")],
    until: Annotated[datetime | None, typer.Option(parser=parse_time)] = None,
    groups: Annotated[int, typer.Option(help="Training groups.")] = 1_000,
    test: Annotated[int, typer.Option(help="Test shoppers.")] = 240,
    titles: Annotated[int, typer.Option(help="Titles on the shopper's side.")] = 8,
) -> None:
    """Compare attention patterns: quality against time."""
    recipes = variants(groups, test)
    full = profile("full")
    text = full.text.model_copy(update={"shopper_max_segments": titles})
    full = full.model_copy(update={"text": text})
    base = recipes[0].of(full)
    set_up_process(base.threads)
    data = read_training_data(dataset, until, base)
    labelled = labelled_groups(data, untuned_neighbours(data, base), base)
    trials = []
    for recipe in recipes:
        folder = out / recipe.name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        trials.append(Trial(recipe, recipe.of(full), folder, data, labelled))
        with Progress(console=Console(stderr=True)) as progress:
            trials[-1].run(progress)
    found = figures(trials, repeats=21)
    (out / "attention_patterns.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    show(found)
    draw(found["variants"], out / "attention_patterns.png")


def show(found: dict[str, Any]) -> None:
    """Print one row a variant."""
    title = f"Test NDCG@10 of {found['test_shoppers']} shoppers, items new to them"
    table = Table(title=f"{title}; {found['training_groups']:,} training groups")
    for column in ("pattern", "NDCG@10 [95 %]", "minus plain", "relative", "100 items", "ratio"):
        table.add_column(column, justify="left" if column == "pattern" else "right")
    plain = found["variants"][0]["ndcg@10"]["mean"]
    for row in found["variants"]:
        own, gap = row["ndcg@10"], row["minus_plain"]
        table.add_row(
            row["name"],
            f"{own['mean']:.4f} [{own['low']:.4f}, {own['high']:.4f}]",
            f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]",
            f"{gap['mean'] / plain:+.1%}" if plain else "·",
            f"{row['ms_per_100']:.1f} ms",
            f"{row['faster_than_plain']:.1f} x",
        )
    OUTPUT.print(table)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """NDCG@10, with its interval, against milliseconds for 100 candidates."""
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.add_subplot()
    for row in rows:
        own = row["ndcg@10"]
        ends = [[own["mean"] - own["low"]], [own["high"] - own["mean"]]]
        axes.errorbar(row["ms_per_100"], own["mean"], ends, marker="o", capsize=3)
        where = (row["ms_per_100"], own["mean"])
        axes.annotate(row["name"], where, xytext=(6, 6), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds for 100 candidates")
    axes.set_ylabel("NDCG@10, test slice")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    typer.run(run)
