"""What an experiment's report holds, as plain rows."""

from __future__ import annotations

from math import isfinite
from typing import Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from recsys.experiments import (
    Effect,
    always_valid_interval,
    always_valid_p_value,
)

Role = Literal["primary", "guardrail", "other"]
Decision = Literal["stop", "ship", "don't ship", "keep running", "no difference"]
DECISION_NAMES: Final[dict[Decision, str]] = {
    "stop": "Stop",
    "ship": "Ship",
    "don't ship": "Don't ship",
    "keep running": "Keep running",
    "no difference": "No difference shown",
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def known(number: float) -> float | None:
    """The number; None where it is not known or infinite."""
    return float(number) if isfinite(number) else None


class EffectRow(_Model):
    """An effect with its fixed and its always-valid 95 % interval; None where unknown."""

    estimate: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, for one look at a time fixed beforehand."""
    always_low: float | None
    always_high: float | None
    always_p_value: float | None
    """Two-sided, at any number of looks."""

    @classmethod
    def of(cls, effect: Effect, size: int, tuned_for: float) -> Self:
        """The intervals of an effect after `size` shoppers of both arms."""
        fixed = effect.interval()
        always = always_valid_interval(effect, size, tuned_for)
        return cls(
            estimate=known(effect.estimate),
            low=known(fixed[0]),
            high=known(fixed[1]),
            p_value=known(effect.p_value),
            always_low=known(always[0]),
            always_high=known(always[1]),
            always_p_value=known(always_valid_p_value(effect, size, tuned_for)),
        )

    def ends(self, *, final: bool) -> tuple[float, float] | None:
        """The fixed interval at the planned end, the always-valid one before; None if unknown."""
        low, high = (self.low, self.high) if final else (self.always_low, self.always_high)
        return None if low is None or high is None else (low, high)


class GuardrailRow(_Model):
    """Whether a guardrail holds; signs are turned so that more is better."""

    margin: float
    """Relative loss that is still accepted."""
    bound: float | None
    """The lift is no worse than this, one-sided at 95 %."""
    outcome: Literal["passed", "inconclusive", "worse"]
    p_harm: float | None
    """One-sided p-value of "nothing got worse"."""
    p_holm: float | None
    """The same, corrected for all guardrails (Holm, 1979)."""
    shoppers_needed: int | None
    """Of both arms together, for the bound to clear the margin if the estimate stays; None where
    it has, or where the estimate is beyond the margin."""


class MetricRow(_Model):
    """One metric of one arm against the control."""

    metric: str
    title: str
    role: Role
    arm: str
    control_value: float | None
    arm_value: float | None
    percent: bool
    """Whether values are shares."""
    higher_is_better: bool
    control_shoppers: int
    arm_shoppers: int
    difference: EffectRow
    lift: EffectRow
    """Relative to the control."""
    adjusted: EffectRow | None
    """The lift with what shoppers did before taken out (CUPED); None without a time before."""
    variance_ratio: float | None
    """Variance left by the adjustment."""
    detectable_lift: float | None
    """Smallest true lift that so many shoppers find in 80 of 100 experiments, fixed interval."""
    guardrail: GuardrailRow | None

    @property
    def best(self) -> EffectRow:
        """The lift that counts: the adjusted one wherever there is one."""
        return self.lift if self.adjusted is None else self.adjusted


class SegmentRow(_Model):
    """The primary metric among some shoppers."""

    segment: str
    value: str
    arm: str
    control_shoppers: int
    arm_shoppers: int
    lift: EffectRow
    p_bh: float | None
    """p-value corrected for all segments (Benjamini and Hochberg, 1995)."""


class DayRow(_Model):
    """The primary metric's lift of one arm on a day."""

    arm: str
    day: int
    """From 0: of the experiment, or since a shopper's exposure."""
    shoppers: int
    lift: EffectRow


class NoveltyRow(_Model):
    """How an arm's lift changes with the days since a shopper's exposure."""

    arm: str
    slope: float | None
    """Change of the lift a day, weighted by its certainty."""
    p_value: float | None


class ArmRow(_Model):
    """Shoppers of an arm."""

    arm: str
    shoppers: int
    """By the arm that they were in first."""
    expected: float
    weight: float


class SampleRatioRow(_Model):
    """The check that comes first."""

    arms: tuple[ArmRow, ...]
    chi_square: float
    p_value: float
    mismatch: bool
    changed: int
    """Shoppers seen in several arms: left out of everything below."""
    changed_share: float
    not_sticky: bool


class Verdict(_Model):
    """What to do about one arm."""

    arm: str
    decision: Decision
    text: str
    """In words for who decides."""
    would_change: str
    """What would change it."""


class ExperimentReport(_Model):
    """An experiment, its checks, effects and verdict."""

    dataset: str
    experiment: str
    control: str
    arms: tuple[str, ...]
    """Without the control."""
    start: AwareDatetime
    """The first exposure."""
    end: AwareDatetime
    """The last event that counts."""
    shoppers: int
    """Those that count, of all arms."""
    pre_days: int
    """Days before the start that the adjustment looks at; 0 where nothing happened then."""
    planned_shoppers: int | None
    final: bool
    """Whether the planned number of shoppers is reached, so that fixed intervals count."""
    tuned_for: int
    """Shoppers at which the always-valid intervals are tightest."""
    primary: str
    sample_ratio: SampleRatioRow
    metrics: tuple[MetricRow, ...]
    """None where the checks say stop; so are segments and days."""
    segments: tuple[SegmentRow, ...]
    cumulative: tuple[DayRow, ...]
    """Day by day, all that was known at its end."""
    by_tenure: tuple[DayRow, ...]
    """By days since a shopper's exposure, of shoppers who were there for the whole day."""
    novelty: tuple[NoveltyRow, ...]
    verdicts: tuple[Verdict, ...]
    notes: tuple[str, ...]

    @property
    def stopped(self) -> bool:
        """Whether the checks say not to read further."""
        return any(one.decision == "stop" for one in self.verdicts)

    def row(self, arm: str, metric: str) -> MetricRow | None:
        """A metric of an arm; None where it was not measured."""
        return next((r for r in self.metrics if (r.arm, r.metric) == (arm, metric)), None)
