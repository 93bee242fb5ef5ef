"""Guardrails: metrics that must not get worse by more than a margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recsys.experiments.effects import LEVEL, Effect

Outcome = Literal["passed", "inconclusive", "worse"]


@dataclass(frozen=True)
class NonInferiority:
    """A one-sided test against a margin.

    Attributes:
        bound: the effect is no worse than this with probability `level`; compare with -margin.
        p_value: of "the effect is worse than the margin allows".
        outcome: `passed` where the bound is inside the margin, `worse` where the effect is beyond
            it with the same certainty, else `inconclusive`, which is no permission.
    """

    bound: float
    p_value: float
    outcome: Outcome


def non_inferiority(effect: Effect, margin: float, level: float = LEVEL) -> NonInferiority:
    """Whether an effect is better than `-margin`, more being better.

    Args:
        effect: in the margin's unit; turn its sign around where less is better.
        margin: how much worse is still accepted, above 0.
        level: one-sided confidence. An effect worse than the margin passes with a probability of
            at most `1 - level`, and no effect at all is called worse even more rarely.
    """
    bound = effect.lower_bound(level)
    if bound > -margin:
        outcome: Outcome = "passed"
    elif effect.upper_bound(level) < -margin:
        outcome = "worse"
    else:
        outcome = "inconclusive"
    return NonInferiority(bound, effect.p_above(-margin), outcome)
