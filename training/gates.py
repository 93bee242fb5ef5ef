"""Gates: what was trained is published only if it ranks no worse than what it would replace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from rich.progress import Progress

from recsys.bundle import Registry
from recsys.config import Configuration, GatesConfig
from recsys.errors import BundleNotFoundError, ModelError, WorseBundleError
from recsys.evaluation import bootstrap_difference
from recsys.ranker import FitInputs, RankerTier, TieredRanker
from recsys.recommender import CATALOGUE, CROSS_ENCODER, RANKER, Catalogue
from recsys.text import CrossEncoder, CrossEncoderShape, usable_device
from training.fit_cross_encoder import FitJob, score_groups
from training.group_objectives import group_ndcg
from training.index_checks import Sizes, check_size
from training.report import Estimate
from training.training_data import TrainingData
from training.tune_text import examples, held_out_groups, new_cross_encoder, text_rows

UNTUNED: Final = "untuned"


class Gate(BaseModel):
    """One comparison of a new model with the one it would replace, on held-back requests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: Literal["encoder", "ranker"]
    against: str
    """`untuned`, or the version of the bundle in service."""
    requests: int
    """Held-back requests that both ranked; 0 where they could not be compared."""
    new: float | None = None
    """Mean NDCG@10 of the new model."""
    old: float | None = None
    """Mean NDCG@10 of the other one."""
    difference: Estimate | None = None
    """New minus old, with its paired bootstrap interval."""
    passed: bool = True
    """Whether the new one may be published."""
    note: str = ""
    """Why they could not be compared; the gate is open then."""

    def __str__(self) -> str:
        """The comparison in one line."""
        if self.difference is None:
            return f"{self.part} against {self.against}: not compared, for {self.note}"
        gap = self.difference
        return (
            f"{self.part} against {self.against}: NDCG@10 {self.new:.4f} and {self.old:.4f} on "
            f"{self.requests} held-back requests, {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        )


@dataclass(frozen=True)
class Trained:
    """What a run made, and what it was made from.

    Attributes:
        data: with the slices of the history.
        configuration: of the run.
        encoder: the fine-tuned one.
        ranker: of the full tier.
        frame: with the held-back requests.
    """

    data: TrainingData
    configuration: Configuration
    encoder: CrossEncoder
    ranker: TieredRanker
    frame: FitInputs


def check_size_in_service(
    registry: Registry, data: TrainingData, *, overridden: bool
) -> tuple[str, ...]:
    """Compare the catalogue's size with the one in service, if there is one; see `check_size`."""
    _, folder = _in_service(registry)
    if folder is None:
        return ()
    before = len(Catalogue.load(folder / CATALOGUE).item_ids)
    return check_size(before, len(data.items), Sizes(overridden=overridden))


def check_gates(trained: Trained, registry: Registry, progress: Progress) -> tuple[Gate, ...]:
    """Compare the encoder with the untuned one, and both models with those in service.

    The encoder is judged on the test slice, which none of the encoders was trained on as long as
    bundles follow each other in time. The rankers are judged on the shoppers that every run with
    this seed holds back, by the features of this run.

    Args:
        trained: what the run made.
        registry: its current bundle is the one in service; it may have none.
        progress: shows the comparisons.
    """
    version, folder = _in_service(registry)
    task = progress.add_task("gates", total=2)
    gates = _encoder_gates(trained, version, folder, progress)
    progress.advance(task)
    if folder:
        gates.append(_ranker_gate(trained, version, folder))
    progress.advance(task)
    return tuple(gates)


def require_passed(gates: Sequence[Gate]) -> None:
    """Refuse to publish when a gate is closed.

    Raises:
        WorseBundleError: gives the figures.
    """
    closed = [str(gate) for gate in gates if not gate.passed]
    if closed:
        raise WorseBundleError(
            f"nothing was published, for what was trained ranks worse: {'; '.join(closed)}. Look "
            "at the data and the configuration, or publish it all the same with `--allow-worse`; "
            "the run's stages are kept"
        )


def compare(
    part: Literal["encoder", "ranker"],
    against: str,
    ndcg: tuple[NDArray[np.float64], NDArray[np.float64]],
    configuration: Configuration,
) -> Gate:
    """The gate of two models' NDCG@10, new and old, float64 (n,) each over the same requests."""
    new, old = ndcg
    rng = np.random.default_rng([configuration.seed, 5])
    found = bootstrap_difference(new, old, rng)
    difference = Estimate(mean=found.mean, low=found.low, high=found.high)
    return Gate(
        part=part,
        against=against,
        requests=len(new),
        new=float(new.mean()),
        old=float(old.mean()),
        difference=difference,
        passed=_is_open(difference, configuration.gates),
    )


def _is_open(difference: Estimate, config: GatesConfig) -> bool:
    return difference.mean >= -config.max_drop and difference.high >= 0


def _in_service(registry: Registry) -> tuple[str, Path | None]:
    try:
        version = registry.current()
        return version, registry.folder(version)
    except BundleNotFoundError:
        return "", None


def _encoder_gates(
    trained: Trained, version: str, folder: Path | None, progress: Progress
) -> list[Gate]:
    new = _encoder_ndcg(trained, trained.encoder, progress)
    untuned = _encoder_ndcg(trained, new_cross_encoder(trained.configuration), progress)
    gates = [compare("encoder", UNTUNED, (new, untuned), trained.configuration)]
    if folder is None:
        return gates
    try:
        served = _encoder_in_service(folder, trained.encoder.shape)
    except ModelError as error:
        return [*gates, Gate(part="encoder", against=version, requests=0, note=str(error))]
    old = _encoder_ndcg(trained, served, progress)
    return [*gates, compare("encoder", version, (new, old), trained.configuration)]


def _encoder_in_service(folder: Path, shape: CrossEncoderShape) -> CrossEncoder:
    encoder = CrossEncoder.load(folder / CROSS_ENCODER)
    if encoder.shape != shape:
        raise ModelError(f"the encoder in {folder} has another shape: {encoder.shape}")
    return encoder


def _encoder_ndcg(
    trained: Trained, encoder: CrossEncoder, progress: Progress
) -> NDArray[np.float64]:
    data, configuration = trained.data, trained.configuration
    groups = held_out_groups(data, configuration)
    budget = configuration.text.item_max_tokens
    items = text_rows(data.texts, encoder, configuration, budget)
    device = usable_device(configuration.device)
    job = FitJob(configuration.cross_encoder, Path(), configuration.seed, progress, device)
    scores = score_groups(encoder, examples(groups, items, encoder, configuration), job)
    return group_ndcg(scores, groups.label, groups.relevant)


def _ranker_gate(trained: Trained, version: str, folder: Path) -> Gate:
    _, judge = trained.frame.sides()
    try:
        old = TieredRanker.load(folder / RANKER, RankerTier.FULL).judged(judge)
    except ModelError as error:
        return Gate(part="ranker", against=version, requests=0, note=str(error))
    ndcg = trained.ranker.judged(judge), old
    return compare("ranker", version, ndcg, trained.configuration)
