"""How fast the cross-encoder is fine-tuned, beside sentence-transformers' trainer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from datasets import Dataset
from pydantic import BaseModel
from rich.progress import Progress
from sentence_transformers.cross_encoder import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

from recsys.config import Configuration
from recsys.interactions import Histories, ItemLists
from recsys.text import locate, render_shoppers
from serving.bench.machine import Machine, this_machine
from training.examples import NOT_CLICKED, PURCHASED, Groups
from training.fit_cross_encoder import FitJob, fit_cross_encoder
from training.tune_text import examples, new_cross_encoder, text_rows

PEER_PAIRS_PER_STEP: Final = 32
WARM_GROUPS: Final = 2


class TrainingSpeed(BaseModel):
    """Pairs of a shopper's text and an item's text that are learnt from in a second."""

    machine: Machine
    repeats: int
    """Runs that the medians are of, this product and the peer in turn."""

    shopper_titles: int
    pairs: int
    this_product: float
    sentence_transformers: float
    """`CrossEncoderTrainer` on the same pairs and in the same precision, 32 pairs a step."""

    peer_pairs: int
    """The peer learns from so many of them."""


def measure_training(
    titles: Sequence[str], configuration: Configuration, groups: int, seed: int, repeats: int
) -> TrainingSpeed:
    """Fine-tune both on groups of one drawn shopper and a purchase among 15 other items.

    The time is that of the whole run with its start, without reading the pretrained weights; what
    the frozen layers make of the titles, once, is part of it. The peer trains all layers.

    Args:
        titles: texts of a catalogue.
        configuration: recipe and token budgets.
        groups: this product learns from so many, the peer from an eighth of them.
        seed: of the draw.
        repeats: runs of each.
    """
    items = configuration.cross_encoder.negatives.per_group + 1
    drawn = _groups(len(titles), groups, items, configuration.text.shopper_max_segments, seed)
    few = max(groups // 8, 2)
    own, peer = np.median(
        [
            (
                _own_seconds(titles, configuration, drawn),
                _peer_seconds(titles, configuration, drawn, few),
            )
            for _ in range(repeats)
        ],
        axis=0,
    ).tolist()
    return TrainingSpeed(
        machine=this_machine(),
        repeats=repeats,
        shopper_titles=configuration.text.shopper_max_segments,
        pairs=groups * items,
        this_product=groups * items / own,
        sentence_transformers=few * items / peer,
        peer_pairs=few * items,
    )


def _groups(catalogue: int, count: int, items: int, segments: int, seed: int) -> Groups:
    rng = np.random.default_rng(seed)
    looked_at = [rng.choice(catalogue, segments, replace=False).tolist() for _ in range(count)]
    label = np.full((count, items), NOT_CLICKED, np.int8)
    label[:, 0] = PURCHASED
    return Groups(
        shoppers=render_shoppers(
            Histories.empty(count),
            ItemLists.of(looked_at),
            [""] * count,
            item_count=catalogue,
            max_segments=segments,
        ),
        item=rng.integers(0, catalogue, (count, items)).astype(np.int32),
        label=label,
        relevant=np.ones(count, np.int64),
    )


def _own_seconds(titles: Sequence[str], configuration: Configuration, groups: Groups) -> float:
    encoder = new_cross_encoder(configuration)
    started = time.perf_counter()
    rows = text_rows(titles, encoder, configuration, configuration.text.item_max_tokens)
    train = examples(groups, rows, encoder, configuration)
    first = slice(0, WARM_GROUPS)
    few = replace(
        groups, item=groups.item[first], label=groups.label[first], relevant=groups.relevant[first]
    )
    judge = examples(few, rows, encoder, configuration)
    never = {"evaluation_steps": 1_000_000, "epochs": 1.0}
    recipe = configuration.cross_encoder.model_copy(update=never)
    with tempfile.TemporaryDirectory() as folder, Progress(disable=True) as progress:
        fit_cross_encoder(encoder, train, judge, FitJob(recipe, Path(folder), 1, progress))
        return time.perf_counter() - started


def _peer_seconds(
    titles: Sequence[str], configuration: Configuration, groups: Groups, count: int
) -> float:
    peer = CrossEncoder(locate(configuration.text.pretrained), num_labels=1, device="cpu")
    offsets, segments = groups.shoppers.offsets, groups.shoppers.segments
    rows: dict[str, list[object]] = {"shopper": [], "item": [], "label": []}
    for group in range(count):
        own = segments[offsets[group] : offsets[group + 1]]
        for item, label in zip(groups.item[group], groups.label[group], strict=True):
            rows["shopper"].append(". ".join(titles[row] for row in own))
            rows["item"].append(titles[item])
            rows["label"].append(float(label == PURCHASED))
    with tempfile.TemporaryDirectory() as folder:
        arguments = CrossEncoderTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=PEER_PAIRS_PER_STEP,
            num_train_epochs=1,
            bf16=configuration.cross_encoder.precision == "bf16",
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = CrossEncoderTrainer(
            model=peer,
            args=arguments,
            train_dataset=Dataset.from_dict(rows),
            loss=BinaryCrossEntropyLoss(peer),
        )
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started
