"""A very small simulated shop, and the bundle that is trained on it once a test run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import polars as pl
from rich.progress import Progress

from recsys.config import (
    BiEncoderConfig,
    Configuration,
    CrossEncoderConfig,
    GatesConfig,
    NegativesConfig,
    RankerConfig,
    RetrievalConfig,
    TextConfig,
    WindowsConfig,
)
from recsys.recommender import Recommender
from recsys.simulation import ORACLE_FILE, SimulatedShop, SimulationConfig
from recsys.tables import write_dataset
from serving.loading import open_recommender
from training.pipeline import TrainingOptions, TrainingSummary, train
from training.training_data import TrainingData, read_training_data

SEED = 5
START = datetime(2026, 1, 5, tzinfo=UTC)
UNTIL = START + timedelta(days=28)
SIMULATION = SimulationConfig(users=60, items=80, days=35, sessions_per_day=0.6)
UNAVAILABLE = 3
"""Items that may never be returned: the most popular ones."""


@dataclass(frozen=True)
class Tables:
    """The shop's dataset before it is written."""

    items: pl.DataFrame
    events: pl.DataFrame
    oracle: Mapping[str, object]

    @property
    def past(self) -> pl.DataFrame:
        """What training with `UNTIL` may see."""
        return self.events.filter(pl.col("event_time") < UNTIL)

    def write(self, folder: Path, events: pl.DataFrame) -> Path:
        """A dataset with the shop's items and the given events; returns its folder."""
        write_dataset(folder, self.items, events, documents={ORACLE_FILE: self.oracle})
        return folder


def simulate_tables() -> Tables:
    shop = SimulatedShop(SIMULATION, SEED)
    events = pl.concat(list(shop.days()))
    favourites = events["item_id"].value_counts(sort=True)["item_id"][:UNAVAILABLE]
    items = shop.items().with_columns(available=~pl.col("item_id").is_in(favourites.implode()))
    return Tables(items, events, shop.document())


def tiny_configuration(pretrained: Path) -> Configuration:
    """One thread, no reduced precision, a few steps and trees."""
    return Configuration(
        seed=SEED,
        threads=1,
        text=TextConfig(pretrained=str(pretrained), item_max_tokens=12, shopper_max_segments=4),
        windows=WindowsConfig(label_days=5, ranker_windows=2, stride_days=5, validation_days=4),
        bi_encoder=BiEncoderConfig(
            max_pairs=96,
            batch_size=16,
            epochs=4.0,
            learning_rate=1e-3,
            frozen_layers=0,
            evaluation_steps=2,
            max_evaluation_requests=40,
        ),
        cross_encoder=CrossEncoderConfig(
            max_groups=64,
            max_evaluation_groups=20,
            epochs=2.0,
            groups_per_batch=16,
            evaluation_steps=3,
            candidates=30,
            precision="fp32",
            scoring="fp32",
            negatives=NegativesConfig(per_group=5),
        ),
        retrieval=RetrievalConfig(
            text_neighbours=20,
            co_occurrence=20,
            next_items=10,
            similar_shoppers=10,
            taste=10,
            popular=15,
            own_items=15,
            neighbours_per_item=20,
        ),
        ranker=RankerConfig(
            rounds=12,
            learning_rate=0.05,
            min_child_samples=5,
            num_leaves=7,
            feature_fraction=1.0,
            bagging_fraction=1.0,
            negatives_per_request=10_000,
        ),
        gates=GatesConfig(max_drop=0.3),
    )


def write_toml(configuration: Configuration, path: Path) -> None:
    lines: list[str] = []

    def add(prefix: str, section: dict[str, object]) -> None:
        for key, value in section.items():
            if not isinstance(value, dict):
                lines.append(f"{key} = {json.dumps(value)}")
        for key, value in section.items():
            if isinstance(value, dict):
                lines.append(f"[{prefix}{key}]")
                add(f"{prefix}{key}.", value)

    add("", configuration.model_dump(mode="json"))
    path.write_text("\n".join(lines), encoding="utf-8")


@dataclass(frozen=True)
class TrainedShop:
    """The shop with its published bundle.

    Attributes:
        tables: items and all events, those after `UNTIL` too.
        dataset: folder of them.
        registry: holds one bundle.
        configuration: it was trained with.
        summary: what `train` said.
    """

    tables: Tables
    dataset: Path
    registry: Path
    configuration: Configuration
    summary: TrainingSummary

    @cached_property
    def recommender(self) -> Recommender:
        return open_recommender(self.registry)

    @cached_property
    def data(self) -> TrainingData:
        return read_training_data(self.dataset, UNTIL, self.configuration)

    @cached_property
    def shoppers(self) -> list[str]:
        """Shoppers known at the cut, those with the most events first."""
        return (
            self.tables.past["user_id"]
            .value_counts(sort=True)
            .sort(["count", "user_id"], descending=[True, False])["user_id"]
            .to_list()
        )

    @property
    def bundle(self) -> Path:
        return self.registry / "bundles" / self.summary.version


def train_quietly(dataset: Path, registry: Path, configuration: Configuration) -> TrainingSummary:
    with Progress(disable=True) as progress:
        return train(dataset, registry, TrainingOptions(configuration, UNTIL), progress)


def make_trained_shop(folder: Path, pretrained: Path) -> TrainedShop:
    tables = simulate_tables()
    dataset = tables.write(folder / "shop", tables.events)
    configuration = tiny_configuration(pretrained)
    summary = train_quietly(dataset, folder / "registry", configuration)
    return TrainedShop(tables, dataset, folder / "registry", configuration, summary)
