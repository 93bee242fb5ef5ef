"""The ranker: the sum of boosted models, each with its own learning-to-rank objective."""

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
from recsys.ranker import prediction
from recsys.ranker.boosting import (
    Sides,
    boost,
    first_trees,
    read_booster,
    spread,
)
from recsys.ranker.fit_inputs import FitInputs

SCHEMA_FILE: Final = "features.json"
BASE: Final = "base"
"""The group of what the score is before any feature is looked at."""


@dataclass(frozen=True)
class Member:
    """One boosted model.

    Attributes:
        objective: what it was fitted for; it names the file.
        booster: the trees.
        weight: what its raw score is multiplied by in the sum.
    """

    objective: str
    booster: lightgbm.Booster
    weight: float

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.objective}.txt"


class Ranker:
    """Scores candidates; higher is better, comparable within one request only.

    The score is the sum of the members' raw scores, each divided by its spread within held-back
    requests: members that err differently rank better together (Burges et al., 2011, combine
    LambdaMART models alike).

    Attributes:
        names: the feature columns, in the order of the matrix.
        groups: group of each column, for explanations.
    """

    def __init__(self, members: Sequence[Member], groups: Mapping[str, str]) -> None:
        self._members = tuple(members)
        for member in members:
            prediction.prepare(member.booster)
        self.names = tuple(members[0].booster.feature_name())
        self.groups = dict(groups)

    @classmethod
    def fit(cls, inputs: FitInputs, config: RankerConfig, seed: int, threads: int) -> Self:
        """Boost a member for each configured objective until the held-back NDCG@10 stops rising.

        Every request is learnt from twice, see `FitInputs.sides`.

        The same inputs, configuration, seed and threads give the same model.

        Raises:
            ModelError: shapes disagree, or either side has no request with an order to learn.
        """
        inputs.check()
        learn, judge = inputs.sides()
        if not len(learn.sizes) or not len(judge.sizes):
            raise ModelError(
                f"{len(learn.sizes)} requests to learn from and {len(judge.sizes)} held back have "
                "both a taken and a passed-over candidate; each side needs at least one"
            )
        sides, members = Sides.of(learn, judge), []
        for objective in config.objectives:
            booster = boost(sides, objective, config, seed, threads)
            score = prediction.predict(booster, judge.values, threads)
            members.append(Member(objective, booster, 1 / (spread(score, judge) or 1.0)))
        return cls(members, inputs.groups)

    @property
    def rounds(self) -> dict[str, int]:
        """Trees of each member, by objective."""
        return {m.objective: int(m.booster.current_iteration()) for m in self._members}

    def cut_to(self, rounds: int) -> Self:
        """A quicker ranker: the first `rounds` trees of each member, which correct most."""
        members = [
            replace(member, booster=first_trees(member.booster, rounds)) for member in self._members
        ]
        return type(self)(members, self.groups)

    def predict(self, values: NDArray[np.float32], threads: int = 1) -> NDArray[np.float64]:
        """Scores of m candidates in one call.

        Args:
            values: float32 (m, f), columns as in `names`; NaN where unknown.
            threads: to use; they don't change the scores.

        Returns:
            float64 (m,), finite, in the order given; empty for no candidates.

        Raises:
            ModelError: another number of columns.
        """
        if not self._check_columns(values):
            return np.zeros(0)
        parts = (
            member.weight * prediction.predict(member.booster, values, threads)
            for member in self._members
        )
        total: NDArray[np.float64] = np.sum(list(parts), axis=0)
        return total

    def contributions(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """SHAP values (TreeSHAP, Lundberg et al. 2018): what each feature added to each score.

        Returns:
            float64 (m, f + 1); the last column is the base value. A row sums to the score.

        Raises:
            ModelError: another number of columns.
        """
        if not self._check_columns(values):
            return np.zeros((0, len(self.names) + 1))
        parts = (
            member.weight * prediction.contributions(member.booster, values)
            for member in self._members
        )
        total: NDArray[np.float64] = np.sum(list(parts), axis=0)
        return total

    def explain(self, values: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
        """Contributions summed by group, and `base`: float64 (m,) each; they sum to the score."""
        contributions = self.contributions(values)
        explained = {group: np.zeros(len(values)) for group in dict.fromkeys(self.groups.values())}
        for column, name in enumerate(self.names):
            explained[self.groups[name]] += contributions[:, column]
        return explained | {BASE: contributions[:, -1]}

    def importance(self) -> dict[str, float]:
        """Share of the gain of all splits that is on each feature, largest first."""
        gains = np.zeros(len(self.names))
        for member in self._members:
            own = member.booster.feature_importance("gain")
            gains += own / max(own.sum(), 1e-12) / len(self._members)
        order = np.argsort(-gains, kind="stable")
        return {self.names[place]: float(gains[place]) for place in order}

    def save(self, folder: Path) -> None:
        """Write a LightGBM text model for each member and, beside them, features and weights."""
        for member in self._members:
            text = member.booster.model_to_string()
            (folder / member.file).write_text(text, encoding="utf-8")
        schema = {
            "names": self.names,
            "groups": self.groups,
            "weights": {member.objective: member.weight for member in self._members},
        }
        (folder / SCHEMA_FILE).write_text(json.dumps(schema, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; verify the sums first, LightGBM may abort on a damaged file.

        Raises:
            ModelError: a file is missing, cut short or not such a file, or they don't fit.
        """
        try:
            schema = json.loads((folder / SCHEMA_FILE).read_text(encoding="utf-8"))
            names, groups = tuple(schema["names"]), dict(schema["groups"])
            weights = {str(name): float(weight) for name, weight in schema["weights"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"can't read the ranker in {folder}: {error}") from error
        if set(groups) != set(names) or not weights:
            raise ModelError(
                f"{folder / SCHEMA_FILE} does not give every feature one group and name a member"
            )
        members = []
        for objective, weight in weights.items():
            booster = read_booster(folder / f"{Path(objective).name}.txt")
            _require_names(tuple(booster.feature_name()), names)
            members.append(Member(objective, booster, weight))
        return cls(members, groups)

    def _check_columns(self, values: NDArray[np.float32]) -> bool:
        """Whether there is any row."""
        if values.shape != (len(values), len(self.names)):
            raise ModelError(
                f"features of shape {values.shape}, but the ranker reads {len(self.names)} columns"
            )
        return len(values) > 0


def _require_names(expected: tuple[str, ...], found: tuple[str, ...]) -> None:
    if found == expected:
        return
    missing = [name for name in expected if name not in found]
    new = [name for name in found if name not in expected]
    order = "" if missing or new else ", in another order"
    raise ModelError(
        f"expected the ranker's {len(expected)} features, found {len(found)}: "
        f"missing {missing}, unexpected {new}{order}; train again"
    )
