"""The ranker's features: one function, called by training and by the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError
from recsys.features.calendar import calendar
from recsys.features.exposure import exposure
from recsys.features.inputs import FeatureInputs
from recsys.features.item_groups import age, category, popularity, price
from recsys.features.joined import Block, Joined, rank_within
from recsys.features.shopper_groups import interest, rebuy, user


@dataclass(frozen=True)
class FeatureMatrix:
    """Features of m candidates.

    Attributes:
        values: float32 (m, f), candidates in the order given; NaN where a value is unknown.
        names: the f columns; the same, in the same order, for the same names of scores and sources.
        groups: the group of each column, for explanations: `text`, `co_purchase`, `popularity`,
            `exposure`, `price`, `category`, `age`, `calendar`, `rebuy`, `interest`, `user` or
            `source`.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    groups: Mapping[str, str]

    def seeing(self, names: tuple[str, ...]) -> FeatureMatrix:
        """Only the named columns, in the order of `names`.

        Raises:
            ModelError: names the columns that the matrix lacks.
        """
        if names == self.names:
            return self
        places = {name: place for place, name in enumerate(self.names)}
        missing = [name for name in names if name not in places]
        if missing:
            raise ModelError(f"the features {missing} are wanted but not made; train again")
        columns = self.values[:, [places[name] for name in names]]
        return FeatureMatrix(columns, names, {name: self.groups[name] for name in names})

    def where(self, rows: NDArray[np.bool_]) -> FeatureMatrix:
        """Only the chosen rows (bool (m,))."""
        return replace(self, values=self.values[rows])

    def replacing(self, columns: Block) -> FeatureMatrix:
        """Other values (float32 (m,)) in the named columns, which have to be there."""
        values = self.values.copy()
        for name, column in columns.items():
            values[:, self.names.index(name)] = column
        return replace(self, values=values)


def text(joined: Joined) -> Block:
    """Each text score, and its rank among the request's candidates."""
    return text_columns(joined.request, joined.inputs.text_scores)


def text_columns(request: NDArray[np.int64], scores: Mapping[str, NDArray[np.float32]]) -> Block:
    """The columns of text scores, float32 (m,) each, of candidates of requests (int64 (m,))."""
    block: Block = {}
    for name, score in scores.items():
        block[f"text_{name}"] = score
        block[f"text_{name}_rank"] = rank_within(request, score)
    return block


def co_purchase(joined: Joined) -> Block:
    """Each co-occurrence score."""
    return {f"co_{name}": score for name, score in joined.inputs.co_occurrence_scores.items()}


def source(joined: Joined) -> Block:
    """1 / (1 + rank) in each source's list, 0 where it did not bring the item; and how many did."""
    candidates = joined.inputs.candidates
    brought = candidates.source_ranks >= 0
    block: Block = {
        f"source_{name}": _reciprocal(candidates.source_ranks[:, column])
        for column, name in enumerate(candidates.source_names)
    }
    block["sources"] = brought.sum(axis=1).astype(np.float32)
    return block


GROUPS: Final[Mapping[str, Callable[[Joined], Block]]] = {
    "text": text,
    "co_purchase": co_purchase,
    "popularity": popularity,
    "exposure": exposure,
    "price": price,
    "category": category,
    "age": age,
    "calendar": calendar,
    "rebuy": rebuy,
    "interest": interest,
    "user": user,
    "source": source,
}


def feature_matrix(inputs: FeatureInputs) -> FeatureMatrix:
    """Make the features of a batch; a candidate's features don't depend on the other requests.

    Nothing at or after a request's `as_of` is seen. Counts over everybody end at the full hour of
    `inputs.statistics`; the shopper's own events count up to `as_of` itself.

    Raises:
        ModelError: inputs of different sizes, or statistics later than a request.
    """
    inputs.check()
    joined = Joined(inputs)
    blocks = {group: make(joined) for group, make in GROUPS.items()}
    columns = {name: values for block in blocks.values() for name, values in block.items()}
    matrix = np.empty((joined.size, len(columns)), np.float32)
    for place, values in enumerate(columns.values()):
        matrix[:, place] = values
    groups = {name: group for group, block in blocks.items() for name in block}
    return FeatureMatrix(matrix, tuple(columns), groups)


def _reciprocal(rank: NDArray[np.int32]) -> NDArray[np.float32]:
    return np.where(rank >= 0, 1 / (1.0 + np.maximum(rank, 0)), 0).astype(np.float32)
