"""Guardrails: metrics that must not get worse by more than a margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recsys.experiments.effects import LEVEL, Effect
from recsys.experiments.sequential import TUNED_FOR, always_valid_interval, always_valid_p_value

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
    low, high = effect.lower_bound(level), effect.upper_bound(level)
    return NonInferiority(low, effect.p_above(-margin), _outcome(low, high, margin))


def always_valid_non_inferiority(
    effect: Effect, size: int, margin: float, tuned_for: float = TUNED_FOR, level: float = LEVEL
) -> NonInferiority:
    """The same for any number of looks: the ends are those of a confidence sequence.

    A two-sided sequence of level `2 level - 1` errs as often on either side, so that each end is
    one-sided at `level`.

    Args:
        effect: as for `non_inferiority`.
        size: units of both arms as of now.
        margin: above 0.
        tuned_for: as for `always_valid_interval`.
        level: one-sided confidence.
    """
    low, high = always_valid_interval(effect, size, tuned_for, 2 * level - 1)
    gap = Effect(effect.estimate + margin, effect.standard_error)
    two_sided = always_valid_p_value(gap, size, tuned_for, 2 * level - 1)
    p_value = two_sided / 2 if gap.estimate > 0 else 1.0
    return NonInferiority(low, p_value, _outcome(low, high, margin))


def _outcome(low: float, high: float, margin: float) -> Outcome:
    if low > -margin:
        return "passed"
    return "worse" if high < -margin else "inconclusive"
