"""The LightGBM ranker: lambdarank over the feature matrix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import lightgbm
import numpy as np
from numpy.typing import NDArray

from recsys.config import RankerConfig
from recsys.errors import ModelError

MODEL_FILE: Final = "model.txt"
SCHEMA_FILE: Final = "features.json"
BASE: Final = "base"
"""The group of what the score is before any feature is looked at."""
CUT: Final = 10


@dataclass(frozen=True)
class FitInputs:
    """Requests with graded candidates to learn from.

    Attributes:
        values: float32 (m, f), candidates of request 0, then of request 1, and so on.
        names: the f columns.
        groups: group of each column, for explanations.
        sizes: int (n,), candidates of each request; they sum to m.
        labels: int (m,), 0 for an item the shopper did not take, more for a stronger event.
        held_back: bool (n,), requests that early stopping looks at and the trees don't.
        own: bool (m,), what the shopper had bought before.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    groups: Mapping[str, str]
    sizes: NDArray[np.int64]
    labels: NDArray[np.int64]
    held_back: NDArray[np.bool_]
    own: NDArray[np.bool_]

    def where(self, rows: NDArray[np.bool_]) -> FitInputs:
        """Only the chosen candidates (bool (m,)); requests may be left with none."""
        request = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return replace(
            self,
            values=self.values[rows],
            sizes=np.bincount(request[rows], minlength=len(self.sizes)),
            labels=self.labels[rows],
            own=self.own[rows],
        )

    def useful(self) -> NDArray[np.bool_]:
        """Bool (n,): requests with candidates of more than one label; others teach no order."""
        request = np.repeat(np.arange(len(self.sizes)), self.sizes)
        low = np.full(len(self.sizes), np.iinfo(np.int64).max)
        high = np.full(len(self.sizes), -1)
        np.minimum.at(low, request, self.labels)
        np.maximum.at(high, request, self.labels)
        return high > low


