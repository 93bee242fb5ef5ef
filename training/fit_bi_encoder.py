"""Fine-tuning the bi-encoder with sentence-transformers: early stopping, the best weights kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from numpy.typing import NDArray
from rich.progress import Progress
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.modules import InputModule
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from sentence_transformers.util import mine_hard_negatives
from torch import Tensor
from transformers import (
    BertModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from recsys.config import BiEncoderConfig
from recsys.errors import ConfigurationError
from recsys.text import TokenTable, autocast, encode_states
from recsys.text.bert import embed_tokens, freeze_below, layer_count, mean_pool, run_layers
from recsys.text.encode import Precision, batches_by_length
from training.fit_cross_encoder import FitResult
from training.step_bar import StepBar
from training.text_recall import RECALL

EVALUATED: Final = f"eval_{RECALL}"
TOKENS_PER_PASS: Final = 512
"""Tokens of texts of like length that go through the layers together: little of it is padding."""

Validate = Callable[[Callable[[Sequence[str]], NDArray[np.float32]]], float]
"""Figure of an encoder, given as a function from texts to vectors; higher is better."""


class TextTower(InputModule):
    """A BERT over texts known beforehand, as a module of sentence-transformers.

    States below the first trained layer are computed once. Dropout is off, in training too.

    Args:
        bert: trained in place.
        texts: every text that will be asked for.
        tokens: their token ids.
        frozen_layers: lowest layers that stay as they are, the embeddings with the first.
        precision: of the passes.

    Raises:
        ConfigurationError: no layer is left to train.
    """

    def __init__(
        self,
        bert: BertModel,
        texts: Sequence[str],
        tokens: TokenTable,
        frozen_layers: int,
        precision: Precision,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if frozen_layers >= layer_count(bert):
            raise ConfigurationError(
                f"bi_encoder.frozen_layers is {frozen_layers}, but the pretrained model has "
                f"{layer_count(bert)} layers; leave at least one to train, or set "
                "bi_encoder.enabled to false"
            )
        freeze_below(bert, frozen_layers)
        self.bert = bert
        self._row = {text: row for row, text in reversed(list(enumerate(texts)))}
        self._tokens = tokens
        self._first = frozen_layers
        self._precision: Precision = precision
        self._states = (
            encode_states(bert, tokens, layer=frozen_layers, precision=precision)
            if frozen_layers
            else None
        )

    def train(self, mode: bool = True) -> TextTower:
        """Stay in evaluation mode."""
        del mode
        super().train(mode=False)
        return self

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, **_: object
    ) -> dict[str, Tensor]:
        """Rows of texts as `input_ids`, int64 (n, 1)."""
        del prompt
        return {"input_ids": torch.tensor([[self._row[text]] for text in inputs])}

    def forward(self, features: dict[str, Tensor], **_: object) -> dict[str, Tensor]:
        """Add `sentence_embedding`: unit vectors float32 (n, d)."""
        rows = features["input_ids"].squeeze(1)
        parts = list(batches_by_length(self._tokens.lengths[rows], TOKENS_PER_PASS))
        vectors = torch.cat([self._vectors(rows[part]) for part in parts])
        features["sentence_embedding"] = vectors[torch.argsort(torch.cat(parts))]
        return features

    def _vectors(self, rows: Tensor) -> Tensor:
        with autocast(self._precision):
            if self._states is None:
                ids, mask = self._tokens.padded(rows)
                states = embed_tokens(self.bert, ids)
            else:
                stored, mask = self._states.padded(rows)
                states = stored.float()
            last = run_layers(self.bert, states, mask, self._first, layer_count(self.bert))
        return mean_pool(last, mask)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors float32 (n, d) of known texts."""
        vectors: NDArray[np.float32] = self(self.preprocess(texts))["sentence_embedding"].numpy()
        return vectors

    def get_embedding_dimension(self) -> int:
        """Length of a vector."""
        return int(self.bert.config.hidden_size)

    def save(self, output_path: str, *_: object, **__: object) -> None:
        """Refuse: the weights are saved by `recsys.text.BiEncoder`."""
        raise NotImplementedError(f"a text tower is not saved by itself (to {output_path})")


@dataclass(frozen=True)
class BiFitJob:
    """How and where fine-tuning runs.

    Attributes:
        config: the recipe.
        folder: for the trainer's own files.
        seed: of the order of pairs.
        progress: shows the steps.
    """

    config: BiEncoderConfig
    folder: Path
    seed: int
    progress: Progress


