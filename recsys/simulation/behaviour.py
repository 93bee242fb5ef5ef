"""The true probabilities: what a shopper does with an item that they look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammainc

from recsys.simulation.catalogue import FACET_STARTS, FEATURE_COUNT, Catalogue
from recsys.simulation.config import BehaviourConfig
from recsys.simulation.shoppers import Shoppers
from recsys.simulation.vocabulary import FACETS

_YEAR: Final = 365.25
_SHORTEST_WAVE, _LONGEST_WAVE = 120.0, 360.0


@dataclass(frozen=True)
class Behaviour:
    """Click, cart and purchase probabilities of every shopper and item on every day.

    The affinity is `(taste(day) + drift(day)) · features + appeal`, minus the shopper's mean over
    the catalogue without drift and appeal, so that 0 is an average item for everyone.

    Attributes:
        config: intercepts, slopes and rates.
        start: the first day.
        catalogue: the items.
        shoppers: the shoppers.
        waves: float64 (styles, 2), period in days and phase of each style's fashion.
    """

    config: BehaviourConfig
    start: date
    catalogue: Catalogue
    shoppers: Shoppers
    waves: NDArray[np.float64]

    def affinity(
        self, users: NDArray[np.int64], items: NDArray[np.int64], day: float
    ) -> NDArray[np.float32]:
        """float32 (n, m): every user row against every item row."""
        taste = self.taste(users, day)
        scores = (taste + self.drift(day)) @ self.catalogue.features[items].T
        mean = self.mean_affinity(users, day)[:, None]
        return np.asarray(scores + self.catalogue.appeal[items] - mean, np.float32)

    def pair_affinity(
        self, users: NDArray[np.int64], items: NDArray[np.int64], day: float
    ) -> NDArray[np.float32]:
        """float32 (n,): the i-th user row against the i-th item row."""
        taste = self.taste(users, day)
        scores = np.einsum("nd,nd->n", taste + self.drift(day), self.catalogue.features[items])
        mean = self.mean_affinity(users, day)
        return np.asarray(scores + self.catalogue.appeal[items] - mean, np.float32)

    def taste(self, users: NDArray[np.int64], day: float) -> NDArray[np.float32]:
        """float32 (n, FEATURE_COUNT): what features add for shoppers on a day, without drift."""
        return self._turned(self.shoppers.taste, self.shoppers.later_taste, users, day)

    def mean_affinity(self, users: NDArray[np.int64], day: float) -> NDArray[np.float32]:
        """float32 (n,): a shopper's mean over the catalogue, without drift and appeal."""
        return self._turned(*self._mean_affinities, users, day)

    @cached_property
    def _mean_affinities(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 (users,) of the first tastes and of the later ones."""
        mean = self.catalogue.features.mean(axis=0)
        first, later = self.shoppers.taste @ mean, self.shoppers.later_taste @ mean
        return np.asarray(first, np.float32), np.asarray(later, np.float32)

    def _turned(
        self,
        first: NDArray[np.float32],
        later: NDArray[np.float32],
        users: NDArray[np.int64],
        day: float,
    ) -> NDArray[np.float32]:
        if not self.config.taste_turn_days:
            return first[users]
        angle = np.float32(np.pi / 2 * day / self.config.taste_turn_days)
        turned = np.cos(angle) * first[users] + np.sin(angle) * later[users]
        return np.asarray(turned, np.float32)

    def drift(self, day: float) -> NDArray[np.float32]:
        """float32 (FEATURE_COUNT,): what season and fashion add for everyone on a day.

        Seasonal uses follow a cosine of one year that peaks on their day; styles a sine each.
        """
        drift = np.zeros(FEATURE_COUNT, np.float32)
        day_of_year = self.start.timetuple().tm_yday + day
        for place, use in enumerate(FACETS["use"]):
            if use.peak is not None:
                angle = 2 * np.pi * (day_of_year - use.peak) / _YEAR
                drift[FACET_STARTS["use"] + place] = self.config.season_strength * np.cos(angle)
        angles = 2 * np.pi * day / self.waves[:, 0] + self.waves[:, 1]
        first = FACET_STARTS["style"]
        drift[first : first + len(angles)] = self.config.fashion_strength * np.sin(angles)
        return drift

    def click(self, affinity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of a click on an item that is looked at; any shape."""
        return np.asarray(expit(self.config.click_intercept + affinity), np.float32)

    def cart(self, affinity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability of adding a clicked item to the cart; any shape."""
        logit = self.config.cart_intercept + self.config.cart_slope * affinity
        return np.asarray(expit(logit), np.float32)

    def purchase(self, affinity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probability that an item that is looked at is clicked, carted and bought; any shape."""
        return self.click(affinity) * self.cart(affinity) * np.float32(self.config.purchase_rate)

    def examination(self, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability that 0-based positions are looked at; any shape."""
        return np.asarray((1.0 + positions) ** -self.config.examination_power, np.float64)

    def used_up(self, items: NDArray[np.int64], days: NDArray[np.float64]) -> NDArray[np.float64]:
        """float64 (n,): probability that a consumable is used up within `days` of its purchase.

        Gamma distributed with the product type's mean and the configured shape; 0 for days below 0
        and for what lasts.
        """
        mean, shape = self.catalogue.rebuy_days[items], self.config.rebuy_shape
        scaled = np.maximum(days, 0) * shape / np.where(mean > 0, mean, 1)
        return np.asarray(np.where(mean > 0, gammainc(shape, scaled), 0.0), np.float64)


def draw_waves(seed: int) -> NDArray[np.float64]:
    """float64 (styles, 2): a period in days and a phase for the fashion of each style."""
    rng = np.random.default_rng([seed, 3])
    styles = len(FACETS["style"])
    periods = rng.uniform(_SHORTEST_WAVE, _LONGEST_WAVE, styles)
    return np.stack([periods, rng.uniform(0, 2 * np.pi, styles)], axis=1)
