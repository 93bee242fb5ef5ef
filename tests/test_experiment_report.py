"""The report of an experiment: its figures, its checks, its verdicts, and what they rest on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tea_tasting as tt
from experiment_shop import START, TestDesign, events_of, last_moment, write_shop
from html_page import Page

from recsys.errors import ConfigurationError, DataError
from training.experiment import (
    ExperimentOptions,
    ExperimentReport,
    experiment_page,
    report_experiment,
)

TEST = ExperimentOptions("test")
BETTER = TestDesign(shoppers=2_000, lifts={"control": 1.0, "new": 1.4}, seed=3)
Change = Callable[[pl.DataFrame], pl.DataFrame]


def report(
    folder: Path, events: pl.DataFrame, options: ExperimentOptions = TEST
) -> ExperimentReport:
    return report_experiment(write_shop(folder / "shop", events), options)


@pytest.fixture(scope="module")
def events() -> pl.DataFrame:
    return events_of(BETTER)


@pytest.fixture(scope="module")
def found(events: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> ExperimentReport:
    return report(tmp_path_factory.mktemp("found"), events)


def shoppers(events: pl.DataFrame) -> pl.DataFrame:
    """One row a shopper, worked out another way: arm, and totals of the experiment."""
    kind = pl.col("event_type")
    during = events.filter(pl.col("event_time") >= START)
    exposed = (
        during.drop_nulls("experiment_arm")
        .group_by("user_id")
        .agg(
            arm=pl.col("experiment_arm").first().str.strip_prefix("test/"),
            since=pl.col("event_time").min(),
        )
    )
    return (
        during.join(exposed, on="user_id")
        .filter(pl.col("event_time") >= pl.col("since"))
        .group_by("user_id")
        .agg(
            variant=(pl.col("arm").first() == "new").cast(pl.Int64),
            shown=(kind == "impression").sum(),
            clicks=(kind == "click").sum(),
            buys=(kind == "purchase").any().cast(pl.Float64),
            spent=(pl.col("price") * pl.col("quantity")).filter(kind == "purchase").sum(),
        )
        .sort("user_id")
    )


def test_figures_equal_those_of_tea_tasting(events: pl.DataFrame, found: ExperimentReport) -> None:
    expected = tt.Experiment(
        ctr=tt.RatioOfMeans("clicks", "shown", equal_var=False),
        conversion=tt.Mean("buys", equal_var=False),
        revenue=tt.Mean("spent", equal_var=False),
    ).analyze(shoppers(events))
    for metric in ("ctr", "conversion", "revenue"):
        row, theirs = found.row("new", metric), expected[metric]
        assert row is not None
        assert (row.control_value, row.arm_value) == pytest.approx(
            (theirs.control, theirs.treatment)
        )
        assert row.difference.p_value == pytest.approx(theirs.pvalue)
        assert (row.difference.low, row.difference.high) == pytest.approx(
            (theirs.effect_size_ci_lower, theirs.effect_size_ci_upper)
        )
        assert row.lift.estimate == pytest.approx(theirs.rel_effect_size)


def test_shoppers_are_counted_by_arm_and_times_are_those_of_the_log(
    events: pl.DataFrame, found: ExperimentReport
) -> None:
    counts = shoppers(events)["variant"].value_counts().sort("variant")["count"].to_list()
    assert [one.shoppers for one in found.sample_ratio.arms] == counts
    assert found.shoppers == sum(counts)
    assert (found.control, found.arms) == ("control", ("new",))
    during = events.filter(pl.col("event_time") >= START)["event_time"]
    assert (found.start, found.end) == (during[0], during[-1])


def test_adjustment_narrows_the_interval_and_days_end_at_the_plain_lift(
    found: ExperimentReport,
) -> None:
    row = found.row("new", "ctr")
    assert row is not None
    assert row.adjusted is not None
    assert row.variance_ratio is not None
    assert 0.4 < row.variance_ratio < 0.85
    assert found.cumulative[-1].lift == row.lift
    assert found.cumulative[-1].day == 9
    assert [one.day for one in found.by_tenure] == list(range(9))
    assert found.pre_days == 28


def test_a_covariate_knows_nothing_of_the_experiment(
    events: pl.DataFrame, found: ExperimentReport, tmp_path: Path
) -> None:
    without = report(tmp_path, events.filter(pl.col("event_time") >= START))
    row, whole = without.row("new", "ctr"), found.row("new", "ctr")
    assert row is not None
    assert whole is not None
    assert (row.adjusted, row.variance_ratio, without.pre_days) == (None, None, 0)
    assert row.lift == whole.lift
    assert any("not adjusted" in note for note in without.notes)


def test_duplicates_order_and_other_experiments_change_nothing(
    events: pl.DataFrame, found: ExperimentReport, tmp_path: Path
) -> None:
    other = pl.concat_str(pl.lit("other/x,"), "experiment_arm", pl.lit(",third/y"))
    changed = pl.concat([events, events.sample(fraction=0.5, seed=1)]).sample(
        fraction=1.0, shuffle=True, seed=2
    )
    again = report(tmp_path, changed.with_columns(experiment_arm=other))
    same = {"dataset": found.dataset}
    assert again.model_copy(update=same) == found


def test_bare_labels_are_of_the_experiment_default(
    events: pl.DataFrame, found: ExperimentReport, tmp_path: Path
) -> None:
    bare = events.with_columns(pl.col("experiment_arm").str.strip_prefix("test/"))
    again = report(tmp_path, bare, ExperimentOptions("default"))
    assert again.metrics == found.metrics
    with pytest.raises(DataError, match="labels without '/' are arms of 'default'"):
        report_experiment(tmp_path / "shop", TEST)


def test_events_from_the_end_on_do_not_count(events: pl.DataFrame, tmp_path: Path) -> None:
    middle = START + timedelta(days=4)
    cut = report(tmp_path / "a", events, replace(TEST, end=middle))
    before = report(tmp_path / "b", events.filter(pl.col("event_time") < middle))
    assert cut.metrics == before.metrics
    assert cut.end < middle < last_moment(BETTER)


def test_sizes_that_do_not_fit_end_the_report_before_any_effect(
    events: pl.DataFrame, tmp_path: Path
) -> None:
    found = report(tmp_path, events, replace(TEST, weights={"control": 0.6, "new": 0.4}))
    (one,) = found.verdicts
    assert one.decision == "stop"
    assert one.text.startswith("Don't read further")
    assert found.stopped
    assert found.metrics == ()
    assert found.segments == ()
    assert found.cumulative == ()
    assert found.by_tenure == ()
    page = experiment_page(found)
    assert 'id="effects"' not in page
    assert "don&#39;t read further" in page
    intended = TestDesign(shoppers=1_500, weights={"control": 0.8, "new": 0.2})
    fits = replace(TEST, weights={"control": 80.0, "new": 20.0})
    assert not report(tmp_path / "fits", events_of(intended), fits).stopped


@pytest.mark.parametrize(("changed", "stops"), [(5, False), (60, True)])
def test_shoppers_in_several_arms_are_left_out_and_too_many_end_the_report(
    changed: int, stops: bool, tmp_path: Path
) -> None:
    design = TestDesign(shoppers=1_000, changed=changed)
    found = report(tmp_path, events_of(design))
    check = found.sample_ratio
    assert 0 < check.changed <= changed
    assert found.shoppers == sum(one.shoppers for one in check.arms) - check.changed
    assert any("several arms are left out" in note for note in found.notes)
    assert (found.stopped, check.not_sticky) == (stops, stops)
    if stops:
        assert "more than one arm" in found.verdicts[0].text


NO_GUARDRAIL = replace(TEST, guardrails=())


@pytest.mark.parametrize(
    ("design", "options", "decision", "words"),
    [
        (BETTER, NO_GUARDRAIL, "ship", "is better than in the control"),
        (BETTER, TEST, "ship", "shoppers who buy and revenue per shopper lost less than 5.0%"),
        (
            replace(BETTER, lifts={"control": 1.4, "new": 1.0}),
            NO_GUARDRAIL,
            "don't ship",
            "is worse than in the control",
        ),
        (
            replace(BETTER, lifts={"control": 1.0, "new": 1.01}),
            NO_GUARDRAIL,
            "keep running",
            "is not shown to differ from the control",
        ),
        (
            replace(BETTER, lifts={"control": 1.0, "new": 1.0}),
            replace(NO_GUARDRAIL, planned_shoppers=1_000),
            "no difference",
            "at the planned end",
        ),
        (replace(BETTER, buys={"new": 0.72}), TEST, "keep running", "may have lost more than"),
        (replace(BETTER, buys={"new": 0.3}), TEST, "don't ship", "got worse"),
        (
            replace(BETTER, buys={"new": 0.5}),
            replace(TEST, planned_shoppers=1_000, margin=0.2),
            "don't ship",
            "got worse",
        ),
    ],
)
def test_verdicts_follow_from_what_is_certain(
    design: TestDesign, options: ExperimentOptions, decision: str, words: str, tmp_path: Path
) -> None:
    (one,) = report(tmp_path, events_of(design), options).verdicts
    assert (one.decision, words in one.text) == (decision, True), one.text
    assert one.would_change


def test_before_the_planned_end_a_fixed_interval_is_no_verdict(tmp_path: Path) -> None:
    design = replace(BETTER, lifts={"control": 1.0, "new": 1.13})
    made = events_of(design)
    running = report(tmp_path / "a", made, NO_GUARDRAIL)
    ended = report(tmp_path / "b", made, replace(NO_GUARDRAIL, planned_shoppers=1_800))
    early = report(tmp_path / "c", made, replace(NO_GUARDRAIL, planned_shoppers=90_000))
    decisions = [one.verdicts[0].decision for one in (running, ended, early)]
    assert decisions == ["keep running", "ship", "keep running"]
    assert "holds only at an end that was planned" in running.verdicts[0].would_change
    assert [one.final for one in (running, ended, early)] == [False, True, False]
    row = running.row("new", "ctr")
    assert row is not None
    assert row.best.low is not None
    assert row.best.always_low is not None
    assert row.best.low > 0 > row.best.always_low


def test_several_arms_are_held_against_one_control(tmp_path: Path) -> None:
    design = TestDesign(shoppers=1_800, lifts={"b": 1.0, "a": 1.0, "c": 1.6})
    found = report(tmp_path, events_of(design))
    assert (found.control, found.arms) == ("a", ("b", "c"))
    assert [one.arm for one in found.verdicts] == ["b", "c"]
    assert {row.arm for row in found.metrics} == {"b", "c"}
    assert any("no arm is named 'control'" in note for note in found.notes)
    chosen = report(tmp_path / "chosen", events_of(design), replace(TEST, control="b"))
    assert (chosen.control, chosen.arms) == ("b", ("a", "c"))
    assert "b" in experiment_page(found)
    holm = [row.guardrail.p_holm for row in found.metrics if row.guardrail is not None]
    plain = [row.guardrail.p_harm for row in found.metrics if row.guardrail is not None]
    assert len(holm) == 4
    assert min(p for p in holm if p is not None) == pytest.approx(
        min(1.0, 4 * min(p for p in plain if p is not None))
    )


def test_segments_are_corrected_together(events: pl.DataFrame, tmp_path: Path) -> None:
    found = report(tmp_path, events, replace(TEST, segments=("country",)))
    names = [(row.segment, row.value) for row in found.segments]
    assert names == [
        ("history", "known before"),
        ("history", "new"),
        ("country", "AU"),
        ("country", "NZ"),
    ]
    sizes = [row.control_shoppers + row.arm_shoppers for row in found.segments]
    assert sizes[0] + sizes[1] == sizes[2] + sizes[3] == found.shoppers
    for row in found.segments:
        assert row.p_bh is not None
        assert row.lift.p_value is not None
        assert row.lift.p_value <= row.p_bh <= 4 * row.lift.p_value


def test_a_lift_that_wears_off_shows_as_a_falling_trend(tmp_path: Path) -> None:
    design = TestDesign(shoppers=3_000, lifts={"control": 1.0, "new": 2.5}, days=12, seed=5)
    made = events_of(design)
    day = (pl.col("event_time") - START).dt.total_days()
    keep = pl.Series(np.random.default_rng(1).random(len(made)))
    # from day to day fewer of the new arm's extra clicks are left
    arm = made.drop_nulls("experiment_arm").select("user_id", "experiment_arm").unique("user_id")
    joined = made.join(arm, on="user_id", how="left", suffix="_own", maintain_order="left")
    lost = (
        (pl.col("event_type") == "click")
        & (pl.col("experiment_arm_own") == "test/new")
        & (day >= 0)
        & (keep < 0.06 * day)
    )
    found = report(tmp_path, joined.filter(~lost).drop("experiment_arm_own"))
    (one,) = found.novelty
    assert one.slope is not None
    assert one.p_value is not None
    assert one.slope < 0
    assert one.p_value < 0.01


def test_the_page_needs_nothing_else_and_json_is_strict(found: ExperimentReport) -> None:
    text = experiment_page(found)
    page = Page(text)
    assert list(page.sections) == ["verdict", "sizes", "effects", "days", "segments", "method"]
    assert len(page.images()) == 3
    links = {one for one in page.addresses if not one.startswith("data:image/png;base64,")}
    assert links == {f"#{name}" for name in page.sections}
    assert "clicks per impression (decides)" in page.sections["effects"]
    assert found.verdicts[0].text in page.sections["verdict"]
    assert text == experiment_page(found)
    document = json.dumps(found.model_dump(mode="json"), allow_nan=False)
    assert ExperimentReport.model_validate_json(document) == found


def test_metrics_that_never_happened_are_left_out_or_refused(
    events: pl.DataFrame, tmp_path: Path
) -> None:
    found = report(tmp_path / "a", events.filter(pl.col("event_type") != "purchase"))
    assert {row.metric for row in found.metrics} == {"ctr"}
    assert any("conversion, revenue" in note for note in found.notes)
    with pytest.raises(DataError, match="choose another one with --primary"):
        report(tmp_path / "b", events, replace(TEST, primary="share"))


def test_rates_of_any_event_can_be_asked_for(events: pl.DataFrame, tmp_path: Path) -> None:
    options = replace(TEST, primary="purchase/click", guardrails=(), others=("click",))
    found = report(tmp_path, events, options)
    row = found.row("new", "purchase/click")
    assert row is not None
    assert row.control_value is not None
    assert 0.2 < row.control_value < 0.4
    assert [one.metric for one in found.metrics] == ["purchase/click", "click"]


def test_purchases_without_a_price_are_named(events: pl.DataFrame, tmp_path: Path) -> None:
    found = report(tmp_path, events.drop("price"))
    assert any("have no price" in note for note in found.notes)
    assert found.row("new", "revenue") is None


ONLY_NEW = pl.col("experiment_arm").is_null() | (pl.col("experiment_arm") == "test/new")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda e: e, ExperimentOptions("nope"), "has no experiment 'nope'; it has test"),
        (lambda e: e.drop("experiment_arm"), TEST, "no column experiment_arm"),
        (lambda e: e.filter(ONLY_NEW), TEST, "all impressions are of the arm 'new'"),
        (
            lambda e: e.filter(pl.col("event_type") == "impression").with_columns(
                event_type=pl.lit("click")
            ),
            TEST,
            "but no impression",
        ),
        (lambda e: e, replace(TEST, control="old"), "has no arm 'old'; it has control, new"),
        (lambda e: e, replace(TEST, weights={"old": 1.0}), "--weight names the arm 'old'"),
        (lambda e: e, replace(TEST, weights={"new": -1.0}), "weights are numbers from 0 on"),
        (lambda e: e, replace(TEST, primary="clikcs"), "no metric 'clikcs'; expected ctr"),
        (lambda e: e, replace(TEST, segments=("town",)), "no column 'town' to segment by"),
        (lambda e: e, replace(TEST, end=START), "but no impression"),
    ],
)
def test_what_cannot_be_answered_says_why(
    events: pl.DataFrame, change: Change, options: ExperimentOptions, message: str, tmp_path: Path
) -> None:
    with pytest.raises((DataError, ConfigurationError), match=message):
        report(tmp_path, change(events), options)


def test_intervals_hold_the_true_lift_of_small_experiments(tmp_path: Path) -> None:
    lift, inside, plain = 0.2, 0, 0
    for seed in range(100):
        design = TestDesign(
            shoppers=500, lifts={"control": 1.0, "new": 1 + lift}, seed=1_000 + seed
        )
        found = report(tmp_path / str(seed), events_of(design), NO_GUARDRAIL)
        row = found.row("new", "ctr")
        assert row is not None
        for effect in (row.best, row.lift):
            assert effect.low is not None
            assert effect.high is not None
        inside += (row.best.low or 0) <= lift <= (row.best.high or 0)
        plain += (row.lift.low or 0) <= lift <= (row.lift.high or 0)
    assert min(inside, plain) >= 91
