"""Estimators for slates: lists whose positions earn rewards of their own.

Each returns the contributions of the slates; `policy_value` makes the estimate of them, the reward
of a whole slate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Slates:
    """Logged slates, all float64 (n, positions), best position first.

    A slate shorter than others has reward 0 and both probabilities 1 behind its end.

    Attributes:
        reward: of each position.
        logged: the logging policy's probability of the item at its position. For `slate_weights`
            and what uses them: given the items above it; for `position_weights` and what uses them:
            whatever is above it. Only where positions are filled independently are both the same.
        target: the target policy's probability, of the same kind.
    """

    reward: NDArray[np.float64]
    logged: NDArray[np.float64]
    target: NDArray[np.float64]

    @cached_property
    def position_weights(self) -> NDArray[np.float64]:
        """float64 (n, positions): of each position by itself."""
        return self.target / self.logged

    @cached_property
    def slate_weights(self) -> NDArray[np.float64]:
        """float64 (n, positions): of each position together with all above it."""
        return np.asarray(np.cumprod(self.position_weights, axis=1), np.float64)


def standard_ips(slates: Slates) -> NDArray[np.float64]:
    """SIPS: the whole slate's weight times its reward; unbiased whatever shoppers do."""
    return np.asarray(slates.slate_weights[:, -1] * slates.reward.sum(axis=1), np.float64)


def independent_ips(slates: Slates) -> NDArray[np.float64]:
    """IIPS: each position by its own weight (Li et al., 2018).

    Unbiased where the reward of a position depends on nothing but its item.
    """
    return np.asarray((slates.position_weights * slates.reward).sum(axis=1), np.float64)


def reward_interaction_ips(slates: Slates) -> NDArray[np.float64]:
    """RIPS: each position by the weight of it and all above (McInerney et al., 2020).

    Unbiased where shoppers go from the top down (cascade): nothing below matters to a position.
    """
    return np.asarray((slates.slate_weights * slates.reward).sum(axis=1), np.float64)


def cascade_doubly_robust(
    slates: Slates, predicted: NDArray[np.float64], expected: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Cascade-DR: RIPS about a model, `sum w(1:l) (r - Q) + w(1:l-1) E[Q]` (Kiyohara et al., 2022).

    Args:
        slates: with probabilities given the items above.
        predicted: float64 (n, positions), a model's value of the position's item and, if it looks
            ahead, of what follows; of rewards that it has not seen.
        expected: float64 (n, positions), mean of that over what the target policy would put there
            below the same items.
    """
    weight = slates.slate_weights
    above = np.concatenate([np.ones((len(weight), 1)), weight[:, :-1]], axis=1)
    parts = weight * (slates.reward - predicted) + above * expected
    return np.asarray(parts.sum(axis=1), np.float64)


def pseudo_inverse(slates: Slates) -> NDArray[np.float64]:
    """PI for a factored logging policy: `r (1 - L + sum w)` (Swaminathan et al., 2017).

    r is the slate's whole reward, L its positions, w each position's own weight. Unbiased where the
    whole reward is a sum of what each position's item adds.
    """
    weight = slates.position_weights
    factor = 1 - weight.shape[1] + weight.sum(axis=1)
    return np.asarray(slates.reward.sum(axis=1) * factor, np.float64)
