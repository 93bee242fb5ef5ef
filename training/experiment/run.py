"""The report of an experiment: checks first, then effects and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from recsys.errors import ConfigurationError, DataError
from recsys.experiments import sample_ratio
from recsys.tables import Dataset
from training.experiment.activity import Activity, read_activity
from training.experiment.comparison import (
    Question,
    cumulative_rows,
    metric_rows,
    novelty_rows,
    segment_rows,
    tenure_rows,
    tuning,
)
from training.experiment.exposure import CONTROL, Exposure, exposure, read_labelled
from training.experiment.metrics import Metric
from training.experiment.report import (
    ArmRow,
    DayRow,
    ExperimentReport,
    MetricRow,
    NoveltyRow,
    Role,
    SampleRatioRow,
    SegmentRow,
    Verdict,
)
from training.experiment.verdict import stopped, verdict

MOST_CHANGED: Final = 0.01
"""Share of shoppers in several arms above which nothing is read."""

MOST_VALUES: Final = 12
"""Values of a segment that are shown; rarer ones are put together."""

KNOWN_BEFORE: Final = "history"
"""The segment that is always there: shoppers with events before the experiment, and others."""


@dataclass(frozen=True)
class ExperimentOptions:
    """What is asked of the data.

    Attributes:
        experiment: the name in the labels.
        control: the arm compared with; None for `control`, or else the first by name.
        primary: name of the metric that decides.
        guardrails: names of metrics that must not get worse.
        others: names of metrics that are only shown.
        margin: relative loss that guardrails accept.
        weights: intended share of shoppers by arm, in any unit; 1 for arms that are not named.
        segments: columns of the users table.
        planned_shoppers: of all arms, from a plan made before; None where there is none.
        pre_days: days before the experiment for the adjustment.
        end: events at or after it don't count; None for all.
    """

    experiment: str
    control: str | None = None
    primary: str = "ctr"
    guardrails: tuple[str, ...] = ("conversion", "revenue")
    others: tuple[str, ...] = ("revenue_capped", "add_to_cart", "hide")
    margin: float = 0.05
    weights: dict[str, float] = field(default_factory=dict)
    segments: tuple[str, ...] = ()
    planned_shoppers: int | None = None
    pre_days: int = 28
    end: datetime | None = None

    def roles(self) -> dict[Metric, Role]:
        """The metrics in order, each once, in the first role that names it.

        Raises:
            ConfigurationError: a name is no metric's.
        """
        named: dict[str, Role] = dict.fromkeys(reversed(self.others), "other")
        named |= dict.fromkeys(reversed(self.guardrails), "guardrail")
        named |= {self.primary: "primary"}
        order = [self.primary, *self.guardrails, *self.others]
        return {Metric.named(name): named[name] for name in dict.fromkeys(order)}


def report_experiment(folder: Path, options: ExperimentOptions) -> ExperimentReport:
    """Read an experiment out of a dataset's events.

    A shopper counts from their first impression with the experiment's label on. Shoppers with
    labels of several arms are left out; more than 1 % of them, or sizes that don't fit the weights
    (p below 0.001), end the report before any effect. Guardrails and other metrics without a single
    event are left out, with a note.

    Raises:
        DataError: the dataset can't be read, has no such experiment, or nothing to compare.
        ConfigurationError: a metric, arm or column is not there.
    """
    roles = options.roles()
    dataset = Dataset(folder)
    events = dataset.scan_events()
    labels = read_labelled(folder, events, options.experiment, options.end)
    if labels.interleaved:
        raise DataError(
            f"experiment {options.experiment!r} shows several arms in one list; "
            "use `recsys experiment interleaving`"
        )
    found = exposure(labels, options.experiment, options.control)
    check = _check(found, options.weights)
    activity = read_activity(events, labels, found, options.pre_days, options.end)
    planned = options.planned_shoppers
    final = planned is not None and len(found.shoppers) >= planned
    question = Question(found.arms, found.arm, tuning(planned), final, options.margin)
    stops = tuple(one for arm in found.arms[1:] if (one := stopped(check, arm)))
    measured = {metric: role for metric, role in roles.items() if _happened(metric, activity)}
    if options.primary not in [metric.name for metric in measured]:
        raise DataError(
            f"experiment {options.experiment!r}: nothing happened that the primary metric "
            f"{options.primary} counts; choose another one with --primary"
        )
    segments = _segments(dataset, found, activity, options.segments)
    effects = _Effects() if stops else _effects(question, activity, measured, segments)
    return ExperimentReport(
        dataset=str(folder),
        experiment=options.experiment,
        control=found.arms[0],
        arms=found.arms[1:],
        start=found.start,
        end=activity.last_event,
        shoppers=len(found.shoppers),
        pre_days=0 if activity.earlier is None else options.pre_days,
        planned_shoppers=planned,
        final=final,
        tuned_for=int(question.tuned_for),
        primary=options.primary,
        sample_ratio=check,
        verdicts=stops or _verdicts(question, effects.metrics),
        notes=_notes(options, found, activity, [m.name for m in roles if m not in measured]),
        **vars(effects),
    )


@dataclass(frozen=True)
class _Effects:
    """What is read only where the checks allow."""

    metrics: tuple[MetricRow, ...] = ()
    segments: tuple[SegmentRow, ...] = ()
    cumulative: tuple[DayRow, ...] = ()
    by_tenure: tuple[DayRow, ...] = ()
    novelty: tuple[NoveltyRow, ...] = ()


def _effects(
    question: Question,
    activity: Activity,
    roles: Mapping[Metric, Role],
    segments: Mapping[str, pl.Series],
) -> _Effects:
    primary = next(metric for metric, role in roles.items() if role == "primary")
    tenure = tenure_rows(question, primary, activity)
    return _Effects(
        metrics=metric_rows(question, activity, roles),
        segments=segment_rows(question, primary, activity, segments),
        cumulative=cumulative_rows(question, primary, activity),
        by_tenure=tenure,
        novelty=novelty_rows(question.arms[1:], tenure),
    )


def _happened(metric: Metric, activity: Activity) -> bool:
    return bool(activity.totals[metric.numerator].any())


def _check(found: Exposure, weights: Mapping[str, float]) -> SampleRatioRow:
    unknown = sorted(set(weights) - set(found.arms))
    if unknown:
        raise ConfigurationError(
            f"--weight names the arm {unknown[0]!r}; the experiment has {', '.join(found.arms)}"
        )
    intended = np.array([weights.get(arm, 1.0) for arm in found.arms])
    if not (intended >= 0).all() or not intended.sum() > 0:
        raise ConfigurationError("weights are numbers from 0 on, and not all 0; correct --weight")
    tested = sample_ratio(found.sizes, intended)
    changed_share = found.changed / int(found.sizes.sum())
    return SampleRatioRow(
        arms=tuple(
            ArmRow(arm=arm, shoppers=int(size), expected=float(expected), weight=float(weight))
            for arm, size, expected, weight in zip(
                found.arms, found.sizes, tested.expected, intended, strict=True
            )
        ),
        chi_square=tested.statistic,
        p_value=tested.p_value,
        mismatch=tested.mismatch,
        changed=found.changed,
        changed_share=changed_share,
        not_sticky=changed_share > MOST_CHANGED,
    )


def _segments(
    dataset: Dataset, found: Exposure, activity: Activity, columns: Sequence[str]
) -> dict[str, pl.Series]:
    """A value for each shopper by segment; `history` where some have one and some have not."""
    segments = {}
    known = np.zeros(activity.shoppers, np.bool_)
    known[activity.before["user"].to_numpy()] = True
    if known.any() and not known.all():
        segments[KNOWN_BEFORE] = pl.Series(np.where(known, "known before", "new"))
    if not columns:
        return segments
    users = dataset.scan_users()
    present = [] if users is None else users.collect_schema().names()
    missing = [name for name in columns if name not in present]
    if users is None or missing:
        raise ConfigurationError(
            f"{dataset.folder}: the users table has no column {missing[0]!r} to segment by; "
            f"it has {', '.join(present) or 'no rows'}"
        )
    table = users.select("user_id", pl.col(*columns).cast(pl.String)).collect()
    joined = found.shoppers.join(table, on="user_id", how="left", maintain_order="left")
    return segments | {name: _few_values(joined[name]) for name in columns}


def _few_values(column: pl.Series) -> pl.Series:
    """The most frequent values; the others are `other`, missing ones `unknown`."""
    filled = column.fill_null("unknown").alias("value")
    counts = filled.value_counts(name="count").sort(["count", "value"], descending=[True, False])
    kept = counts["value"].head(MOST_VALUES)
    return filled.to_frame().select(
        pl.when(pl.col("value").is_in(kept.implode())).then("value").otherwise(pl.lit("other"))
    )["value"]


def _verdicts(question: Question, metrics: Sequence[MetricRow]) -> tuple[Verdict, ...]:
    return tuple(
        verdict([row for row in metrics if row.arm == arm], final=question.final)
        for arm in question.arms[1:]
    )


def _notes(
    options: ExperimentOptions, found: Exposure, activity: Activity, absent: Sequence[str]
) -> tuple[str, ...]:
    control = found.arms[0]
    notes = []
    if options.control is None and control != CONTROL:
        notes.append(f"no arm is named {CONTROL!r}, so {control!r} is taken as it (--control)")
    if found.changed:
        notes.append(f"{found.changed:,} shoppers seen in several arms are left out")
    if absent:
        notes.append(f"without a single event, and left out: {', '.join(absent)}")
    if activity.unpriced:
        notes.append(f"{activity.unpriced:,} purchases have no price and count as no revenue")
    if options.pre_days and activity.earlier is None:
        notes.append(
            f"no shopper has an event in the {options.pre_days} days before the experiment: "
            "lifts are not adjusted for what shoppers did before"
        )
    if options.planned_shoppers is None:
        notes.append(
            "no planned number of shoppers was given (--planned-shoppers, from `recsys experiment "
            "plan`): the verdict uses intervals that are valid at any look"
        )
    if len(found.arms) > 2:  # noqa: PLR2004
        notes.append(
            f"{len(found.arms) - 1} arms are held against one control: the chance that one of them "
            "looks better by luck is that much higher"
        )
    return tuple(notes)