class _Best(TrainerCallback):
    """Evaluates after the last step, too, keeps the best weights, and stops in time.

    The first of equal figures is the best, so untuned weights are beaten or kept.
    """

    def __init__(self, bert: BertModel, patience: int) -> None:
        self._bert = bert
        self._patience = patience
        self._figure = -np.inf
        self._weights: dict[str, Tensor] = {}
        self._waited = 0
        self.step = 0

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        del args
        control.should_evaluate |= state.global_step >= state.max_steps

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        del args
        latest = given["metrics"][EVALUATED]
        if latest > self._figure:
            self._figure, self.step, self._waited = latest, state.global_step, 0
            trained = (name for name, p in self._bert.named_parameters() if p.requires_grad)
            weights = self._bert.state_dict()
            self._weights = {name: weights[name].clone() for name in trained}
        else:
            self._waited += 1
            control.should_training_stop |= self._waited >= self._patience

    def restore(self) -> None:
        self._bert.load_state_dict(self._weights, strict=False)


class _Evaluator(SentenceEvaluator):
    """What early stopping looks at, as the trainer calls it."""

    def __init__(self, tower: TextTower, validate: Validate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tower = tower
        self._validate = validate

    def __call__(self, *_: object, **__: object) -> dict[str, float]:
        return {RECALL: self._validate(self._tower.embed)}


class _Trainer(SentenceTransformerTrainer):
    """Without a model card: nobody reads it, and its author may ask the network."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        del default_args_dict


def fit_bi_encoder(
    tower: TextTower, train: Dataset, validate: Validate, job: BiFitJob
) -> FitResult:
    """Fine-tune the tower's BERT in place by in-batch negatives and those of the data set.

    The loss is the softmax cross-entropy of each anchor's positive among all positives and
    negatives of its batch, and of each positive's anchor among all anchors (van den Oord et al.,
    2018; Henderson et al., 2017). No text is twice among the anchors and positives of a batch. The
    weights of the best figure are kept; the untuned ones count as step 0.

    Args:
        tower: knows every text.
        train: columns `anchor`, `positive` and, from `with_negatives`, `negative_1` and so on.
        validate: what early stopping looks at.
        job: recipe and place.
    """
    model = _model(tower)
    best = _Best(tower.bert, job.config.patience)
    loss = MultipleNegativesRankingLoss(
        model,
        scale=job.config.similarity_scale,
        directions=("query_to_doc", "doc_to_query"),
        partition_mode="per_direction",
    )
    trainer = _Trainer(
        model=model,
        args=_arguments(job),
        train_dataset=train,
        loss=loss,
        evaluator=_Evaluator(tower, validate),
        callbacks=[best, StepBar(job.progress, "fine-tune the bi-encoder", EVALUATED)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    best.restore()
    history = [dict(entry) for entry in trainer.state.log_history]
    return FitResult(history, trainer.state.global_step, best.step)


def _model(tower: TextTower) -> SentenceTransformer:
    return SentenceTransformer(modules=[tower], device="cpu", similarity_fn_name="cosine")


def _arguments(job: BiFitJob) -> SentenceTransformerTrainingArguments:
    config = job.config
    return SentenceTransformerTrainingArguments(
        output_dir=str(job.folder),
        per_device_train_batch_size=config.batch_size,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_share,
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=config.evaluation_steps,
        eval_on_start=True,
        save_strategy="no",
        logging_steps=5,
        seed=job.seed % 2**32,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def with_negatives(
    pairs: Dataset, known: Dataset, corpus: Sequence[str], tower: TextTower, count: int
) -> Dataset:
    """The pairs with their `count` mined negatives each: the nearest texts that may be negatives.

    Args:
        pairs: columns `anchor` and `positive`.
        known: the same columns: what else belongs together and is no negative of its anchor.
        corpus: texts to mine from.
        tower: knows every text.
        count: columns `negative_1` and so on; 0 gives the pairs as they are. Pairs whose anchor has
            fewer negatives than that are left out; if that leaves none, the pairs come as they are.
    """
    if not count:
        return pairs
    anchors = sorted(set(pairs["anchor"]))
    themselves = Dataset.from_dict({"anchor": anchors, "positive": anchors})
    with redirect_stderr(StringIO()):
        mined = mine_hard_negatives(
            concatenate_datasets([pairs, known, themselves]),
            _model(tower),
            corpus=list(corpus),
            num_negatives=count,
            output_format="n-tuple",
            verbose=False,
        )
    ours = set(zip(pairs["anchor"], pairs["positive"], strict=True))
    found = zip(mined["anchor"], mined["positive"], strict=True)
    kept = [place for place, pair in enumerate(found) if pair in ours]
    return mined.select(kept) if kept else pairs
