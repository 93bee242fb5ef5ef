"""The simulated shoppers: what they like, how often they come and what they go looking for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recsys.simulation.catalogue import (
    DEPARTMENT_OF_TYPE,
    FACET_STARTS,
    FEATURE_COUNT,
    PRICE_COLUMN,
    TYPE_COUNT,
    mood_loadings,
)
from recsys.simulation.config import BehaviourConfig, SimulationConfig
from recsys.simulation.product_types import DEPARTMENTS
from recsys.simulation.vocabulary import FACETS, Mood

_WEIGHTS: Final = {
    "type": 0.7,
    "brand": 0.5,
    "material": 1.0,
    "colour": 1.2,
    "style": 1.1,
    "use": 0.6,
    "price": 0.4,
}
"""How much facets matter on average; each shopper has weights of their own around these."""

SEARCH_FACETS: Final = (None, "material", "colour", "style")
"""What a query may name besides the product type; each equally often."""

_ACTIVITY_SHAPE: Final = 1.5
_DEPARTMENT_SHARE: Final = 0.5
_CHOICE_SHARPNESS: Final = 1.5


@dataclass(frozen=True)
class Shoppers:
    """The shoppers; a row is a shopper's place in `user_ids`, which is sorted.

    Attributes:
        user_ids: the ids.
        taste: float32 (users, FEATURE_COUNT), what a feature adds to the affinity on day 0.
        later_taste: float32 of the same shape, what tastes turn into; no rows where they don't.
        type_choice: float64 (users, types), what searches are for; rows sum to 1.
        department_choice: float64 (users, departments), the same for department pages.
        value_choice: the same for the values of each facet that a search may name.
        visits_per_day: float64 (users,).
        joined_day: int64 (users,), no visits before it.
    """

    user_ids: tuple[str, ...]
    taste: NDArray[np.float32]
    later_taste: NDArray[np.float32]
    type_choice: NDArray[np.float64]
    department_choice: NDArray[np.float64]
    value_choice: dict[str, NDArray[np.float64]]
    visits_per_day: NDArray[np.float64]
    joined_day: NDArray[np.int64]


def make_shoppers(config: SimulationConfig, seed: int) -> Shoppers:
    """Draw the shoppers; the same configuration and seed give the same ones."""
    rng = np.random.default_rng([seed, 2])
    count, behaviour = config.users, config.behaviour
    liking = _draw_likings(count, behaviour, rng)
    types = _CHOICE_SHARPNESS * liking[:, :TYPE_COUNT].astype(np.float64)
    width = max(5, len(str(count)))
    scale = config.sessions_per_day / _ACTIVITY_SHAPE
    return Shoppers(
        user_ids=tuple(f"U{row:0{width}d}" for row in range(count)),
        later_taste=_draw_later_tastes(config, seed),
        taste=liking * _facet_weights(count, behaviour.taste_strength, rng),
        type_choice=_softmax(types),
        department_choice=_softmax(types) @ np.eye(len(DEPARTMENTS))[DEPARTMENT_OF_TYPE],
        value_choice={
            facet: _softmax(_CHOICE_SHARPNESS * liking[:, columns(facet)].astype(np.float64))
            for facet in SEARCH_FACETS
            if facet is not None
        },
        visits_per_day=rng.gamma(_ACTIVITY_SHAPE, scale, count),
        joined_day=_draw_joining(config, rng),
    )


def _draw_later_tastes(config: SimulationConfig, seed: int) -> NDArray[np.float32]:
    """Independent of the first ones and of the same distribution."""
    if not config.behaviour.taste_turn_days:
        return np.zeros((0, FEATURE_COUNT), np.float32)
    rng = np.random.default_rng([seed, 5])
    liking = _draw_likings(config.users, config.behaviour, rng)
    return liking * _facet_weights(config.users, config.behaviour.taste_strength, rng)


def columns(facet: str) -> slice:
    """The columns of a facet in a feature or taste vector."""
    start = FACET_STARTS[facet]
    return slice(start, start + len(FACETS[facet]))


def _draw_likings(
    count: int, config: BehaviourConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    """float32 (users, FEATURE_COUNT): personal tastes of unit variance, plus the common ones.

    Personal tastes are tied across facets by the moods, and among product types by departments.
    """
    mood_share, own = config.mood_share, np.sqrt(1 - config.mood_share**2)
    liking = rng.standard_normal((count, FEATURE_COUNT), dtype=np.float32)
    moods = rng.standard_normal((count, len(Mood)))
    for facet, values in FACETS.items():
        shared = moods @ mood_loadings(values).T
        liking[:, columns(facet)] = mood_share * shared + own * liking[:, columns(facet)]
    departments = rng.standard_normal((count, len(DEPARTMENTS)))[:, DEPARTMENT_OF_TYPE]
    kept = np.sqrt(1 - _DEPARTMENT_SHARE**2) * liking[:, :TYPE_COUNT]
    liking[:, :TYPE_COUNT] = _DEPARTMENT_SHARE * departments + kept
    liking += config.common_share * rng.standard_normal(FEATURE_COUNT, dtype=np.float32)
    return liking


def _facet_weights(count: int, strength: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """float32 (users, FEATURE_COUNT): weights whose squares sum to `strength ** 2` over facets."""
    mean = np.array(list(_WEIGHTS.values()))
    weights = mean * rng.gamma(2.0, 0.5, (count, len(mean)))
    weights *= strength / np.linalg.norm(weights, axis=1, keepdims=True)
    starts = [0, *FACET_STARTS.values(), PRICE_COLUMN, FEATURE_COUNT]
    return np.repeat(weights, np.diff(starts), axis=1).astype(np.float32)


def _draw_joining(config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    later = rng.random(config.users) < config.joining_share
    return np.where(later, rng.integers(config.all_days, size=config.users), 0)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float64)
