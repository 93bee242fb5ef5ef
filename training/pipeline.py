"""`recsys train`: examples, encoders, index, ranker and bundle, one finished stage at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.progress import Progress

from recsys.bundle import ManifestFields, Registry, canonical_json, load_arrays, save_arrays
from recsys.config import Configuration
from recsys.interactions import EventKind
from recsys.ranker import FitInputs, Ranker, RankerTier
from recsys.recommender import Contents, TextModels
from recsys.retrieval import CoOccurrence, ItemNeighbours, VectorIndex, lexical_neighbours
from recsys.text import (
    BiEncoder,
    Calibration,
    CrossEncoder,
    StateTable,
    TextScorer,
    TokenTable,
    encode_states,
)
from training.gates import Gate, Trained, check_gates, require_passed
from training.plots import plot_feature_importance, plot_fine_tuning
from training.process import set_up_process
from training.ranker_frame import GRADES, load_frame, ranker_frame, save_frame
from training.report import Estimate
from training.training_data import TrainingData, read_training_data
from training.tune_text import EncodedCatalogue, labelled_groups, tune_cross_encoder
from training.workspace import Summary, Workspace

CHECKPOINTS = "checkpoints"
FORMAT = 1
"""Part of a run's key: stages of another layout are not taken up."""


class TrainingSummary(BaseModel):
    """What a training run did."""

    version: str
    """The published bundle."""

    horizon: datetime
    """Events at or after it were hidden."""

    slices: dict[str, list[str]]
    """Start and end of each slice of the history."""

    gates: tuple[Gate, ...]
    """What the new models were compared with before they were published."""

    encoder: dict[str, Any]
    """Fine-tuning: test metrics before and after, steps, examples."""

    ranker: dict[str, Any]
    """LightGBM: rows, rounds and held-back NDCG@10 of each tier, gain by feature group."""

    report: Path
    """Folder of the plots."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        configuration: all stages.
        until: events at or after it are hidden; None takes all.
        allow_worse: publish although a gate is closed.
    """

    configuration: Configuration
    until: datetime | None = None
    allow_worse: bool = False


def train(
    dataset: Path,
    registry: Path,
    options: TrainingOptions,
    progress: Progress,
) -> TrainingSummary:
    """Train everything from the events before `until` and publish a bundle.

    A killed run with the same data and configuration goes on after its last finished stage (in
    fine-tuning: its last checkpoint). Equal inputs give byte-identical bundles, which are published
    once.

    Raises:
        DataError: the dataset is unusable or too small.
        WorseBundleError: a gate is closed; the message has the figures.
        BundleError: the registry can't be written, or another run is publishing.
    """
    configuration = options.configuration
    threads = set_up_process(configuration.threads)
    data = read_training_data(dataset, options.until, configuration)
    workspace = Workspace(registry / "work" / _key(data, configuration))
    run = _Run(data, configuration, workspace, progress, threads)
    bundles = Registry(registry)
    gates = check_gates(run.trained(), bundles, progress)
    if not options.allow_worse:
        require_passed(gates)
    with bundles.stage() as folder:
        contents = run.contents()
        contents.save(folder)
        version = bundles.publish(folder, run.manifest())
    report = registry / "reports" / version
    summary = run.summary(version, gates, report)
    _write_report(summary, run.encoder_summary, contents.rankers[RankerTier.FULL], report)
    run.workspace.remove()
    return summary


def _key(data: TrainingData, configuration: Configuration) -> str:
    inputs = canonical_json(
        [FORMAT, data.sha256, data.until, configuration.model_dump(mode="json")]
    )
    return hashlib.sha256(inputs).hexdigest()[:16]


