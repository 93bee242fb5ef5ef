"""`recsys experiment`: plan an experiment, and report what it found."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from serving.cli.output import RESULTS, JsonOption, new_app, print_json
from serving.cli.times import parse_time

if TYPE_CHECKING:
    from training.experiment import ExperimentPlanReport, ExperimentReport

DatasetArgument = Annotated[Path, typer.Argument(help="The dataset's folder.", metavar="DATASET")]
NameOption = Annotated[
    str, typer.Option("--experiment", metavar="NAME", help="As in the labels 'NAME/arm'.")
]
EndOption = Annotated[
    datetime | None,
    typer.Option(
        "--to", parser=parse_time, metavar="TIME", help="Events from then on don't count."
    ),
]
ControlOption = Annotated[
    str | None,
    typer.Option(metavar="ARM", help="Absent: 'control', or else the first arm by name."),
]
PrimaryOption = Annotated[
    str,
    typer.Option(
        metavar="METRIC",
        help="What decides: ctr, conversion, revenue, revenue_capped, an event type such as "
        "add_to_cart, or a rate such as purchase/click.",
    ),
]
GuardrailOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METRIC", help="Must not get worse; may be repeated. Absent: conversion, revenue."
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC", help="Is shown, too; may be repeated."),
]
MarginOption = Annotated[
    float, typer.Option(min=1e-6, max=1, help="Relative loss that guardrails accept.")
]
WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ARM=SHARE", help="Intended size of an arm, where sizes differ; may be repeated."
    ),
]
SegmentOption = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Of the users table; may be repeated."),
]
PlannedOption = Annotated[
    int | None,
    typer.Option(min=1, help="Of all arms, as planned before: fixed intervals count then."),
]
PreDaysOption = Annotated[
    int, typer.Option(min=0, help="Days before the experiment for the adjustment (CUPED).")
]
app = new_app()


@app.callback()
def experiment() -> None:
    """Controlled experiments: how many shoppers one needs, and what it found."""


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="As for `recsys serve --experiments`.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Check a file of experiments, and say who gets what: before a running server reads it.

    The bundles that arms name are not looked at.

    Example: recsys experiment check experiments.toml
    """
    from serving.experiments_file import load_experiments  # noqa: PLC0415

    rows = load_experiments(file).arms()
    if as_json:
        print_json({"file": str(file), "arms": [row._asdict() for row in rows]})
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("experiment", "arm", "serves"):
        table.add_column(name)
    table.add_column("of all shoppers", justify="right")
    for row in rows:
        table.add_row(row.experiment, row.arm, row.serves, f"{row.share:.1%}")
    RESULTS.print(table)


