"""`recsys train`: examples, encoders, index, ranker and bundle, one finished stage at a time."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.progress import Progress

from recsys.bundle import (
    ManifestFields,
    Registry,
    SigningKey,
    canonical_json,
    load_arrays,
    save_arrays,
)
from recsys.config import Configuration
from recsys.ranker import FitInputs, Ranker, RankerTier, TieredRanker, load_tiers
from recsys.recommender import (
    TASTES,
    Contents,
    ItemReader,
    TextModels,
    Upkeep,
    load_tastes,
    save_golden,
    save_tastes,
)
from recsys.retrieval import CoOccurrence, DeepNeighbours, Taste, lexical_neighbours
from recsys.text import (
    BiEncoder,
    CrossEncoder,
    StateTable,
    TextScorer,
    TokenTable,
    encode_states,
    usable_device,
)
from training.calibrate import calibrate
from training.embed_catalogue import EncodedCatalogue, EncodedTexts, near_arrays, near_from
from training.fit_tastes import fit_tastes
from training.gates import Gate, Trained, check_gates, check_size_in_service, require_passed
from training.process import set_up_process
from training.ranker_frame import load_frame, ranker_frame, save_frame
from training.text_recall import RECALL
from training.training_data import TrainingData, read_training_data
from training.training_plots import plot_training
from training.tune_bi_encoder import tune_bi_encoder
from training.tune_text import labelled_groups, tune_cross_encoder
from training.workspace import Summary, Workspace

CHECKPOINTS = "checkpoints"
LEXICAL = "lexical.safetensors"
HELD_BACK = "held_back_ndcg@10"
FORMAT = 5
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

    bi_encoder: dict[str, Any]
    """Fine-tuning: whether the weights were kept and why, recall before and after, steps, pairs."""

    encoder: dict[str, Any]
    """The cross-encoder's fine-tuning: test metrics before and after, steps, examples."""

    ranker: dict[str, Any]
    """LightGBM: rows, rounds and held-back NDCG@10 of each tier, gain by feature group."""

    report: Path
    """Folder of the plots."""

    overridden: tuple[str, ...]
    """Checks of the catalogue's size that failed and were overridden."""


@dataclass(frozen=True)
class TrainingOptions:
    """How to train.

    Attributes:
        configuration: all stages.
        until: events at or after it are hidden; None takes all.
        allow_worse: publish although a gate is closed.
        signing_key: signs the bundle; None publishes it unsigned.
        allow_size_change: publish although the catalogue has another size than the one in service.
    """

    configuration: Configuration
    until: datetime | None = None
    allow_worse: bool = False
    signing_key: SigningKey | None = None
    allow_size_change: bool = False


def train(
    dataset: Path,
    registry: Path,
    options: TrainingOptions,
    progress: Progress,
) -> TrainingSummary:
    """Train everything from the events before `until` and publish a bundle.

    A killed run with the same data and configuration goes on after its last finished stage (in the
    cross-encoder's fine-tuning: its last checkpoint). Equal inputs give byte-identical bundles,
    which are published once.

    Raises:
        DataError: the dataset is unusable or too small.
        WorseBundleError: a gate is closed; the message has the figures.
        BundleError: the catalogue's size has changed too much against the one in service, the
            registry can't be written, or another run is publishing.
    """
    configuration = options.configuration
    threads = set_up_process(configuration.threads)
    data = read_training_data(dataset, options.until, configuration)
    bundles = Registry(registry, signing_key=options.signing_key)
    overridden = check_size_in_service(bundles, data, overridden=options.allow_size_change)
    workspace = Workspace(registry / "work" / _key(data, configuration))
    run = _Run(data, configuration, workspace, progress, threads)
    gates = check_gates(run.trained(), bundles, progress)
    if not options.allow_worse:
        require_passed(gates)
    with bundles.stage() as folder:
        contents = run.contents()
        contents.save(folder)
        save_golden(contents, data.horizon, folder)
        version = bundles.publish(folder, run.manifest())
    report = registry / "reports" / version
    summary = run.summary(version, gates, report, overridden)
    report.mkdir(parents=True, exist_ok=True)
    full = contents.rankers[RankerTier.FULL]
    plot_training(run.bi_encoder_summary, run.encoder_summary, full, report)
    (report / "training.json").write_text(summary.model_dump_json(indent=2) + "\n", "utf-8")
    run.workspace.remove()
    return summary