@dataclass
class _Run:
    data: TrainingData
    configuration: Configuration
    workspace: Workspace
    progress: Progress
    threads: int

    @cached_property
    def bi_encoder(self) -> BiEncoder:
        precision = self.configuration.cross_encoder.precision
        return BiEncoder.pretrained(self.configuration.text.pretrained, precision)

    @cached_property
    def encoded(self) -> tuple[EncodedCatalogue, NDArray[np.float32]]:
        folder = self.workspace.stage("catalogue", self._encode)
        arrays = load_arrays(folder / "vectors.safetensors")
        encoded = EncodedCatalogue(
            bi_encoder=self.bi_encoder,
            index=VectorIndex.load(folder),
            neighbours=ItemNeighbours.from_arrays(arrays, "neighbours."),
            lexical=ItemNeighbours.from_arrays(arrays, "lexical."),
        )
        return encoded, arrays["vectors"].astype(np.float32)

    def _encode(self, folder: Path) -> Summary:
        texts = self.data.texts
        task = self.progress.add_task("embed the catalogue", total=len(texts))
        vectors = self.bi_encoder.embed(
            texts,
            max_tokens=self.configuration.text.item_max_tokens,
            advance=partial(self.progress.advance, task),
        )
        retrieval = self.configuration.retrieval
        index = VectorIndex.build(
            self.data.log.item_ids, vectors, retrieval.flat_index_limit, self.configuration.seed
        )
        neighbours = index.neighbours(vectors, retrieval.neighbours_per_item)
        lexical = lexical_neighbours(texts, retrieval.neighbours_per_item)
        index.save(folder)
        save_arrays(
            folder / "vectors.safetensors",
            {"vectors": vectors} | neighbours.arrays("neighbours.") | lexical.arrays("lexical."),
        )
        return {"items": len(texts), "index": index.kind, "recall": index.recall}

    @cached_property
    def cross_encoder(self) -> CrossEncoder:
        return CrossEncoder.load(self.workspace.stage("cross_encoder", self._tune))

    def _tune(self, folder: Path) -> Summary:
        task = self.progress.add_task("label examples", total=1)
        groups = labelled_groups(self.data, self.encoded[0], self.configuration)
        self.progress.advance(task)
        checkpoints = self.workspace.folder / CHECKPOINTS
        encoder, summary = tune_cross_encoder(
            self.data, groups, self.configuration, checkpoints, self.progress
        )
        encoder.save(folder)
        return summary

    @property
    def encoder_summary(self) -> Summary:
        return self.workspace.summary("cross_encoder")

    @cached_property
    def texts(self) -> TextModels:
        encoded, vectors = self.encoded
        return TextModels(
            bi_encoder=self.bi_encoder,
            vectors=vectors,
            index=encoded.index,
            neighbours=encoded.neighbours,
            lexical=encoded.lexical,
            scorer=TextScorer(
                model=self.cross_encoder,
                states=self._states(),
                tokenizer=self.bi_encoder.tokenizer,
                query_max_tokens=self.configuration.text.query_max_tokens,
                precision=self.configuration.cross_encoder.precision,
            ),
            config=self.configuration.text,
        )

    def _states(self) -> StateTable:
        budget = self.configuration.text.item_max_tokens
        tokens = TokenTable.build(self.bi_encoder.tokenizer, self.data.texts, budget)
        task = self.progress.add_task("item states", total=len(tokens.lengths))
        return encode_states(
            self.cross_encoder.bert,
            tokens,
            layer=self.cross_encoder.shape.join_layer,
            precision=self.configuration.cross_encoder.precision,
            advance=partial(self.progress.advance, task),
        )

    @cached_property
    def rankers(self) -> dict[RankerTier, Ranker]:
        folder = self.workspace.stage("ranker", self._fit_rankers)
        return {tier: Ranker.load(folder / tier, self.threads) for tier in RankerTier}

    def _fit_rankers(self, folder: Path) -> Summary:
        inputs = self.frame
        task = self.progress.add_task("fit the rankers", total=len(RankerTier))
        config, seed = self.configuration.ranker, self.configuration.seed
        summary: Summary = {}
        for tier in RankerTier:
            visible = inputs.seeing(tier.columns(inputs.names))
            ranker = Ranker.fit(visible, config, seed, self.threads)
            (folder / tier).mkdir()
            ranker.save(folder / tier)
            summary[tier] = {"rounds": ranker.rounds, "held_back_ndcg@10": ranker.held_back_ndcg}
            self.progress.advance(task)
        return summary

    @cached_property
    def frame(self) -> FitInputs:
        folder = self.workspace.stage("frame", self._make_frame)
        return load_frame(folder, self.workspace.summary("frame"))

    def _make_frame(self, folder: Path) -> Summary:
        frame = ranker_frame(self.data, self.texts, self.configuration, self.progress)
        return save_frame(frame, folder)

    @cached_property
    def calibration(self) -> Calibration:
        """Fitted on the held-back shoppers, who keep all their candidates.

        Their windows are later than anything the encoder was trained on.
        """
        frame = self.frame
        held_back = np.repeat(frame.held_back, frame.sizes)
        bought = frame.labels >= min(GRADES[EventKind.PURCHASE], int(frame.labels.max(initial=1)))
        logits = frame.values[:, frame.names.index("text_cross_purchase")]
        return Calibration.fit(logits[held_back], bought[held_back])

    def trained(self) -> Trained:
        """What the gates look at."""
        return Trained(
            data=self.data,
            configuration=self.configuration,
            encoder=self.cross_encoder,
            ranker=self.rankers[RankerTier.FULL],
            frame=self.frame,
        )

    def contents(self) -> Contents:
        rankers = self.rankers
        neighbours = self.configuration.retrieval.neighbours_per_item
        return Contents(
            configuration=self.configuration,
            catalogue=self.data.catalogue,
            log=self.data.log,
            texts=self.texts,
            co_occurrence=CoOccurrence.build(self.data.log, neighbours),
            rankers=rankers,
            calibration=self.calibration,
            rules=self.data.rules,
        )

    def manifest(self) -> ManifestFields:
        encoder = self.encoder_summary
        return ManifestFields(
            horizon=self.data.horizon,
            seed=self.configuration.seed,
            data_sha256=self.data.sha256,
            configuration=self.configuration.model_dump(mode="json"),
            metrics={
                "ranker_ndcg@10": self.rankers[RankerTier.FULL].held_back_ndcg,
                "encoder_ndcg@10": encoder["test_after"]["mean"],
                "untuned_encoder_ndcg@10": encoder["test_before"]["mean"],
            },
        )

    def summary(self, version: str, gates: tuple[Gate, ...], report: Path) -> TrainingSummary:
        encoder = {k: v for k, v in self.encoder_summary.items() if k != "history"}
        frame = self.workspace.summary("frame")
        return TrainingSummary(
            version=version,
            horizon=self.data.horizon,
            slices=self.data.split.describe(),
            gates=gates,
            encoder=encoder,
            ranker={
                "tiers": self.workspace.summary("ranker"),
                **{name: frame[name] for name in ("requests", "rows", "positives")},
                "importance": _by_group(self.rankers[RankerTier.FULL]),
            },
            report=report,
        )


def _by_group(ranker: Ranker) -> dict[str, float]:
    """Share of the total gain by feature group, largest first."""
    shares: dict[str, float] = {}
    for name, gain in ranker.importance().items():
        group = ranker.groups[name]
        shares[group] = shares.get(group, 0.0) + gain
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _write_report(summary: TrainingSummary, encoder: Summary, ranker: Ranker, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    estimates = {
        key: {"NDCG@10": Estimate(**{k: encoder[name][k] for k in ("mean", "low", "high")})}
        for key, name in (("before", "test_before"), ("after", "test_after"))
    }
    plot_fine_tuning(
        encoder["history"], estimates["before"], estimates["after"], folder / "fine_tuning.png"
    )
    importance = ranker.importance()
    plot_feature_importance(
        list(importance), list(importance.values()), folder / "feature_importance.png"
    )
    (folder / "training.json").write_text(
        summary.model_dump_json(indent=2) + "\n", encoding="utf-8"
    )