@app.command()
def report(  # noqa: PLR0913
    dataset: DatasetArgument,
    name: NameOption,
    *,
    control: ControlOption = None,
    primary: PrimaryOption = "ctr",
    guardrail: GuardrailOption = None,
    metric: MetricOption = None,
    margin: MarginOption = 0.05,
    weight: WeightOption = None,
    segment: SegmentOption = None,
    planned_shoppers: PlannedOption = None,
    pre_days: PreDaysOption = 28,
    end: EndOption = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Absent: DATASET/reports/NAME.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which arm is better, after checking that the data can say so.

    Writes experiment.html, a page with everything, and experiment.json, the same for machines.

    Example: recsys experiment report shop --experiment ranker --primary ctr --guardrail revenue
    """
    from training.experiment import ExperimentOptions, report_experiment, save_report  # noqa: PLC0415

    default = ExperimentOptions(name)
    options = ExperimentOptions(
        experiment=name,
        control=control,
        primary=primary,
        guardrails=default.guardrails if guardrail is None else tuple(guardrail),
        others=default.others if metric is None else tuple(metric),
        margin=margin,
        weights=_weights(weight or ()),
        segments=tuple(segment or ()),
        planned_shoppers=planned_shoppers,
        pre_days=pre_days,
        end=end,
    )
    found = report_experiment(dataset, options)
    files = save_report(found, out or dataset / "reports" / name)
    if as_json:
        print_json(found.model_dump(mode="json") | files)
    else:
        _show(found, files)


def _weights(texts: list[str] | tuple[str, ...]) -> dict[str, float]:
    found = {}
    for text in texts:
        arm, _, share = text.rpartition("=")
        try:
            found[arm] = float(share)
        except ValueError:
            arm = ""
        if not arm:
            raise typer.BadParameter(f"{text!r}: write it like --weight control=0.9")
    return found


def _show(found: ExperimentReport, files: dict[str, Path]) -> None:
    from training.experiment import DECISION_NAMES, report_tables  # noqa: PLC0415

    for table in report_tables(found):
        RESULTS.print(table)
    for one in found.verdicts:
        title = f"{one.arm}: {DECISION_NAMES[one.decision]}."
        RESULTS.print(f"[bold]{title}[/] {one.text}", highlight=False)
        RESULTS.print(f"What would change it: {one.would_change}", highlight=False)
    for note in found.notes:
        RESULTS.print(f"note: {note}", highlight=False)
    for name, path in files.items():
        RESULTS.print(f"{name}: {path}", highlight=False, soft_wrap=True)


@app.command()
def plan(  # noqa: PLR0913
    dataset: Annotated[
        Path | None,
        typer.Argument(metavar="[DATASET]", help="Where the baseline is measured."),
    ] = None,
    *,
    metric: Annotated[str, typer.Option(metavar="METRIC", help="As for report.")] = "ctr",
    baseline: Annotated[
        float | None, typer.Option(help="The metric today, instead of a dataset.")
    ] = None,
    deviation: Annotated[
        float | None,
        typer.Option(min=0, help="Its standard deviation between shoppers; absent for a share."),
    ] = None,
    lift: Annotated[
        list[float] | None,
        typer.Option(help="Relative lift to find, such as 0.05; may be repeated."),
    ] = None,
    arms: Annotated[int, typer.Option(min=2, help="Arms of equal size, with the control.")] = 2,
    power: Annotated[
        float, typer.Option(min=0.1, max=0.999, help="Chance of finding a lift that is there.")
    ] = 0.8,
    alpha: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Chance of finding one that is not.")
    ] = 0.05,
    as_json: JsonOption = False,
) -> None:
    """Say how many shoppers find which lift, from a dataset or from a baseline.

    Example: recsys experiment plan shop --metric ctr --lift 0.05

    Example: recsys experiment plan --baseline 0.04 --lift 0.05
    """
    from training.experiment import (  # noqa: PLC0415
        LIFTS,
        PlanOptions,
        plan_from_dataset,
        plan_from_numbers,
    )

    options = PlanOptions(arms, power, alpha, tuple(lift) if lift else LIFTS)
    if (dataset is None) == (baseline is None):
        raise typer.BadParameter("give either DATASET or --baseline")
    if dataset is not None:
        found = plan_from_dataset(dataset, metric, options)
    else:
        found = plan_from_numbers(baseline or 0.0, deviation, options)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    spread = found.spread
    RESULTS.print(
        f"{found.metric}: {spread.mean:.4g}, standard deviation {spread.deviation:.4g} between "
        f"shoppers, {spread.variance_ratio:.0%} of the variance left by what they did before",
        highlight=False,
    )
    for table in _plan_tables(found):
        RESULTS.print(table)


def _plan_tables(found: ExperimentPlanReport) -> list[Table]:
    title = f"Shoppers of {found.arms} arms together, found {found.power:.0%} of the time"
    needed = _plan_table(title, ("lift", "planned end", "any look"))
    for row in found.lifts:
        needed.add_row(f"{row.lift:+.1%}", f"{row.planned_end:,}", f"{row.any_look:,}")
    title = "Lift that the shoppers of so many days find"
    windows = _plan_table(title, ("days", "shoppers", "variance left", "planned end", "any look"))
    for one in found.windows:
        lifts = one.detectable_lift, one.detectable_any_look
        texts = ["unknown" if lift is None else f"{lift:.1%}" for lift in lifts]
        left = f"{one.spread.variance_ratio:.0%}"
        windows.add_row(str(one.days), f"{one.shoppers:,}", left, *texts)
    return [needed, windows] if found.windows else [needed]


def _plan_table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, min_width=60
    )
    for name in columns:
        table.add_column(name, justify="right")
    return table


@app.command()
def interleaving(
    dataset: DatasetArgument,
    name: NameOption,
    *,
    end: EndOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which of two rankings shoppers prefer, from lists that hold both (team draft).

    Example: recsys experiment interleaving shop --experiment ranker
    """
    from training.experiment import report_interleaving  # noqa: PLC0415

    found = report_interleaving(dataset, name, end)
    if as_json:
        print_json(found.model_dump(mode="json") | {"verdict": found.verdict})
    else:
        RESULTS.print(f"{found.lists:,} lists of {found.shoppers:,} shoppers", highlight=False)
        RESULTS.print(found.verdict, highlight=False)
