"""An experiment's verdict in words for who decides, and what would change it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from training.experiment.report import (
    Decision,
    EffectRow,
    GuardrailRow,
    MetricRow,
    SampleRatioRow,
    Verdict,
)

HARM_LEVEL: Final = 0.05
"""Corrected p-values of guardrails up to it count as harm."""


def stopped(check: SampleRatioRow, arm: str) -> Verdict | None:
    """What stands instead of any figure where the assignment is broken; None where it is not."""
    if check.mismatch:
        sizes = ", ".join(
            f"{one.arm} {one.shoppers:,} (expected {one.expected:,.0f})" for one in check.arms
        )
        return Verdict(
            arm=arm,
            decision="stop",
            text=(
                f"Don't read further: the arms don't have the sizes they should have ({sizes}; "
                f"p {p_text(check.p_value)}). Shoppers went missing or were counted in one arm "
                "more than in another, so any difference may come from who is counted."
            ),
            would_change=(
                "Find where shoppers are lost: assignment, logging, redirects, bots, an arm that "
                "fails or is slow. If the arms were meant to differ in size, give --weight."
            ),
        )
    if check.not_sticky:
        return Verdict(
            arm=arm,
            decision="stop",
            text=(
                f"Don't read further: {check.changed:,} shoppers ({check.changed_share:.1%}) were "
                "seen in more than one arm. What they did can't be put down to one of them."
            ),
            would_change="Make the assignment sticky by shopper, and start again under a new name.",
        )
    return None


def verdict(rows: Sequence[MetricRow], *, final: bool) -> Verdict:
    """What to do about one arm.

    Args:
        rows: the arm's metrics, one of them primary.
        final: whether fixed intervals count; before, always-valid ones do.
    """
    primary = next(row for row in rows if row.role == "primary")
    guardrails = [(row, row.guardrail) for row in rows if row.guardrail is not None]
    hurt = [row for row, guardrail in guardrails if _hurts(guardrail, final=final)]
    open_ones = [(row, one) for row, one in guardrails if one.outcome == "inconclusive"]
    held = f"{_sentence(primary, final=final)} {_guardrail_sentence(guardrails)}".strip()
    direction = _direction(primary, final=final)
    decision: Decision
    if hurt:
        names = " and ".join(row.title for row in hurt)
        decision, change = "don't ship", f"Repair what makes {names} worse, and test again."
        held = f"{held} {names[0].upper()}{names[1:]} got worse."
    elif direction < 0:
        decision = "don't ship"
        change = "Nothing in this experiment: another arm has to be tested."
    elif direction > 0 and not open_ones:
        decision = "ship"
        change = (
            "A guardrail that turns worse, or a lift that fades with the days since exposure "
            "(see the figure by days)."
        )
    elif direction > 0:
        decision, change = "keep running", _guardrails_need(open_ones)
    else:
        decision = "no difference" if final else "keep running"
        change = _primary_needs(primary, final=final)
    return Verdict(arm=primary.arm, decision=decision, text=held, would_change=change)


def _hurts(guardrail: GuardrailRow, *, final: bool) -> bool:
    """Beyond the margin for sure; at the planned end also any loss that is certain."""
    certain = guardrail.p_holm is not None and guardrail.p_holm <= HARM_LEVEL
    return guardrail.outcome == "worse" or (final and certain and guardrail.outcome != "passed")


def _direction(row: MetricRow, *, final: bool) -> int:
    """1 where the metric got better for sure, -1 where worse, 0 where neither is known."""
    ends = row.best.ends(final=final)
    if ends is None:
        return 0
    sign = 1 if row.higher_is_better else -1
    return sign if ends[0] > 0 else -sign if ends[1] < 0 else 0


def _sentence(row: MetricRow, *, final: bool) -> str:
    """The primary metric in words."""
    best = row.best
    ends = best.ends(final=final)
    title = f"{row.title[0].upper()}{row.title[1:]}"
    if ends is None or best.estimate is None:
        return (
            f"{title}: no lift can be given, because the control has none at all or nothing varies."
        )
    values = f"{value_text(row, row.control_value)} to {value_text(row, row.arm_value)}"
    interval = f"95 % interval {percent(ends[0])} to {percent(ends[1])}"
    kind = "at the planned end" if final else "valid at any look"
    how = "" if row.adjusted is None else ", adjusted for what shoppers did before"
    direction = _direction(row, final=final)
    if direction:
        claim = "is better" if direction > 0 else "is worse"
    else:
        claim = "is not shown to differ"
    return (
        f"{title} {claim} than in the control: {values}, a lift of {percent(best.estimate)}{how} "
        f"({interval}, {kind})."
    ).replace("differ than in", "differ from")


def _guardrail_sentence(guardrails: Sequence[tuple[MetricRow, GuardrailRow]]) -> str:
    if not guardrails:
        return "There is no guardrail."
    by_outcome: dict[str, list[str]] = {}
    for row, one in guardrails:
        by_outcome.setdefault(one.outcome, []).append(row.title)
    margin = f"{guardrails[0][1].margin:.1%}"
    words = {
        "passed": f"lost less than {margin}",
        "inconclusive": f"may have lost more than {margin}",
        "worse": f"lost more than {margin}",
    }
    parts = [f"{' and '.join(by_outcome[key])} {words[key]}" for key in words if key in by_outcome]
    return f"Guardrails: {'; '.join(parts)}."


def _guardrails_need(open_ones: Sequence[tuple[MetricRow, GuardrailRow]]) -> str:
    needs = [
        f"{row.title}: about {one.shoppers_needed:,} shoppers in both arms"
        if one.shoppers_needed is not None
        else f"{row.title}: its estimate is beyond the margin, more shoppers are to show whether "
        "that is chance"
        for row, one in open_ones
    ]
    return (
        "More shoppers, until the guardrails are clear, if the estimates stay as they are ("
        + "; ".join(needs)
        + "); or a wider margin, if more of a loss is acceptable (--margin)."
    )


def _primary_needs(row: MetricRow, *, final: bool) -> str:
    best = row.best
    smallest = (
        f"With so many shoppers a true lift of {row.detectable_lift:.1%} would be found in 80 of "
        "100 experiments. "
        if row.detectable_lift is not None
        else ""
    )
    needed = _shoppers_needed(row, best, final=final)
    more = (
        f"About {needed:,} shoppers in both arms would make a lift of {percent(best.estimate)} "
        "certain, if it is one. "
        if needed is not None and best.estimate is not None
        else ""
    )
    peek = ""
    if not final and best.low is not None and best.high is not None and not _spans_zero(best):
        peek = (
            "The fixed interval leaves 0 out already, but it holds only at an end that was "
            "planned before (--planned-shoppers). "
        )
    return f"{smallest}{more}{peek}Only a larger effect or more shoppers change this verdict."


def _spans_zero(effect: EffectRow) -> bool:
    return effect.low is None or effect.high is None or effect.low <= 0 <= effect.high


def _shoppers_needed(row: MetricRow, best: EffectRow, *, final: bool) -> int | None:
    ends = best.ends(final=final)
    if ends is None or not best.estimate:
        return None
    half = (ends[1] - ends[0]) / 2
    size = row.control_shoppers + row.arm_shoppers
    return ceil(size * max(1.0, (half / best.estimate) ** 2))


def percent(share: float | None) -> str:
    """A signed percentage with one decimal."""
    return "unknown" if share is None else f"{share:+.1%}".replace("-", "\N{MINUS SIGN}")


def value_text(row: MetricRow, value: float | None) -> str:
    """A metric's value: a percentage for shares, else with four figures."""
    if value is None:
        return "unknown"
    return f"{value:.2%}" if row.percent else f"{value:,.4g}"


def p_text(p_value: float | None) -> str:
    """`= 0.012`, or `< 0.001`."""
    if p_value is None:
        return "unknown"
    return f"= {p_value:.3f}" if p_value >= 0.001 else "< 0.001"  # noqa: PLR2004
