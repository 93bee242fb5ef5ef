"""Fine-tuning the cross-encoder with transformers' Trainer: early stopping, resume, best kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import Progress
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

from recsys.config import CrossEncoderConfig
from recsys.text import CrossEncoder, Device, StateTable, TokenTable, autocast
from training.examples import PADDING, Groups
from training.group_objectives import METRIC, group_loss, group_ndcg, ranking_scores
from training.step_bar import StepBar

Batch = dict[str, Tensor]
EVALUATED = f"eval_{METRIC}"
EVALUATION_ITEMS = 400
"""Items in a batch of evaluation."""


@dataclass(frozen=True)
class TextRows:
    """The texts that groups refer to: items in catalogue order, then queries.

    Attributes:
        tokens: their token ids.
        states: their states at the join layer or, where that is lower, above the frozen layers;
            None if no layer is frozen.
    """

    tokens: TokenTable
    states: StateTable | None


@dataclass(frozen=True)
class Examples(Dataset[int]):
    """Labelled groups with their texts; an index stands for a group until batches are collated.

    Attributes:
        groups: labelled groups.
        texts: every text that the groups refer to.
    """

    groups: Groups
    texts: TextRows

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.groups.item)

    def __getitem__(self, index: int) -> int:
        """The group's place; `collate` gathers a batch of them at once."""
        return index

    def collate(self, positions: Sequence[int]) -> Batch:
        """The inputs of `TrainedCrossEncoder.forward` for b groups; every distinct text once."""
        rows = np.asarray(positions)
        item, label = self.groups.item[rows].astype(np.int64), self.groups.label[rows]
        segments = _padded_segments(self.groups, rows)
        distinct, place = np.unique(
            np.concatenate([segments.ravel(), item.ravel()]), return_inverse=True
        )
        shift = int(distinct[0] < 0)
        place = place - shift
        texts = torch.from_numpy(distinct[shift:])
        batch = {
            "segments": torch.from_numpy(place[: segments.size].reshape(segments.shape)),
            "items": torch.from_numpy(place[segments.size :].reshape(item.shape)),
            "kind": torch.from_numpy(self.groups.shoppers.kind[rows]),
            "labels": torch.from_numpy(np.column_stack([self.groups.relevant[rows], label])),
        }
        table = self.texts.states or self.texts.tokens
        batch["texts"], batch["mask"] = table.padded(texts)
        return batch