class Ranker:
    """Scores candidates; higher is better, comparable within one request only.

    Attributes:
        names: the feature columns, in the order of the matrix.
        groups: group of each column, for explanations.
        held_back_ndcg: NDCG@10 on the held-back requests at the best round, with LightGBM's gain
            2^label - 1; requests without an order to learn are left out.
    """

    def __init__(
        self,
        booster: lightgbm.Booster,
        groups: Mapping[str, str],
        held_back_ndcg: float,
        threads: int = 1,
    ) -> None:
        self._booster = booster
        self._threads = threads
        self.names = tuple(booster.feature_name())
        self.groups = dict(groups)
        self.held_back_ndcg = held_back_ndcg

    @classmethod
    def fit(cls, inputs: FitInputs, config: RankerConfig, seed: int, threads: int) -> Self:
        """Boost until the held-back NDCG@10 stops rising and keep the best round.

        Every request is learnt from twice, as shoppers can ask in two ways: with all its candidates
        and without those the shopper had bought before.

        The same inputs, configuration, seed and threads give the same model.

        Raises:
            ModelError: shapes disagree, or either side has no request with an order to learn.
        """
        _check(inputs)
        lists = (inputs, inputs.where(~inputs.own))
        sides = {
            held_back: [(part, part.useful() & (part.held_back == held_back)) for part in lists]
            for held_back in (False, True)
        }
        learn, judge = (sum(int(rows.sum()) for _, rows in sides[side]) for side in (False, True))
        if not learn or not judge:
            raise ModelError(
                f"{learn} requests to learn from and {judge} held back have both a "
                "taken and a passed-over candidate; each side needs at least one"
            )
        train = _dataset(sides[False])
        history: dict[str, dict[str, list[float]]] = {}
        booster = lightgbm.train(
            _parameters(config, seed, threads),
            train,
            num_boost_round=config.rounds,
            valid_sets=[_dataset(sides[True], train)],
            valid_names=["held_back"],
            callbacks=[
                lightgbm.early_stopping(config.early_stopping_rounds, verbose=False),
                lightgbm.record_evaluation(history),
            ],
        )
        text = booster.model_to_string(num_iteration=booster.best_iteration)
        ndcg = max(history["held_back"][f"ndcg@{CUT}"])
        return cls(lightgbm.Booster(model_str=text), inputs.groups, ndcg, threads)

    @property
    def rounds(self) -> int:
        """Trees that are used."""
        return int(self._booster.current_iteration())

    def predict(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Raw scores of m candidates in one call.

        Args:
            values: float32 (m, f), columns as in `names`; NaN where unknown.

        Returns:
            float64 (m,), finite, in the order given; empty for no candidates.

        Raises:
            ModelError: another number of columns.
        """
        if not self._check_columns(values):
            return np.zeros(0)
        return np.asarray(self._booster.predict(values, num_threads=self._threads), np.float64)

    def contributions(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """SHAP values (TreeSHAP, Lundberg et al. 2018): what each feature added to each score.

        Returns:
            float64 (m, f + 1); the last column is the base value. A row sums to the score.

        Raises:
            ModelError: another number of columns.
        """
        if not self._check_columns(values):
            return np.zeros((0, len(self.names) + 1))
        found = self._booster.predict(values, pred_contrib=True, num_threads=self._threads)
        return np.asarray(found, np.float64)

    def explain(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Contributions summed by group, and `base`: float64 (m,) each; they sum to the score."""
        contributions = self.contributions(values)
        explained = {group: np.zeros(len(values)) for group in dict.fromkeys(self.groups.values())}
        for column, name in enumerate(self.names):
            explained[self.groups[name]] += contributions[:, column]
        return explained | {BASE: contributions[:, -1]}

    def importance(self) -> dict[str, float]:
        """Total gain of the splits on each feature, largest first."""
        gains = self._booster.feature_importance("gain")
        order = np.argsort(-gains, kind="stable")
        return {self.names[place]: float(gains[place]) for place in order}

    def check_names(self, names: tuple[str, ...]) -> None:
        """Refuse features other than those the model was fitted on.

        Raises:
            ModelError: names what is missing and what is new.
        """
        if names == self.names:
            return
        missing = [name for name in self.names if name not in names]
        new = [name for name in names if name not in self.names]
        order = "" if missing or new else ", in another order"
        raise ModelError(
            f"expected the ranker's {len(self.names)} features, found {len(names)}: "
            f"missing {missing}, unexpected {new}{order}; train again"
        )

    def save(self, folder: Path) -> None:
        """Write LightGBM's text model and, beside it, the features with their groups."""
        self._booster.save_model(folder / MODEL_FILE)
        schema = {
            "names": self.names,
            "groups": self.groups,
            "held_back_ndcg": self.held_back_ndcg,
        }
        (folder / SCHEMA_FILE).write_text(json.dumps(schema, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, threads: int = 1) -> Self:
        """Read what `save` wrote; verify the sums first, LightGBM may abort on a damaged file.

        Raises:
            ModelError: a file is missing, cut short or not such a file, or the two don't fit.
        """
        try:
            schema = json.loads((folder / SCHEMA_FILE).read_text(encoding="utf-8"))
            names, groups = tuple(schema["names"]), dict(schema["groups"])
            ndcg = float(schema["held_back_ndcg"])
            text = (folder / MODEL_FILE).read_text(encoding="utf-8")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"can't read the ranker in {folder}: {error}") from error
        if set(groups) != set(names):
            raise ModelError(f"{folder / SCHEMA_FILE} does not give every feature one group")
        _check_text(text, folder / MODEL_FILE)
        ranker = cls(lightgbm.Booster(model_str=text), groups, ndcg, threads)
        ranker.check_names(names)
        return ranker

    def _check_columns(self, values: NDArray[np.float32]) -> bool:
        """Whether there is any row."""
        if values.shape != (len(values), len(self.names)):
            raise ModelError(
                f"features of shape {values.shape}, but the ranker reads {len(self.names)} columns"
            )
        return len(values) > 0


def _parameters(config: RankerConfig, seed: int, threads: int) -> dict[str, object]:
    return {
        "objective": "lambdarank",
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


def _dataset(
    parts: Sequence[tuple[FitInputs, NDArray[np.bool_]]],
    reference: lightgbm.Dataset | None = None,
) -> lightgbm.Dataset:
    """The chosen requests (bool (n,)) of each part."""
    rows = [np.repeat(chosen, part.sizes) for part, chosen in parts]
    return lightgbm.Dataset(
        np.concatenate([part.values[own] for (part, _), own in zip(parts, rows, strict=True)]),
        np.concatenate([part.labels[own] for (part, _), own in zip(parts, rows, strict=True)]),
        group=np.concatenate([part.sizes[chosen] for part, chosen in parts]),
        feature_name=list(parts[0][0].names),
        reference=reference,
    )


def _check(inputs: FitInputs) -> None:
    rows, columns = int(inputs.sizes.sum()), len(inputs.names)
    sizes = len(inputs.labels), len(inputs.held_back), len(inputs.own)
    found = (inputs.values.shape, *sizes)
    if found != ((rows, columns), rows, len(inputs.sizes), rows):
        raise ModelError(
            f"the sizes sum to {rows} rows of {columns} features for {len(inputs.sizes)} requests; "
            f"found values {found[0]}, {found[1]} labels, {found[2]} held-back marks, "
            f"{found[3]} marks of own items"
        )


def _check_text(text: str, path: Path) -> None:
    """Refuse a model that was cut short: LightGBM's parser aborts the whole process on it."""
    header, found, trees = text.partition("\n\nTree=0\n")
    sizes = [line.split("=")[1] for line in header.splitlines() if line.startswith("tree_sizes=")]
    whole = bool(found) and len(sizes) == 1 and text.startswith("tree\n")
    end = sum(map(int, sizes[0].split())) - len("Tree=0\n") if whole else 0
    if not (whole and trees[end:].startswith("end of trees\n") and "end of parameters" in trees):
        raise ModelError(f"{path} is not a whole LightGBM text model; restore or train again")