def _key(data: TrainingData, configuration: Configuration) -> str:
    inputs = [FORMAT, data.sha256, data.until, configuration.model_dump(mode="json")]
    return hashlib.sha256(canonical_json(inputs)).hexdigest()[:16]


@dataclass
class _Run:
    data: TrainingData
    configuration: Configuration
    workspace: Workspace
    progress: Progress
    threads: int

    @cached_property
    def untuned(self) -> EncodedTexts:
        """What the pretrained bi-encoder makes of the catalogue."""
        text, precision = self.configuration.text, self.configuration.cross_encoder.precision
        encoder = BiEncoder.pretrained(text.pretrained, precision)
        folder = self.workspace.stage("catalogue", partial(self._encode, encoder))
        return EncodedTexts(encoder, EncodedCatalogue.load(folder))

    def _encode(self, encoder: BiEncoder, folder: Path) -> Summary:
        data = self.data
        task = self.progress.add_task("embed the catalogue", total=len(data.texts))
        advance = partial(self.progress.advance, task)
        encoded = EncodedTexts.of(
            encoder, data.texts, data.log.item_ids, self.configuration, advance
        )
        encoded.catalogue.save(folder)
        per_item = self.configuration.retrieval.neighbours_per_item
        save_arrays(folder / LEXICAL, near_arrays(lexical_neighbours(data.texts, per_item)))
        return {"items": len(data.texts), "index": encoded.catalogue.index.kind}

    @cached_property
    def encoded(self) -> EncodedTexts:
        """What the bi-encoder that is served makes of the catalogue."""
        folder = self.workspace.stage("bi_encoder", self._tune_bi_encoder)
        if not self.bi_encoder_summary["kept"]:
            return self.untuned
        known = self.untuned.encoder
        encoder = BiEncoder.load(folder, known.tokenizer, known.precision)
        return EncodedTexts(encoder, EncodedCatalogue.load(folder))

    def _tune_bi_encoder(self, folder: Path) -> Summary:
        place = self.workspace.folder / CHECKPOINTS / "bi_encoder"
        chosen, summary = tune_bi_encoder(
            self.data, self.untuned, self.configuration, place, self.progress
        )
        if summary["kept"]:
            chosen.encoder.save(folder)
            chosen.catalogue.save(folder)
        return summary

    @property
    def bi_encoder_summary(self) -> Summary:
        return self.workspace.summary("bi_encoder")

    @cached_property
    def cross_encoder(self) -> CrossEncoder:
        return CrossEncoder.load(self.workspace.stage("cross_encoder", self._tune))

    def _tune(self, folder: Path) -> Summary:
        task = self.progress.add_task("label examples", total=1)
        groups = labelled_groups(self.data, self.untuned.catalogue.neighbours, self.configuration)
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
        encoder, catalogue = self.encoded.encoder, self.encoded.catalogue
        lexical = near_from(load_arrays(self.workspace.folder / "catalogue" / LEXICAL))
        return TextModels(
            bi_encoder=encoder,
            vectors=catalogue.vectors,
            untuned_vectors=self.untuned.catalogue.vectors,
            index=catalogue.index,
            neighbours=catalogue.neighbours,
            lexical=lexical.table,
            tastes=self._tastes(),
            scorer=TextScorer(
                model=self.cross_encoder,
                states=self._states(),
                tokenizer=self.untuned.encoder.tokenizer,
                query_max_tokens=self.configuration.text.query_max_tokens,
                precision=self.configuration.cross_encoder.scoring_precision,
                device=usable_device(self.configuration.device),
            ),
            config=self.configuration.text,
            upkeep=self._upkeep(lexical),
        )

    def _upkeep(self, lexical: DeepNeighbours) -> Upkeep:
        """What later updates of the catalogue will need."""
        tuned = self.encoded is not self.untuned
        reader = ItemReader(self.encoded.encoder, self.cross_encoder, self.configuration, tuned)
        near = self.encoded.catalogue.near
        return Upkeep.of(reader.models, self.data.until, self.data.texts, near, lexical)

    def _tastes(self) -> dict[str, Taste]:
        folder = self.workspace.stage("tastes", self._fit_tastes)
        return load_tastes(folder / TASTES)

    def _fit_tastes(self, folder: Path) -> Summary:
        task = self.progress.add_task("what shoppers like", total=2)
        advance = partial(self.progress.advance, task)
        tastes = fit_tastes(self.data, self.encoded, self.configuration, advance)
        save_tastes(tastes, folder / TASTES)
        return {name: taste.space.dimensions for name, taste in tastes.items()}

    def _states(self) -> StateTable:
        budget = self.configuration.text.item_max_tokens
        tokens = TokenTable.build(self.untuned.encoder.tokenizer, self.data.texts, budget)
        task = self.progress.add_task("item states", total=len(tokens.lengths))
        return encode_states(
            self.cross_encoder.bert,
            tokens,
            layer=self.cross_encoder.shape.join_layer,
            precision=self.configuration.cross_encoder.precision,
            advance=partial(self.progress.advance, task),
        )

    @cached_property
    def rankers(self) -> dict[RankerTier, TieredRanker]:
        return load_tiers(self.workspace.stage("ranker", self._fit_rankers))

    def _fit_rankers(self, folder: Path) -> Summary:
        inputs = self.frame
        task = self.progress.add_task("fit the rankers", total=len(RankerTier))
        config, seed = self.configuration.ranker, self.configuration.seed
        for tier in RankerTier:
            visible = inputs.seeing(tier.columns(inputs.names))
            ranker = Ranker.fit(visible, config, seed, self.threads)
            (folder / tier).mkdir()
            ranker.save(folder / tier)
            self.progress.advance(task)
        _, judge = inputs.sides()
        return {
            tier: {"rounds": ranker.rounds, HELD_BACK: float(ranker.judged(judge).mean())}
            for tier, ranker in load_tiers(folder).items()
        }

    @cached_property
    def frame(self) -> FitInputs:
        folder = self.workspace.stage("frame", self._make_frame)
        return load_frame(folder, self.workspace.summary("frame"))

    def _make_frame(self, folder: Path) -> Summary:
        frame = ranker_frame(self.data, self.texts, self.configuration, self.progress)
        return save_frame(frame, folder)

    def trained(self) -> Trained:
        """What the gates look at."""
        ranker = self.rankers[RankerTier.FULL]
        return Trained(
            data=self.data,
            configuration=self.configuration,
            encoder=self.cross_encoder,
            ranker=ranker,
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
            calibration=calibrate(self.frame, self.configuration.ranker.grades),
            rules=self.data.rules,
        )

    def manifest(self) -> ManifestFields:
        encoder = self.encoder_summary
        return ManifestFields(
            horizon=self.data.horizon,
            seed=self.configuration.seed,
            data_sha256=self.data.sha256,
            configuration=self.configuration.model_dump(mode="json"),
            pseudonym_key=self.data.pseudonym_key,
            metrics={
                "ranker_ndcg@10": self.workspace.summary("ranker")[RankerTier.FULL][HELD_BACK],
                "encoder_ndcg@10": encoder["test_after"]["mean"],
                "untuned_encoder_ndcg@10": encoder["test_before"]["mean"],
                **self._text_recalls(),
            },
        )

    def _text_recalls(self) -> dict[str, float]:
        """Test Recall@100 of the served and of the untuned text neighbours, by task."""
        summary = self.bi_encoder_summary
        served = "after" if summary["kept"] else "before"
        return {
            f"{name}{task}_{RECALL}": recalls[RECALL][when]["mean"]
            for task, recalls in summary.get("test", {}).items()
            for name, when in (("text_", served), ("untuned_text_", "before"))
        }

    def summary(
        self, version: str, gates: tuple[Gate, ...], report: Path, overridden: tuple[str, ...]
    ) -> TrainingSummary:
        frame = self.workspace.summary("frame")
        return TrainingSummary(
            version=version,
            horizon=self.data.horizon,
            slices=self.data.split.describe(),
            gates=gates,
            bi_encoder=_without_history(self.bi_encoder_summary),
            encoder=_without_history(self.encoder_summary),
            ranker={
                "tiers": self.workspace.summary("ranker"),
                **{name: frame[name] for name in ("requests", "rows", "positives")},
                "importance": _by_group(self.rankers[RankerTier.FULL]),
            },
            report=report,
            overridden=overridden,
        )


def _without_history(summary: Summary) -> Summary:
    return {name: value for name, value in summary.items() if name != "history"}


def _by_group(ranker: TieredRanker) -> dict[str, float]:
    """Share of the total gain by feature group, largest first."""
    shares: dict[str, float] = {}
    for name, gain in ranker.importance().items():
        group = ranker.groups[name]
        shares[group] = shares.get(group, 0.0) + gain
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