def _padded_segments(groups: Groups, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Segments (b, s) of the given groups, -1 where a group has fewer."""
    offsets = groups.shoppers.offsets
    start, length = offsets[rows], offsets[rows + 1] - offsets[rows]
    step = np.arange(max(int(length.max()), 1))
    ended = np.append(groups.shoppers.segments, -1)
    place = np.minimum(start[:, None] + step, len(ended) - 1)
    return np.where(step < length[:, None], ended[place], -1)


class TrainedCrossEncoder(nn.Module):
    """The cross-encoder with its losses, as `Trainer` wants it.

    Args:
        encoder: the model that is fine-tuned.
        config: loss weights.
    """

    def __init__(self, encoder: CrossEncoder, config: CrossEncoderConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.recipe = config
        self._first = min(config.frozen_layers, encoder.shape.join_layer)

    def forward(
        self,
        segments: Tensor,
        items: Tensor,
        kind: Tensor,
        labels: Tensor,
        texts: Tensor,
        mask: Tensor,
    ) -> dict[str, Tensor]:
        """Loss and logits of b groups.

        Args:
            segments: int64 (b, s), places of the segments among the u texts, -1 for none.
            items: int64 (b, k), places of the items among the u texts.
            kind: int64 (b,), kind of the shopper's text.
            labels: int64 (b, 1 + k): all positives of the group's shopper (for the metric), then
                the items' labels, see `training.examples`.
            texts: float16 (u, t, d), states, see `TextRows`; or int64 (u, t), token ids.
            mask: bool (u, t).
        """
        if texts.is_floating_point():
            states = self.encoder.join_states_from(texts.float(), mask, self._first)
        else:
            states = self.encoder.join_states(texts, mask)
        labels = labels[:, 1:]
        used, place = torch.unique(segments, return_inverse=True)
        shift = int(used[0] < 0)
        side = self.encoder.shopper_side(
            states[used[shift:]], mask[used[shift:]], place - shift, kind
        )
        item_mask = mask[items] & (labels != PADDING).unsqueeze(-1)
        logits = self.encoder.score(states[items], item_mask, side)
        return {"loss": group_loss(logits, labels, self.recipe), "logits": logits}


def _metrics(prediction: EvalPrediction) -> dict[str, float]:
    labels = np.asarray(prediction.label_ids)
    scores = ranking_scores(np.asarray(prediction.predictions))
    return {METRIC: float(group_ndcg(scores, labels[:, 1:], labels[:, 0]).mean())}


@dataclass(frozen=True)
class FitResult:
    """What fine-tuning did.

    Attributes:
        history: the Trainer's log: one entry per logged step or evaluation.
        steps: optimiser steps made.
        best_step: the step whose weights were kept; 0 when the untuned model was never beaten.
    """

    history: list[dict[str, float]]
    steps: int
    best_step: int


class _GroupTrainer(Trainer):
    """A Trainer with a higher rate for the parts that start from scratch."""

    def create_optimizer(self, *_: object) -> torch.optim.Optimizer:
        config: CrossEncoderConfig = self.model.recipe  # type: ignore[union-attr, assignment]
        trained = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]  # type: ignore[union-attr]
        fresh = [p for n, p in trained if not _starts_meaningful(n)]
        pretrained = [p for n, p in trained if _starts_meaningful(n)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": pretrained, "lr": config.learning_rate},
                {"params": fresh, "lr": config.head_learning_rate},
            ],
            weight_decay=config.weight_decay,
        )
        return self.optimizer


def _starts_meaningful(name: str) -> bool:
    """Whether a parameter starts at pretrained weights or, as the metric does, at the identity."""
    return ".bert." in name or ".metric." in name


def fit_cross_encoder(
    encoder: CrossEncoder, train: Examples, validation: Examples, job: FitJob
) -> FitResult:
    """Fine-tune `encoder` in place; the weights of the best validation NDCG@10 are kept.

    The untuned weights count as step 0: they are kept when no later step beats them.

    A run that was killed goes on from its last complete checkpoint in `job.folder`.
    """
    model = TrainedCrossEncoder(encoder, job.config)
    encoder.freeze(job.config.frozen_layers)
    checkpoint = last_complete_checkpoint(job.folder)
    trainer = _GroupTrainer(
        model=model,
        args=_arguments(job, first=checkpoint is None),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=train.collate,
        compute_metrics=_metrics,
        callbacks=[
            EarlyStoppingCallback(job.config.patience),
            StepBar(job.progress, "fine-tune", EVALUATED),
        ],
    )
    trainer.remove_callback(PrinterCallback)
    # Prepared, since the trainer cuts the last batch of an unprepared loader to the size of the
    # training loader's last batch.
    loader = trainer.accelerator.prepare(_evaluation_loader(validation))
    trainer.get_eval_dataloader = lambda *_: loader  # type: ignore[method-assign]
    untuned = {name: value.clone() for name, value in encoder.state_dict().items()}
    trainer.train(resume_from_checkpoint=checkpoint)
    history = [dict(entry) for entry in trainer.state.log_history]
    best = best_step(history)
    if best == 0:
        encoder.load_state_dict(untuned)
    encoder.eval().to("cpu")
    return FitResult(history, trainer.state.global_step, best)


def best_step(history: Sequence[Mapping[str, float]]) -> int:
    """The first step of the best validation figure; 0 is the untuned model."""
    evaluations = [entry for entry in history if EVALUATED in entry]
    return int(max(evaluations, key=lambda entry: (entry[EVALUATED], -entry["step"]))["step"])


@dataclass(frozen=True)
class FitJob:
    """How and where fine-tuning runs.

    Attributes:
        config: the recipe.
        folder: checkpoints go here.
        seed: of the order of groups and of dropout.
        progress: shows the steps.
        device: where it runs; the encoder is on the CPU before and after.
    """

    config: CrossEncoderConfig
    folder: Path
    seed: int
    progress: Progress
    device: Device = "cpu"


def _arguments(job: FitJob, *, first: bool) -> TrainingArguments:
    config = job.config
    return TrainingArguments(
        output_dir=str(job.folder),
        per_device_train_batch_size=config.groups_per_batch,
        num_train_epochs=config.epochs,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_share,
        max_grad_norm=1.0,
        eval_strategy="steps",
        eval_steps=config.evaluation_steps,
        eval_on_start=first,
        restore_callback_states_from_checkpoint=True,
        save_strategy="steps",
        save_steps=config.evaluation_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=METRIC,
        greater_is_better=True,
        logging_steps=5,
        bf16=config.precision == "bf16",
        seed=job.seed % 2**32,
        use_cpu=job.device == "cpu",
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def _evaluation_loader(examples: Examples) -> DataLoader[int]:
    items = max(examples.groups.item.shape[1], 1)
    return DataLoader(
        examples,
        batch_size=max(EVALUATION_ITEMS // items, 1),
        collate_fn=examples.collate,
    )


def last_complete_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; others are removed."""
    complete: dict[int, Path] = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_text())
            complete[int(checkpoint.name.removeprefix("checkpoint-"))] = checkpoint
        except (OSError, ValueError):
            shutil.rmtree(checkpoint)
    return str(complete[max(complete)]) if complete else None


@torch.inference_mode()
def score_groups(encoder: CrossEncoder, examples: Examples, job: FitJob) -> NDArray[np.float32]:
    """Ranking scores float32 (g, k) of all groups by the encoder as it is."""
    model = TrainedCrossEncoder(encoder, job.config).eval().to(job.device)
    scores = []
    for batch in _evaluation_loader(examples):
        there = {name: part.to(job.device) for name, part in batch.items()}
        with autocast(job.config.precision, job.device):
            logits = model(**there)["logits"]
        scores.append(ranking_scores(logits.float().cpu().numpy()))
    model.to("cpu")
    return np.concatenate(scores)
