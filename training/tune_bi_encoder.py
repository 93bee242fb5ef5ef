"""The bi-encoder's stage: pairs, fine-tuning, the choice of weights, recall before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from datasets import Dataset
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.config import Configuration
from recsys.evaluation import bootstrap_difference, bootstrap_mean
from recsys.text import BiEncoder, TokenTable
from training.embed_catalogue import EncodedCatalogue, EncodedTexts
from training.fit_bi_encoder import (
    BiFitJob,
    TextTower,
    fit_bi_encoder,
    with_negatives,
)
from training.fit_cross_encoder import FitResult
from training.item_pairs import Pairs, TextPairs, near_and_taken_together, text_pairs
from training.text_recall import RECALL, Embed, Recalls, RecallTask, recall_tasks
from training.training_data import TrainingData
from training.workspace import Summary

Tasks = Mapping[str, RecallTask]
Measured = Mapping[str, Recalls]


def text_recalls(texts: EncodedTexts, tasks: Tasks, configuration: Configuration) -> Measured:
    """Recall of each request of each task by an encoder."""

    def embed(queries: Sequence[str]) -> NDArray[np.float32]:
        return texts.encoder.embed(queries, max_tokens=configuration.text.query_max_tokens)

    return _measured(texts.catalogue, embed, tasks, configuration)


def _measured(
    catalogue: EncodedCatalogue, embed: Embed, tasks: Tasks, configuration: Configuration
) -> Measured:
    return {
        name: task.recalls(catalogue, embed, configuration.retrieval)
        for name, task in tasks.items()
    }


def figure(measured: Measured) -> float:
    """The mean over the tasks of their mean Recall@100: what weights are chosen by."""
    return float(np.mean([recalls[RECALL].mean() for recalls in measured.values()]))


def tune_bi_encoder(
    data: TrainingData,
    untuned: EncodedTexts,
    configuration: Configuration,
    folder: Path,
    progress: Progress,
) -> tuple[EncodedTexts, Summary]:
    """Fine-tune on the training slice; keep the result if the validation slice says so.

    Args:
        data: log, events, texts and slices.
        untuned: the pretrained encoder.
        configuration: the recipe.
        folder: for the trainer's own files.
        progress: shows the steps.

    Returns:
        The tuned encoder if its `figure` on the validation slice is above the untuned one's, else
        `untuned` itself; and the summary: `kept`, `why`, and recall before and after.
    """
    if not configuration.bi_encoder.enabled:
        return untuned, {"kept": False, "why": "bi_encoder.enabled is false"}
    rng = np.random.default_rng([configuration.seed, 4])
    pairs = _training_pairs(data, configuration, rng)
    limit = configuration.bi_encoder.max_evaluation_requests
    validation, test = (
        recall_tasks(data.log, data.events, part, limit, rng)
        for part in (data.split.validation, data.split.test)
    )
    if not len(pairs.pairs.anchor) or not validation:
        why = "no texts go together in the training slice, or nobody acts in the validation slice"
        return untuned, {"kept": False, "why": why}
    job = BiFitJob(configuration.bi_encoder, folder, configuration.seed, progress)
    tuned, result = _tuned(data, pairs, (untuned, validation), configuration, job)
    before, after = (
        [text_recalls(texts, tasks, configuration) for tasks in (validation, test)]
        for texts in (untuned, tuned)
    )
    kept = figure(after[0]) > figure(before[0])
    chosen_by = f"{figure(after[0]):.4f} tuned, {figure(before[0]):.4f} untuned"
    return tuned if kept else untuned, {
        "kept": kept,
        "why": f"mean validation {RECALL} over {' and '.join(validation)}: {chosen_by}",
        "pairs": len(pairs.pairs.anchor),
        "pairs_from_queries": pairs.from_queries,
        "steps": result.steps,
        "best_step": result.best_step,
        "validation": _before_and_after(before[0], after[0], rng),
        "test": _before_and_after(before[1], after[1], rng),
        "history": result.history,
    }


def _training_pairs(
    data: TrainingData, configuration: Configuration, rng: np.random.Generator
) -> TextPairs:
    end = data.split.train.end
    events = data.events.filter(pl.col("event_time").dt.epoch("us") < end)
    return text_pairs(data.log.before(end), events, data.texts, configuration.bi_encoder, rng)


def _tuned(
    data: TrainingData,
    pairs: TextPairs,
    judge: tuple[EncodedTexts, Tasks],
    configuration: Configuration,
    job: BiFitJob,
) -> tuple[EncodedTexts, FitResult]:
    untuned, validation = judge
    encoder = BiEncoder.pretrained(configuration.text.pretrained, untuned.encoder.precision)
    tower = _tower(encoder, data, pairs, validation, configuration)

    def validate(embed: Embed) -> float:
        catalogue = EncodedCatalogue.of(embed(data.texts), data.log.item_ids, configuration)
        return figure(_measured(catalogue, embed, validation, configuration))

    train = _as_texts(pairs.pairs, pairs.texts)
    if job.config.hard_negatives:
        known = _known(data, pairs, untuned.catalogue)
        train = with_negatives(train, known, data.texts, tower, job.config.hard_negatives)
    result = fit_bi_encoder(tower, train, validate, job)
    return EncodedTexts.of(encoder, data.texts, data.log.item_ids, configuration), result


def _tower(
    encoder: BiEncoder,
    data: TrainingData,
    pairs: TextPairs,
    validation: Tasks,
    configuration: Configuration,
) -> TextTower:
    """Knows the items' texts, and the queries of training and validation."""
    text = configuration.text
    asked = {query for task in validation.values() for query in task.searches}
    queries = sorted(asked.union(pairs.texts[pairs.items :]))
    items = TokenTable.build(encoder.tokenizer, data.texts, text.item_max_tokens)
    return TextTower(
        encoder.bert,
        (*data.texts, *queries),
        items.extended(TokenTable.build(encoder.tokenizer, queries, text.query_max_tokens)),
        configuration.bi_encoder.frozen_layers,
        encoder.precision,
    )


def _known(data: TrainingData, pairs: TextPairs, untuned: EncodedCatalogue) -> Dataset:
    """What else belongs together, among texts that are near each other."""
    log = data.log.before(data.split.train.end)
    anchors = np.unique(pairs.pairs.anchor[pairs.pairs.anchor < pairs.items])
    near = near_and_taken_together(log, untuned.neighbours, anchors)
    return _as_texts(near.joined(pairs.searched), pairs.texts)


def _as_texts(pairs: Pairs, texts: Sequence[str]) -> Dataset:
    columns = {"anchor": pairs.anchor, "positive": pairs.positive}
    return Dataset.from_dict(
        {name: [texts[place] for place in places] for name, places in columns.items()}
    )


def _before_and_after(before: Measured, after: Measured, rng: np.random.Generator) -> Summary:
    """Means with intervals, and the paired gain, of each task and depth."""
    return {
        task: {
            name: {
                "before": asdict(bootstrap_mean(values, rng)),
                "after": asdict(bootstrap_mean(after[task][name], rng)),
                "gain": asdict(bootstrap_difference(after[task][name], values, rng)),
            }
            for name, values in recalls.items()
        }
        for task, recalls in before.items()
    }
