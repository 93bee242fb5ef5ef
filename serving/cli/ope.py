"""`recsys ope`: off-policy evaluation from logged propensities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from serving.cli.output import RESULTS, JsonOption, new_app, print_json

if TYPE_CHECKING:
    from training.ope_report import OffPolicyReport, ValueRow

app = new_app()


@app.callback()
def ope() -> None:
    """What another policy would have earned on logged decisions, where the log can tell.

    It refuses, with the reason, where the log can't: too few effective rows, actions that were
    never tried, or propensities that don't fit.
    """


@app.command()
def decisions(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="Parquet, one row a decision.")],
    target: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Parquet of the target policy's probabilities."),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Evaluate single decisions: IPS, SNIPS, clipped, and with --target DM, DR, switch-DR, DRos.

    LOG has the columns action, reward and propensity, and may have position, context and cluster
    (the shopper). TABLE has action and probability for each position and context it depends on;
    without it LOG has a column target_probability, of the action taken.

    Example: recsys ope decisions clicks.parquet --target new_policy.parquet
    """
    from training.ope_decisions import evaluate_decisions  # noqa: PLC0415

    _show(evaluate_decisions(log, target), as_json=as_json)


@app.command()
def slates(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The dataset's folder.")],
    target: Annotated[
        Path, typer.Option(metavar="TABLE", help="Parquet of the target policy, see above.")
    ],
    depth: Annotated[
        int | None, typer.Option(min=1, help="Positions that count; absent: all.")
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Of scores: weights are exp(score / temperature).")
    ] = 1.0,
    *,
    factored: Annotated[
        bool, typer.Option("--factored", help="Probabilities don't depend on the items above.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate the lists of a dataset's impressions: SIPS, RIPS, cascade-DR; factored: IIPS, PI.

    TABLE has the attribution_token, item_id and score of all candidates of each list, for a policy
    that draws them one after the other by exp(score / temperature). Or it has each impression's
    event_id and the policy's probability of its item given the items above; predicted and expected
    of a reward model then add cascade-DR.

    Example: recsys ope slates shop --target scores.parquet --depth 3
    """
    from training.ope_slates import SlateOptions, evaluate_slates  # noqa: PLC0415

    _show(
        evaluate_slates(dataset, target, SlateOptions(depth, temperature, factored)),
        as_json=as_json,
    )


def _show(report: OffPolicyReport, *, as_json: bool) -> None:
    if as_json:
        print_json(report.model_dump(mode="json") | {"verdict": report.verdict})
        return
    RESULTS.print(_overlap_table(report))
    RESULTS.print(_values_table(report))
    RESULTS.print(report.verdict, highlight=False)
    for note in report.notes:
        RESULTS.print(f"note: {note}", highlight=False)


def _overlap_table(report: OffPolicyReport) -> Table:
    found = report.overlap
    table = Table(title="Can the log answer?", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("importance weights")
    table.add_column("", justify="right")
    table.add_row(report.kind, f"{found.rows:,}")
    table.add_row("effective (worth so many of equal weight)", f"{found.effective:,.1f}")
    table.add_row("mean, 1 if all is well", f"{found.mean:.4f} ± {found.mean_error:.4f}")
    names = ("median", "90 %", "99 %", "99.9 %")
    for name, weight in zip(names, found.quantiles, strict=True):
        table.add_row(name, f"{weight:,.3g}")
    table.add_row("largest", f"{found.largest:,.6g}")
    table.add_row("share of all on the top 1 %", f"{found.top_share:.1%}")
    unlogged = "unknown" if found.unlogged is None else f"{found.unlogged:.2%}"
    table.add_row("target's share on what was never logged", unlogged)
    colour = {"ok": "green", "warn": "yellow", "refuse": "red"}[report.answer]
    table.add_row("answer", f"[{colour}]{report.answer}[/]")
    return table


def _values_table(report: OffPolicyReport) -> Table:
    from training.ope_report import METHOD_NAMES  # noqa: PLC0415

    unit = "decision" if report.kind == "decisions" else "list"
    table = Table(title=f"Reward a {unit}", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("")
    for name in ("mean", "standard error", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row("as logged", *_cells(report.logged))
    table.add_section()
    for row in report.estimates:
        name = METHOD_NAMES[row.method]
        table.add_row(f"[bold]{name}[/]" if row.method == report.headline else name, *_cells(row))
    return table


def _cells(row: ValueRow) -> tuple[str, str, str]:
    ends = f"{row.low:.6f} … {row.high:.6f}"
    return f"{row.value:.6f}", f"{row.standard_error:.6f}", ends
