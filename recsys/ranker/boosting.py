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
    """Read a text model; one that was cut short would abort LightGBM's whole process.

    Raises:
        ModelError: the file can't be read or is not a whole model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelError(f"can't read the ranker's {path}: {error}") from error
    header, found, trees = text.partition("\n\nTree=0\n")
    sizes = [line.split("=")[1] for line in header.splitlines() if line.startswith("tree_sizes=")]
    whole = bool(found) and len(sizes) == 1 and text.startswith("tree\n")
    end = sum(map(int, sizes[0].split())) - len("Tree=0\n") if whole else 0
    if not (whole and trees[end:].startswith("end of trees\n") and "end of parameters" in trees):
        raise ModelError(f"{path} is not a whole LightGBM text model; restore or train again")
    return lightgbm.Booster(model_str=text)


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
