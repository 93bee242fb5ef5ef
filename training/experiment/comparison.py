"""Effects of an experiment, metric by metric, segment by segment and day by day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite, nan, sqrt
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from recsys.evaluation import benjamini_hochberg, holm
from recsys.experiments import (
    TUNED_FOR,
    Comparison,
    Effect,
    Observed,
    Sample,
    adjusted,
    always_valid_non_inferiority,
    detectable_effect,
    non_inferiority,
)
from training.experiment.activity import Activity
from training.experiment.metrics import Metric, Totals
from training.experiment.report import (
    DayRow,
    EffectRow,
    GuardrailRow,
    MetricRow,
    NoveltyRow,
    Role,
    SegmentRow,
    known,
)

MOST_TENURE_DAYS: Final = 28
FEWEST_SHOPPERS: Final = 10
"""In each arm, for an effect of a segment or a day."""


@dataclass(frozen=True)
class Question:
    """What all effects of a report share.

    Attributes:
        arms: names, control first.
        arm: int64 (n,), arm of each shopper.
        tuned_for: shoppers at which always-valid intervals are tightest.
        final: whether fixed intervals count.
        margin: relative loss that guardrails accept.
    """

    arms: tuple[str, ...]
    arm: NDArray[np.int64]
    tuned_for: float
    final: bool
    margin: float

    def rows(self, arm: int, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """The shoppers of an arm, of those `chosen`."""
        own = self.arm == arm
        return np.flatnonzero(own if chosen is None else own & chosen)


@dataclass(frozen=True)
class Compared:
    """One metric between two arms, plain and adjusted."""

    plain: Comparison
    after: Comparison | None
    variance_ratio: float

    @property
    def lift(self) -> Effect:
        """The lift that counts."""
        return self.plain.lift if self.after is None else self.after.lift


def compare(
    metric: Metric,
    totals: Totals,
    earlier: Totals | None,
    control: NDArray[np.int64],
    treatment: NDArray[np.int64],
) -> Compared:
    """One metric between two sets of shoppers.

    Args:
        metric: what.
        totals: of all shoppers, from exposure on.
        earlier: of all shoppers, before; None without.
        control: rows of the control.
        treatment: rows of the arm.
    """
    cap = metric.cap(totals)
    now = [metric.values(totals, rows, cap) for rows in (control, treatment)]
    plain = Comparison(*map(Sample.of, now))
    if earlier is None or min(len(control), len(treatment)) < 2:  # noqa: PLR2004
        return Compared(plain, None, nan)
    cap = metric.cap(earlier)
    before = [metric.values(earlier, rows, cap) for rows in (control, treatment)]
    if np.isnan(np.concatenate([*now, *before])).any():
        return Compared(plain, None, nan)
    found = adjusted(*(Observed(*both) for both in zip(now, before, strict=True)))
    return Compared(plain, found.comparison, found.variance_ratio)


def metric_rows(
    question: Question, activity: Activity, roles: Mapping[Metric, Role]
) -> tuple[MetricRow, ...]:
    """Every metric of every arm against the control; guardrails corrected as one family."""
    rows = [
        _metric_row(question, metric, role, place, activity)
        for place in range(1, len(question.arms))
        for metric, role in roles.items()
    ]
    tested = [one.guardrail.p_harm for one in rows if one.guardrail is not None]
    harms = np.array([p_value for p_value in tested if p_value is not None], np.float64)
    corrected = iter(holm(harms).tolist())
    return tuple(
        row
        if row.guardrail is None or row.guardrail.p_harm is None
        else row.model_copy(
            update={"guardrail": row.guardrail.model_copy(update={"p_holm": next(corrected)})}
        )
        for row in rows
    )


def _metric_row(
    question: Question, metric: Metric, role: Role, place: int, activity: Activity
) -> MetricRow:
    control, treatment = question.rows(0), question.rows(place)
    found = compare(metric, activity.totals, activity.earlier, control, treatment)
    plain, size = found.plain, len(control) + len(treatment)

    def row(effect: Effect) -> EffectRow:
        return EffectRow.of(effect, size, question.tuned_for)

    return MetricRow(
        metric=metric.name,
        title=metric.title,
        role=role,
        arm=question.arms[place],
        control_value=known(plain.control.mean),
        arm_value=known(plain.treatment.mean),
        percent=metric.is_share,
        higher_is_better=metric.sign > 0,
        control_shoppers=len(control),
        arm_shoppers=len(treatment),
        difference=row(plain.difference),
        lift=row(plain.lift),
        adjusted=None if found.after is None else row(found.after.lift),
        variance_ratio=known(found.variance_ratio),
        detectable_lift=_detectable(found.lift, len(control), len(treatment)),
        guardrail=_guardrail(question, metric, found.lift, size) if role == "guardrail" else None,
    )


def _detectable(lift: Effect, control: int, treatment: int) -> float | None:
    """The smallest lift found in 80 of 100 experiments with the standard error of this one."""
    if not lift.standard_error > 0:
        return None
    in_errors = detectable_effect(control, treatment) / sqrt(1 / control + 1 / treatment)
    return known(in_errors * lift.standard_error)


def _guardrail(question: Question, metric: Metric, lift: Effect, size: int) -> GuardrailRow:
    better = replace(lift, estimate=metric.sign * lift.estimate)
    margin = question.margin
    if question.final:
        held = non_inferiority(better, margin)
    else:
        held = always_valid_non_inferiority(better, size, margin, question.tuned_for)
    harm = Effect(-better.estimate, better.standard_error, better.degrees_of_freedom)
    reach, needed = better.estimate - held.bound, None
    room = better.estimate + margin
    if held.outcome == "inconclusive" and room > 0 and isfinite(reach):
        needed = ceil(size * (reach / room) ** 2)
    return GuardrailRow(
        margin=margin,
        bound=known(held.bound),
        outcome=held.outcome,
        p_harm=known(harm.p_above(0.0)),
        p_holm=None,
        shoppers_needed=needed,
    )


def segment_rows(
    question: Question, metric: Metric, activity: Activity, segments: Mapping[str, pl.Series]
) -> tuple[SegmentRow, ...]:
    """The primary metric in each value of each segment, corrected over all of them.

    Segments with fewer than `FEWEST_SHOPPERS` in either arm are left out.

    Args:
        question: the arms.
        metric: the primary one.
        activity: what shoppers did.
        segments: by name, a value for each shopper.
    """
    rows = []
    for name, column in segments.items():
        for value in column.unique().sort().to_list():
            chosen = (column == value).to_numpy()
            for place in range(1, len(question.arms)):
                control, treatment = question.rows(0, chosen), question.rows(place, chosen)
                if min(len(control), len(treatment)) < FEWEST_SHOPPERS:
                    continue
                found = compare(metric, activity.totals, activity.earlier, control, treatment)
                size = len(control) + len(treatment)
                rows.append(
                    SegmentRow(
                        segment=name,
                        value=value,
                        arm=question.arms[place],
                        control_shoppers=len(control),
                        arm_shoppers=len(treatment),
                        lift=EffectRow.of(found.lift, size, question.tuned_for),
                        p_bh=None,
                    )
                )
    return _corrected(rows)


def _corrected(rows: Sequence[SegmentRow]) -> tuple[SegmentRow, ...]:
    tested = [row.lift.p_value for row in rows if row.lift.p_value is not None]
    corrected = iter(benjamini_hochberg(np.array(tested, np.float64)).tolist())
    return tuple(
        row if row.lift.p_value is None else row.model_copy(update={"p_bh": next(corrected)})
        for row in rows
    )


def cumulative_rows(question: Question, metric: Metric, activity: Activity) -> tuple[DayRow, ...]:
    """The lift as it stood at the end of each day of the experiment, of shoppers exposed by then.

    Without adjustment: the last day is the plain lift of the report.
    """
    rows = []
    for day in range(activity.last_day + 1):
        totals = activity.totals_of(activity.days.filter(pl.col("day") <= day))
        there = activity.entered <= day
        rows += list(_day_rows(question, metric, totals, there, day))
    return tuple(rows)


def tenure_rows(question: Question, metric: Metric, activity: Activity) -> tuple[DayRow, ...]:
    """The lift on the k-th day since exposure, of shoppers whose k-th day was over at the end."""
    rows = []
    for tenure in range(min(activity.last_day, MOST_TENURE_DAYS)):
        there = activity.entered + tenure < activity.last_day
        totals = activity.totals_of(activity.days.filter(pl.col("tenure") == tenure))
        rows += list(_day_rows(question, metric, totals, there, tenure))
    return tuple(rows)


def _day_rows(
    question: Question, metric: Metric, totals: Totals, there: NDArray[np.bool_], day: int
) -> Iterator[DayRow]:
    for place in range(1, len(question.arms)):
        control, treatment = question.rows(0, there), question.rows(place, there)
        if min(len(control), len(treatment)) < FEWEST_SHOPPERS:
            continue
        lift = compare(metric, totals, None, control, treatment).lift
        size = len(control) + len(treatment)
        row = EffectRow.of(lift, size, question.tuned_for)
        if row.estimate is not None and row.low is not None:
            yield DayRow(arm=question.arms[place], day=day, shoppers=size, lift=row)


def novelty_rows(arms: Sequence[str], days: Sequence[DayRow]) -> tuple[NoveltyRow, ...]:
    """The trend of the lift over days since exposure, least squares weighted by certainty.

    Days are taken as independent of each other, which a shopper's own days are not quite: a hint.
    """
    return tuple(_trend(arm, [row for row in days if row.arm == arm]) for arm in arms)


def _trend(arm: str, days: Sequence[DayRow]) -> NoveltyRow:
    rows = [
        (one.day, one.lift.estimate, one.lift.high - one.lift.estimate)
        for one in days
        if one.lift.estimate is not None and one.lift.high is not None
    ]
    rows = [row for row in rows if row[2] > 0]
    if len(rows) < 3:  # noqa: PLR2004
        return NoveltyRow(arm=arm, slope=None, p_value=None)
    day, lift, half = np.array(rows).T
    weight = (1.96 / half) ** 2
    centred = day - np.average(day, weights=weight)
    spread = float(weight @ centred**2)
    trend = Effect(float(weight @ (centred * lift)) / spread, 1 / sqrt(spread))
    return NoveltyRow(arm=arm, slope=known(trend.estimate), p_value=known(trend.p_value))


def tuning(planned: int | None) -> float:
    """Shoppers at which always-valid intervals are tightest: the planned ones, else 5,000."""
    return float(planned if planned is not None else TUNED_FOR)
