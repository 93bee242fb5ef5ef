"""Boosting of one LightGBM model, and the check of its file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import lightgbm
import numpy as np
from numpy.typing import NDArray

from recsys.config import RankerConfig, RankerObjective
from recsys.errors import ModelError
from recsys.ranker.fit_inputs import FitInputs
from recsys.ranker.model_text import UnsoundModelError, check_model_text

CUT: Final = 10


@dataclass(frozen=True)
class Sides:
    """LightGBM's sets of the two sides of one fit, binned once for all its members.

    Attributes:
        learn: what the trees see.
        judge: what early stopping looks at.
    """

    learn: lightgbm.Dataset
    judge: lightgbm.Dataset

    @classmethod
    def of(cls, learn: FitInputs, judge: FitInputs) -> Self:
        """Sets of requests that all have an order to learn."""
        train = _dataset(learn, None)
        return cls(train, _dataset(judge, train))


def boost(
    sides: Sides, objective: RankerObjective, config: RankerConfig, seed: int, threads: int
) -> lightgbm.Booster:
    """Boost until the held-back NDCG@10 stops rising; the booster ends at its best round."""
    booster = lightgbm.train(
        _parameters(config, seed, threads) | {"objective": objective},
        sides.learn,
        num_boost_round=config.rounds,
        valid_sets=[sides.judge],
        callbacks=[lightgbm.early_stopping(config.early_stopping_rounds, verbose=False)],
    )
    return first_trees(booster, booster.best_iteration)


def first_trees(booster: lightgbm.Booster, rounds: int) -> lightgbm.Booster:
    """A booster of its own with the trees of the first rounds; all, where it has fewer."""
    return lightgbm.Booster(model_str=booster.model_to_string(num_iteration=rounds))


def request_ndcg(score: NDArray[np.float64], judge: FitInputs) -> NDArray[np.float64]:
    """NDCG@10 with LightGBM's gain 2^label - 1, float64 (n,); ties in the order given.

    Every request needs a candidate with a label above 0.
    """
    request, gain = judge.request, np.exp2(judge.labels) - 1
    start = np.cumsum(judge.sizes) - judge.sizes
    totals = []
    for key in (score, gain):
        order = np.lexsort((-key, request))
        place = np.arange(len(request)) - start[request]
        value = np.where(place < CUT, gain[order] / np.log2(place + 2), 0)
        totals.append(np.bincount(request, value, minlength=len(judge.sizes)))
    ndcg: NDArray[np.float64] = totals[0] / totals[1]
    return ndcg


def spread(score: NDArray[np.float64], judge: FitInputs) -> float:
    """Standard deviation of the scores within a request, over all requests."""
    request = judge.request
    mean = np.bincount(request, score) / judge.sizes
    return float(np.sqrt(np.mean((score - mean[request]) ** 2)))


def read_booster(path: Path) -> lightgbm.Booster:
    """Read a text model, checked first: an unsound one may abort LightGBM's whole process.

    Raises:
        ModelError: the file can't be read or is not a whole and sound model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"can't read the ranker's {path}: {error}") from error
    try:
        check_model_text(text)
        return lightgbm.Booster(model_str=text)
    except (UnsoundModelError, lightgbm.basic.LightGBMError) as error:
        raise ModelError(
            f"{path} is no sound LightGBM text model: {error}; restore it or train again"
        ) from error


def _parameters(config: RankerConfig, seed: int, threads: int) -> dict[str, object]:
    return {
        "metric": "ndcg",
        "eval_at": [CUT],
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_child_samples,
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging_fraction,
        "bagging_freq": 1,
        "seed": seed,
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _dataset(inputs: FitInputs, reference: lightgbm.Dataset | None) -> lightgbm.Dataset:
    return lightgbm.Dataset(
        inputs.values,
        inputs.labels,
        group=inputs.sizes,
        feature_name=list(inputs.names),
        reference=reference,
    )
