"""Which losses, which negatives and how many examples the cross-encoder is worth.

Fine-tunes once for each recipe, all on the same slices with the same budget, and measures NDCG@10
on the test slice that `recsys train` uses. Prints a table, writes it as JSON and draws the learning
curve.

    python benchmarks/encoder_recipes.py DATASET --until 2010-11-09T00:00:00Z --out recipes
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from recsys.config import Configuration, CrossEncoderConfig, NegativesConfig, profile
from recsys.retrieval import ItemNeighbours
from recsys.text import BiEncoder
from serving.cli.times import parse_time
from training.embed_catalogue import EncodedTexts
from training.process import set_up_process
from training.training_data import TrainingData, read_training_data
from training.tune_text import labelled_groups, tune_cross_encoder

OUTPUT = Console(width=120)


@dataclass(frozen=True)
class Recipe:
    """A variant of the configured fine-tuning.

    Attributes:
        kind: what is varied.
        name: the variant.
        change: settings of `CrossEncoderConfig` over the profile's.
    """

    kind: str
    name: str
    change: dict[str, Any]

    def of(self, base: Configuration) -> Configuration:
        """The whole configuration."""
        config = CrossEncoderConfig.model_validate(base.cross_encoder.model_dump() | self.change)
        return base.model_copy(update={"cross_encoder": config})


def recipes(groups: int, sizes: list[int]) -> list[Recipe]:
    """Losses and negatives with `groups` training groups, then the learning curve."""
    pointwise = {"click_weight": 0.5, "purchase_weight": 0.5, "listwise_weight": 0.0}
    listwise = {"click_weight": 0.0, "purchase_weight": 0.0, "listwise_weight": 1.0}
    only_random = NegativesConfig(random=1, popular=0, text_similar=0, shown_not_clicked=0)
    only_hard = NegativesConfig(random=0, popular=0.4, text_similar=0.4, shown_not_clicked=0.2)
    variants: list[tuple[str, str, dict[str, Any]]] = [
        ("loss", "pointwise and listwise", {}),
        ("loss", "pointwise", pointwise),
        ("loss", "listwise", listwise),
        ("negatives", "random alone", {"negatives": only_random.model_dump()}),
        ("negatives", "popular, similar, shown", {"negatives": only_hard.model_dump()}),
    ]
    found = [Recipe(kind, name, {"max_groups": groups} | change) for kind, name, change in variants]
    return found + [Recipe("groups", f"{size:,}", {"max_groups": size}) for size in sizes]


def untuned_neighbours(data: TrainingData, base: Configuration) -> ItemNeighbours:
    """Each item's nearest items before any fine-tuning, for negatives."""
    encoder = BiEncoder.pretrained(base.text.pretrained, base.cross_encoder.precision)
    return EncodedTexts.of(encoder, data.texts, data.log.item_ids, base).catalogue.neighbours


def measure(
    data: TrainingData, untuned: ItemNeighbours, configuration: Configuration, progress: Progress
) -> dict[str, Any]:
    """Fine-tune once; test metrics, steps and seconds."""
    started = time.perf_counter()
    groups = labelled_groups(data, untuned, configuration)
    with tempfile.TemporaryDirectory() as folder:
        _, summary = tune_cross_encoder(data, groups, configuration, Path(folder), progress)
    kept = ("test_before", "test_after", "test_gain", "training_groups", "steps", "best_step")
    return {name: summary[name] for name in kept} | {"seconds": time.perf_counter() - started}


def run(
    dataset: Path,
    out: Annotated[Path, typer.Option(help="Folder for the figures.")],
    until: Annotated[datetime | None, typer.Option(parser=parse_time)] = None,
    groups: Annotated[int, typer.Option(help="Groups of the losses and negatives.")] = 3_000,
    sizes: Annotated[str, typer.Option(help="Groups of the learning curve.")] = "500,2000,8000",
) -> None:
    """Compare recipes of the cross-encoder's fine-tuning."""
    base = profile("full")
    set_up_process(base.threads)
    data = read_training_data(dataset, until, base)
    untuned = untuned_neighbours(data, base)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for recipe in recipes(groups, [int(size) for size in sizes.split(",")]):
        with Progress(console=Console(stderr=True)) as progress:
            found = measure(data, untuned, recipe.of(base), progress)
        rows.append({"kind": recipe.kind, "name": recipe.name} | found)
        (out / "encoder_recipes.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    show(rows)
    draw_curve([row for row in rows if row["kind"] == "groups"], out / "learning_curve.png")


def show(rows: list[dict[str, Any]]) -> None:
    """Print one row a recipe."""
    table = Table(title="Cross-encoder, NDCG@10 on the test slice, items new to the shopper")
    for column in ("varied", "recipe", "groups", "before", "after", "gain [95 %]", "steps", "s"):
        table.add_column(column, justify="left" if column in {"varied", "recipe"} else "right")
    for row in rows:
        gain = row["test_gain"]
        table.add_row(
            row["kind"],
            row["name"],
            f"{row['training_groups']:,}",
            f"{row['test_before']['mean']:.4f}",
            f"{row['test_after']['mean']:.4f}",
            f"{gain['mean']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]",
            f"{row['best_step']}/{row['steps']}",
            f"{row['seconds']:.0f}",
        )
    OUTPUT.print(table)


def draw_curve(rows: list[dict[str, Any]], path: Path) -> None:
    """Test NDCG@10 against the number of training groups."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    after = [row["test_after"] for row in rows]
    means = [one["mean"] for one in after]
    ends = [
        [mean - one["low"] for mean, one in zip(means, after, strict=True)],
        [one["high"] - mean for mean, one in zip(means, after, strict=True)],
    ]
    axes.errorbar([row["training_groups"] for row in rows], means, ends, marker="o", capsize=3)
    axes.axhline(rows[0]["test_before"]["mean"], linestyle=":", label="untuned")
    axes.set_xscale("log")
    axes.set_xlabel("training groups")
    axes.set_ylabel("NDCG@10, test slice")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    typer.run(run)
