"""How many shoppers an experiment needs, and what a week or four of them can find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil, isfinite, sqrt
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from recsys.errors import ConfigurationError, DataError
from recsys.experiments import ALPHA, POWER, any_look_factor, detectable_effect, sample_size
from recsys.tables import Dataset
from training.experiment.activity import read_activity
from training.experiment.exposure import LIST, Exposure, Labels, numbered
from training.experiment.metrics import Metric

LIFTS: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Lifts that a plan is made for where none is asked for."""

WINDOWS: Final = (7, 14, 28)
"""Days that a plan from a dataset looks at; as long before them again for the adjustment."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Spread(_Model):
    """What a metric is like without any experiment."""

    mean: float
    deviation: float
    """Standard deviation between shoppers; of a rate, of its linearised values."""
    variance_ratio: float = 1.0
    """Variance left when what shoppers did before is taken out."""


class LiftPlan(_Model):
    """Shoppers of all arms together that find a lift with the wanted power."""

    lift: float
    planned_end: int
    """With one look, at an end fixed before."""
    any_look: int
    """With as many looks as one likes."""


class WindowPlan(_Model):
    """What the shoppers of so many days can find."""

    days: int
    shoppers: int
    spread: Spread
    detectable_lift: float | None
    """At a planned end."""
    detectable_any_look: float | None
    """With as many looks as one likes."""


class ExperimentPlanReport(_Model):
    """A plan for one metric and arms of equal size."""

    metric: str
    arms: int
    power: float
    alpha: float
    spread: Spread
    lifts: tuple[LiftPlan, ...]
    windows: tuple[WindowPlan, ...]
    """Empty without a dataset."""


@dataclass(frozen=True)
class PlanOptions:
    """What is asked for.

    Attributes:
        arms: number of arms, the control included; of equal size.
        power: chance of finding a lift that is there.
        alpha: chance of finding one that is not.
        lifts: relative lifts.
    """

    arms: int = 2
    power: float = POWER
    alpha: float = ALPHA
    lifts: tuple[float, ...] = LIFTS


def plan_from_numbers(
    mean: float, deviation: float | None, options: PlanOptions
) -> ExperimentPlanReport:
    """A plan for a metric whose mean and spread are known.

    Args:
        mean: of the metric, not 0.
        deviation: between shoppers; None for a share, `sqrt(p (1 - p))`.
        options: what is asked for.

    Raises:
        ConfigurationError: a number can't be one of its kind.
    """
    if not mean or not isfinite(mean):
        raise ConfigurationError(f"the baseline must not be 0, found {mean}; a lift is relative")
    if deviation is None:
        if not 0 < mean < 1:
            raise ConfigurationError(
                f"a baseline of {mean} is no share; give the metric's standard deviation between "
                "shoppers with --deviation"
            )
        deviation = sqrt(mean * (1 - mean))
    spread = Spread(mean=mean, deviation=deviation)
    return _report("baseline", options, spread, ())


def plan_from_dataset(folder: Path, metric: str, options: PlanOptions) -> ExperimentPlanReport:
    """A plan for a metric of a log, from its last 7, 14 and 28 days.

    Shoppers are those with an impression in the window. Windows that the log has no time before
    for are still planned, without adjustment; windows longer than the log are left out.

    Raises:
        DataError: the log can't be read, is shorter than a week, or the metric never happened.
        ConfigurationError: no such metric.
    """
    wanted = Metric.named(metric)
    events = Dataset(folder).scan_events()
    shown = events.filter(pl.col("event_type").cast(pl.String) == "impression")
    ends = shown.select(first=pl.col("event_time").min(), last=pl.col("event_time").max()).collect()
    first, last = ends.row(0)
    if first is None:
        raise DataError(f"{folder}: has no impression; a plan needs to know who could be exposed")
    windows = [
        _window(events, wanted, days, last + timedelta(microseconds=1), options)
        for days in WINDOWS
        if last - timedelta(days=days) >= first
    ]
    if not windows:
        raise DataError(f"{folder}: the log is shorter than {WINDOWS[0]} days; wait for more")
    spread = windows[-1].spread
    if not spread.mean:
        raise DataError(f"{folder}: {metric} never happened in the last {windows[-1].days} days")
    return _report(metric, options, spread, windows)


def _report(
    metric: str, options: PlanOptions, spread: Spread, windows: Sequence[WindowPlan]
) -> ExperimentPlanReport:
    return ExperimentPlanReport(
        metric=metric,
        arms=options.arms,
        power=options.power,
        alpha=options.alpha,
        spread=spread,
        lifts=tuple(_lift_plan(lift, spread, options) for lift in options.lifts),
        windows=tuple(windows),
    )


def _lift_plan(lift: float, spread: Spread, options: PlanOptions) -> LiftPlan:
    if not lift or not isfinite(lift):
        raise ConfigurationError(f"a lift of {lift} can't be planned for; give one such as 0.05")
    deviation = spread.deviation * sqrt(spread.variance_ratio)
    if not deviation:
        raise ConfigurationError("nothing varies between shoppers; there is nothing to plan")
    effect = lift * spread.mean / deviation
    each = sample_size(effect, options.power, options.alpha)
    factor = any_look_factor(options.power, options.alpha)
    return LiftPlan(
        lift=lift,
        planned_end=options.arms * ceil(each),
        any_look=options.arms * ceil(each * factor),
    )


def _window(
    events: pl.LazyFrame, metric: Metric, days: int, end: datetime, options: PlanOptions
) -> WindowPlan:
    spread, shoppers = _spread(events, metric, days, end)
    each = shoppers / options.arms
    found = None
    if each >= 2 and spread.mean:  # noqa: PLR2004
        smallest = detectable_effect(each, each, options.power, options.alpha)
        deviation = spread.deviation * sqrt(spread.variance_ratio)
        found = smallest * deviation / abs(spread.mean)
    wider = sqrt(any_look_factor(options.power, options.alpha))
    return WindowPlan(
        days=days,
        shoppers=shoppers,
        spread=spread,
        detectable_lift=found,
        detectable_any_look=None if found is None else found * wider,
    )


def _spread(events: pl.LazyFrame, metric: Metric, days: int, end: datetime) -> tuple[Spread, int]:
    """The metric over the shoppers with an impression in a window, as if exposed by their first."""
    start = end - timedelta(days=days)
    kind = pl.col("event_type").cast(pl.String)
    within = (pl.col("event_time") >= start) & (pl.col("event_time") < end)
    shown = (
        events.filter(within & (kind == "impression"))
        .select(
            "user_id",
            "event_time",
            pl.lit(None, pl.UInt64).alias(LIST),
            event=numbered("event_id"),
        )
        .sort("event_time", "event")
        .unique("event", keep="first", maintain_order=True)
        .with_columns(arm=pl.lit("all"))
        .collect()
    )
    shoppers = (
        shown.group_by("user_id")
        .agg(exposed=pl.col("event_time").min())
        .sort("user_id")
        .with_columns(user=pl.int_range(pl.len()), arm=pl.lit(0))
    )
    found = Exposure(("all",), shoppers, np.array([len(shoppers)]), 0)
    activity = read_activity(events, Labels(shown, interleaved=False), found, days, end)
    rows = np.arange(len(shoppers))
    values = metric.values(activity.totals, rows, metric.cap(activity.totals))
    ratio = 1.0
    if activity.earlier is not None:
        before = metric.values(activity.earlier, rows, metric.cap(activity.earlier))
        if values.std() > 0 and before.std() > 0:
            ratio = 1 - float(np.corrcoef(values, before)[0, 1]) ** 2
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    mean = float(values.mean())
    usable = isfinite(mean) and isfinite(deviation)
    spread = Spread(
        mean=mean if usable else 0.0,
        deviation=deviation if usable else 0.0,
        variance_ratio=ratio if isfinite(ratio) else 1.0,
    )
    return spread, len(shoppers)
