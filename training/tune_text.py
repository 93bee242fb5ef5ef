"""The encoder's stage: labelled groups, fine-tuning, and test metrics before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.config import Configuration
from recsys.evaluation import bootstrap_difference, bootstrap_mean
from recsys.retrieval import ItemNeighbours
from recsys.text import (
    CrossEncoder,
    CrossEncoderShape,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
    usable_device,
)
from training.evaluation_groups import evaluation_groups
from training.examples import (
    Groups,
    first_interactions,
    render_groups,
    sample_groups,
    sessions_of,
)
from training.fit_cross_encoder import (
    Examples,
    FitJob,
    TextRows,
    fit_cross_encoder,
    score_groups,
)
from training.group_objectives import METRIC, group_ndcg
from training.negatives import NegativeSampler
from training.training_data import TrainingData


@dataclass(frozen=True)
class LabelledGroups:
    """The encoder's examples, divided by time.

    Attributes:
        train: positives with sampled negatives.
        validation: what early stopping looks at, see `training.evaluation_groups`.
        test: the same for a later slice.
    """

    train: Groups
    validation: Groups
    test: Groups


def labelled_groups(
    data: TrainingData, untuned: ItemNeighbours, configuration: Configuration
) -> LabelledGroups:
    """Make all examples; every random draw comes from the configured seed.

    Args:
        data: log, events and slices.
        untuned: each item's nearest items by the untuned bi-encoder, for negatives.
        configuration: how many examples, and of which kind.

    Raises:
        EmptyTableError: a slice has no shopper with a history who took up a new item.
    """
    rng = np.random.default_rng([configuration.seed, 1])
    return LabelledGroups(
        train=_training_groups(data, untuned, configuration, rng),
        validation=evaluation_groups(
            data.log,
            data.events,
            data.split.validation,
            configuration,
            configuration.cross_encoder.max_evaluation_groups,
        ),
        test=held_out_groups(data, configuration),
    )


def _training_groups(
    data: TrainingData,
    untuned: ItemNeighbours,
    configuration: Configuration,
    rng: np.random.Generator,
) -> Groups:
    config = configuration.cross_encoder
    part = data.split.train
    known = data.log.before(part.end)
    positives = sample_groups(first_interactions(known, part), config.max_groups, rng)
    sessions = sessions_of(known, data.events, positives, part.end)
    limit = configuration.text.shopper_max_segments
    kept = rng.random(len(sessions.query)) < config.query_share
    queries = [query if keep else "" for query, keep in zip(sessions.query, kept, strict=True)]
    shoppers = render_groups(known, positives, queries, limit)
    created_at = data.catalogue.columns.created_at
    sampler = NegativeSampler(known, created_at, untuned, config.negatives)
    return sampler.complete(positives, shoppers, sessions.shown, rng)


def held_out_groups(data: TrainingData, configuration: Configuration) -> Groups:
    """The groups that no part of a run learns from or is chosen by.

    Raises:
        EmptyTableError: nobody with a history took up a new item in the slice.
    """
    limit = configuration.cross_encoder.max_test_groups
    return evaluation_groups(data.log, data.events, data.split.test, configuration, limit)


def tune_cross_encoder(
    data: TrainingData,
    groups: LabelledGroups,
    configuration: Configuration,
    folder: Path,
    progress: Progress,
) -> tuple[CrossEncoder, dict[str, object]]:
    """Fine-tune from the pretrained model; returns it with the summary for the report.

    Args:
        data: for the texts.
        groups: examples.
        configuration: the recipe.
        folder: checkpoints; a killed run goes on from the last.
        progress: shows the steps.
    """
    config = configuration.cross_encoder
    encoder = new_cross_encoder(configuration)
    items = text_rows(data.texts, encoder, configuration, configuration.text.item_max_tokens)
    train, validation, test = (
        examples(part, items, encoder, configuration)
        for part in (groups.train, groups.validation, groups.test)
    )
    device = usable_device(configuration.device)
    job = FitJob(config, folder, configuration.seed, progress, device)
    task = progress.add_task("test the untuned encoder", total=1)
    before = _test_ndcg(encoder, test, job)
    progress.advance(task)
    result = fit_cross_encoder(encoder, train, validation, job)
    task = progress.add_task("test the tuned encoder", total=1)
    after = _test_ndcg(encoder, test, job)
    progress.advance(task)
    rng = np.random.default_rng([configuration.seed, 3])
    return encoder, {
        "metric": f"{METRIC}, items new to the shopper",
        "test_before": asdict(bootstrap_mean(before, rng)),
        "test_after": asdict(bootstrap_mean(after, rng)),
        "test_gain": asdict(bootstrap_difference(after, before, rng)),
        "training_groups": len(groups.train.item),
        "steps": result.steps,
        "best_step": result.best_step,
        "history": result.history,
    }


def new_cross_encoder(configuration: Configuration) -> CrossEncoder:
    """The untuned model, its new parts drawn from the configured seed."""
    torch.manual_seed(configuration.seed)
    bert = load_bert(configuration.text.pretrained)
    config = configuration.cross_encoder
    shape = CrossEncoderShape(
        join_layer=0 if config.attention == "plain" else config.join_layer,
        max_segments=configuration.text.shopper_max_segments,
        segment_max_tokens=configuration.text.segment_max_tokens,
        shopper_key_bias=config.shopper_key_bias,
        attention=config.attention,
    )
    encoder = CrossEncoder(bert, shape)
    encoder.set_dropout(config.dropout)
    return encoder.eval()


def text_rows(
    texts: Sequence[str], encoder: CrossEncoder, configuration: Configuration, max_tokens: int
) -> TextRows:
    """Tokens of texts, and their states as far up as layers stay as they are."""
    tokenizer = load_tokenizer(configuration.text.pretrained)
    tokens = TokenTable.build(tokenizer, texts, max_tokens)
    config = configuration.cross_encoder
    first = min(config.frozen_layers, encoder.shape.join_layer)
    if first == 0:
        return TextRows(tokens, None)
    states = encode_states(encoder.bert, tokens, layer=first, precision=config.precision)
    return TextRows(tokens, states)


def examples(
    groups: Groups, items: TextRows, encoder: CrossEncoder, configuration: Configuration
) -> Examples:
    """Groups with their texts: the catalogue, then the groups' own queries."""
    budget = configuration.text.query_max_tokens
    queries = text_rows(groups.shoppers.queries, encoder, configuration, budget)
    states = items.states
    if states is not None and queries.states is not None:
        states = states.extended(queries.states)
    return Examples(groups, TextRows(items.tokens.extended(queries.tokens), states))


def _test_ndcg(encoder: CrossEncoder, test: Examples, job: FitJob) -> NDArray[np.float64]:
    scores = score_groups(encoder, test, job)
    return group_ndcg(scores, test.groups.label, test.groups.relevant)
