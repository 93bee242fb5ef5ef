"""`recsys experiment`: report, plan and interleaving on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from experiment_shop import TestDesign, events_of, write_shop

from recsys.experiments import power_of_t_test, team_draft
from recsys.tables import write_dataset
from serving.cli.main import main

Call = Callable[..., int]


@pytest.fixture
def call() -> Call:
    """Runs `recsys experiment`; returns the exit code."""

    def run(*arguments: object) -> int:
        try:
            main(["experiment", *map(str, arguments)])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    design = TestDesign(shoppers=1_200, lifts={"control": 1.0, "new": 1.4})
    return write_shop(tmp_path_factory.mktemp("experiment") / "shop", events_of(design))


def test_report_is_written_beside_the_dataset_and_printed(
    call: Call, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("report", shop, "--experiment", "test", "--segment", "country") == 0
    folder = shop / "reports" / "test"
    assert sorted(path.name for path in folder.iterdir()) == ["experiment.html", "experiment.json"]
    printed = " ".join(capsys.readouterr().out.split())
    for words in (
        "Shoppers by arm",
        "as intended",
        "Lifts against the control",
        "Guardrails",
        "country: NZ",
        "is better than in the control",
        "What would change it",
    ):
        assert words in printed


def test_json_is_one_object_on_stdout(
    call: Call, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "er"
    options = ["--experiment", "test", "--primary", "conversion", "--guardrail", "ctr"]
    more = ["--metric", "revenue", "--margin", "0.1", "--planned-shoppers", "500", "--out", out]
    assert call("report", shop, *options, *more, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((out / "experiment.json").read_text(encoding="utf-8"))
    files = {"report": str(out / "experiment.html"), "data": str(out / "experiment.json")}
    assert printed == written | files
    assert [(row["metric"], row["role"]) for row in printed["metrics"]] == [
        ("conversion", "primary"),
        ("ctr", "guardrail"),
        ("revenue", "other"),
    ]
    assert printed["final"] is True
    assert printed["metrics"][1]["guardrail"]["margin"] == 0.1


def test_sizes_that_do_not_fit_are_said_first(
    call: Call, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = ["--weight", "control=0.9", "--weight", "new=0.1", "--out", tmp_path]
    assert call("report", shop, "--experiment", "test", *weights) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Don't read further" in printed
    assert "Lifts against" not in printed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--experiment", "nope"], 3, "has no experiment 'nope'; it has test"),
        (["--experiment", "test", "--control", "old"], 3, "has no arm 'old'"),
        (["--experiment", "test", "--out", "/dev/null/x"], 3, "choose another folder with --out"),
        ([], 2, "--experiment"),
        (["--experiment", "test", "--weight", "control"], 2, "--weight control=0.9"),
        (["--experiment", "test", "--to", "soon"], 2, "no ISO 8601 time"),
        (["--experiment", "test", "--margin", "0"], 2, "--margin"),
    ],
)
def test_wrong_usage_ends_with_2_and_failures_with_3(
    call: Call,
    shop: Path,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("report", shop, *arguments) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_plans_from_a_baseline_reach_the_wanted_power(
    call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("plan", "--baseline", "0.04", "--lift", "0.05", "--power", "0.9", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["lifts"]
    each = row["planned_end"] / 2
    effect = 0.05 * 0.04 / np.sqrt(0.04 * 0.96)
    assert power_of_t_test(effect, each, each) == pytest.approx(0.9, abs=1e-4)
    assert 1.5 < row["any_look"] / row["planned_end"] < 2.2
    assert call("plan", "--baseline", "12", "--deviation", "30", "--arms", "3") == 0
    assert "Shoppers of 3 arms together" in capsys.readouterr().out


def test_plans_from_a_dataset_measure_the_metric_and_what_was_before(
    call: Call, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("plan", shop, "--metric", "ctr", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["days"] for one in found["windows"]] == [7, 14]
    assert 0.1 < found["spread"]["mean"] < 0.25
    assert 0.4 < found["windows"][0]["spread"]["variance_ratio"] < 0.95
    lifts = [row["planned_end"] for row in found["lifts"]]
    assert lifts == sorted(lifts, reverse=True)
    window = found["windows"][-1]
    assert window["detectable_lift"] < window["detectable_any_look"]
    assert call("plan", shop, "--metric", "revenue") == 0
    assert "variance left" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "either DATASET or --baseline"),
        (["--baseline", "0"], 3, "must not be 0"),
        (["--baseline", "3"], 3, "--deviation"),
        (["--baseline", "0.1", "--lift", "0"], 3, "can't be planned for"),
        (["--baseline", "0.1", "--arms", "1"], 2, "--arms"),
    ],
)
def test_plans_that_cannot_be_made_say_why(
    call: Call,
    arguments: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call("plan", *arguments) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def interleaved_events(chances: dict[str, float], lists: int = 800) -> pl.DataFrame:
    """Lists drafted by a ranking of good items first and its reverse, with clicks."""
    rng = np.random.default_rng(2)
    items = [f"i{number}" for number in range(10)]
    chance = dict(zip(items, np.linspace(chances["old"], chances["new"], 10), strict=True))
    rows: list[dict[str, object]] = []
    for row in range(lists):
        drafted = team_draft(items, items[::-1], rng.random(6) < 0.5)
        for at, (item, team) in enumerate(zip(drafted.items, drafted.team, strict=True)):
            time = datetime(2030, 1, 1, tzinfo=UTC) + timedelta(minutes=3 * row)
            base = {
                "user_id": f"u{row % 150}",
                "item_id": item,
                "attribution_token": f"t{row}",
            }
            label = f"mix/{('old', 'new')[team]}"
            shown = {"event_id": f"{row}-{at}", "event_type": "impression", "event_time": time}
            rows.append(base | shown | {"experiment_arm": label})
            if rng.random() < chance[item]:
                late = time + timedelta(seconds=30)
                done = {"event_id": f"c{row}-{at}", "event_type": "click", "event_time": late}
                rows.append(base | done)
    return pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("event_time").cast(pl.Datetime("us", "UTC"))
    )


def write_lists(folder: Path, events: pl.DataFrame) -> Path:
    items = pl.DataFrame({"item_id": events["item_id"].unique().sort(), "title": "thing"})
    write_dataset(folder, items, [events])
    return folder


def test_interleaved_lists_tell_which_ranking_is_preferred(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = interleaved_events({"old": 0.1, "new": 0.3})
    folder = write_lists(tmp_path / "shop", events)
    assert call("interleaving", folder, "--experiment", "mix", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["first"], found["second"], found["lists"]) == ("new", "old", 800)
    assert found["preferred"] == "first"
    assert found["first_wins"] + found["second_wins"] + found["ties"] == 800
    assert found["shoppers"] == 150
    assert found["verdict"].startswith("Shoppers prefer new")
    assert call("report", folder, "--experiment", "mix") == 3
    assert "use `recsys experiment interleaving`" in capsys.readouterr().err
    equal = write_lists(tmp_path / "equal", interleaved_events({"old": 0.2, "new": 0.2}))
    assert call("interleaving", equal, "--experiment", "mix") == 0
    assert "No preference is shown" in capsys.readouterr().out


def test_interleaving_refuses_an_experiment_of_whole_lists(
    call: Call, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("interleaving", shop, "--experiment", "test") == 3
    assert "use `recsys experiment report`" in capsys.readouterr().err


def test_a_file_of_experiments_is_checked_and_told_in_shares(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "experiments.toml"
    file.write_text(
        'holdout = 0.1\n[[experiments]]\nname = "ranker"\nend = 0.8\narms = [{ name = "old" }, '
        '{ name = "new", ranker = "popularity", weight = 3 }]\n'
        '[[experiments]]\nname = "mixed"\ninterleaved = true\n'
        'arms = [{ name = "a" }, { name = "b", bundle = "v000012" }]\n',
        encoding="utf-8",
    )
    assert call("check", file, "--json") == 0
    arms = json.loads(capsys.readouterr().out)["arms"]
    assert [(row["arm"], row["serves"]) for row in arms] == [
        ("old", "as without"),
        ("new", "ranker popularity"),
        ("a", "interleaved"),
        ("b", "bundle v000012, interleaved"),
    ]
    assert [row["share"] for row in arms] == pytest.approx([0.18, 0.54, 0.9, 0.9])
    assert call("check", file) == 0
    assert "54.0%" in capsys.readouterr().out
    file.write_text("holdout = 2", encoding="utf-8")
    assert call("check", file) == 3
    assert "holdout" in capsys.readouterr().err
