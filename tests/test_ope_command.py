"""`recsys ope`: answers on the Open Bandit data and on simulated lists, refusals, bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import shared_data
from numpy.typing import NDArray

from recsys.tables import write_dataset
from serving.cli.main import main

Call = Callable[..., int]
Array = NDArray[np.float64]
ITEMS, POSITIONS = 5, 3
LOGGING = np.array([1.0, 0.8, 0.6, 0.5, 0.4])
TARGET = LOGGING[::-1]
CLICK = np.array([0.1, 0.15, 0.2, 0.3, 0.4])


@pytest.fixture
def call() -> Call:
    """Runs `recsys ope`; returns the exit code."""

    def run(*arguments: object) -> int:
        try:
            main(["ope", *map(str, arguments)])
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return run


def bandit_files(folder: Path, campaign: str, logging: str) -> tuple[Path, Path, float]:
    """Decisions of one policy, a table of the other, and what the other earned."""
    rows = pl.read_parquet(shared_data("open_bandit_sample.parquet"))
    rows = rows.filter(pl.col("campaign") == campaign).with_columns(action="item_id")
    log, other = (rows.filter((pl.col("policy") == logging) == own) for own in (True, False))
    if logging == "bts":
        items = rows["action"].n_unique()
        table = pl.DataFrame({"action": range(items), "probability": 1 / items})
    else:
        share = pl.col("len") / pl.col("len").sum().over("position")
        table = other.group_by("position", "action").len().with_columns(probability=share)
    log.select("action", "position", reward="click", propensity="propensity_score").write_parquet(
        folder / "log.parquet"
    )
    table.write_parquet(folder / "target.parquet")
    return (
        folder / "log.parquet",
        folder / "target.parquet",
        float(other["click"].to_numpy().mean()),
    )


@dataclass(frozen=True)
class Case:
    """One direction on one campaign: what the policy logged last earned, and what must come out."""

    campaign: str
    logging: str
    answer: str
    truth: float
    largest: float
    effective: float
    estimates: tuple[float, float, float] | None
    """IPS, its standard error, SNIPS; None where it must refuse."""


CASES = (
    Case("men", "bts", "warn", 0.0046, 178.25, 655.7, (0.003009, 0.000774, 0.003189)),
    Case("women", "bts", "refuse", 0.0046, 21_739, 2.078, None),
    Case("men", "random", "ok", 0.0069, 7.48, 2_869, (0.005656, 0.001398, 0.005740)),
    Case("women", "random", "ok", 0.0046, 6.37, 3_492, (0.005806, 0.001205, 0.005833)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.campaign}-{case.logging}")
def test_open_bandit_data_is_answered_or_refused_as_it_must_be(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: Case
) -> None:
    log, target, earned = bandit_files(tmp_path, case.campaign, case.logging)
    assert call("decisions", log, "--target", target, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == case.answer
    assert earned == pytest.approx(case.truth)
    assert found["overlap"]["largest"] == pytest.approx(case.largest, rel=1e-3)
    assert found["overlap"]["effective"] == pytest.approx(case.effective, rel=1e-3)
    assert found["overlap"]["unlogged"] == 0
    values = {row["method"]: row for row in found["estimates"]}
    if case.estimates is None:
        assert (values, found["gain"]) == ({}, None)
        assert found["overlap"]["mean"] == pytest.approx(3.13, abs=5e-3)
        assert found["verdict"].startswith("No estimate: the 10,000 rows are worth 2.1 rows")
        return
    ips, snips = values["ips"], values["snips"]
    ours = ips["value"], ips["standard_error"], snips["value"]
    assert ours == pytest.approx(case.estimates, abs=5e-7)
    if case.answer == "ok":
        for method in ("ips", "snips", "dr", "switch_dr", "dros"):
            assert values[method]["low"] < case.truth < values[method]["high"], method


def test_items_that_were_never_logged_are_refused(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, target, _ = bandit_files(tmp_path, "men", "random")
    rows = pl.read_parquet(log)
    rows.filter(pl.col("action") > 10).write_parquet(log)
    assert call("decisions", log, "--target", target, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["overlap"]["unlogged"] > 0.1
    assert found["answer"] == "refuse"
    assert "was never logged" in found["verdict"]


def write_decisions(folder: Path, rows: int = 3_000) -> tuple[Path, float]:
    """Decisions in two contexts with the target's probability of the action; and the truth."""
    rng = np.random.default_rng(1)
    context, action = rng.integers(2, size=rows), rng.integers(3, size=rows)
    target = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    chance = np.array([[0.1, 0.2, 0.3], [0.5, 0.4, 0.3]])
    frame = pl.DataFrame(
        {
            "context": context,
            "action": action,
            "reward": (rng.random(rows) < chance[context, action]).astype(int),
            "propensity": 1 / 3,
            "target_probability": target[context, action],
            "cluster": rng.integers(800, size=rows),
        }
    )
    frame.write_parquet(folder / "log.parquet")
    pl.DataFrame(
        {
            "context": np.repeat([0, 1], 3),
            "action": np.tile([0, 1, 2], 2),
            "probability": target.ravel(),
        }
    ).write_parquet(folder / "target.parquet")
    return folder / "log.parquet", float((target * chance).sum() / 2)


def test_probabilities_may_stand_in_the_log_or_depend_on_context(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, truth = write_decisions(tmp_path)
    assert call("decisions", log, "--json") == 0
    alone = json.loads(capsys.readouterr().out)
    assert call("decisions", log, "--target", tmp_path / "target.parquet", "--json") == 0
    whole = json.loads(capsys.readouterr().out)
    assert (alone["headline"], whole["headline"]) == ("snips", "dr")
    assert (alone["overlap"]["unlogged"], whole["overlap"]["unlogged"]) == (None, 0.0)
    ours, same = ({one["method"]: one for one in found["estimates"]} for found in (alone, whole))
    assert ours == {name: same[name] for name in ("ips", "snips", "clipped")}
    assert same["dr"]["standard_error"] < same["ips"]["standard_error"]
    assert all(row["low"] < truth < row["high"] for name, row in same.items() if name != "dm")
    assert whole["clusters"] == 800 or whole["clusters"] > 700


def test_answers_are_printed_for_people(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = write_decisions(tmp_path)
    assert call("decisions", log, "--target", tmp_path / "target.parquet") == 0
    printed = " ".join(capsys.readouterr().out.split())
    for words in ("Can the log answer?", "doubly robust", "The target policy would have earned"):
        assert words in printed


def plackett_luce(weight: Array, lists: Array) -> Array:
    """Probability of each position's item given those above, (n, positions)."""
    own = weight[lists]
    above = np.cumsum(own, axis=1) - own
    return np.asarray(own / (weight.sum() - above))


def write_lists(folder: Path, lists: int = 4_000) -> float:
    """A dataset of lists by `LOGGING`, a table of `TARGET`; the target's true clicks a list."""
    rng = np.random.default_rng(3)
    every = np.array(list(permutations(range(ITEMS), POSITIONS)))
    clicks = CLICK[every] * 0.8 ** np.arange(POSITIONS)
    chance = plackett_luce(LOGGING, every).prod(axis=1)
    drawn = rng.choice(len(every), lists, p=chance)
    clicked = rng.random((lists, POSITIONS)) < clicks[drawn]
    start, rows = datetime(2030, 1, 1, tzinfo=UTC), []
    logged, target = (plackett_luce(weight, every[drawn]) for weight in (LOGGING, TARGET))
    for row, shown in enumerate(every[drawn].tolist()):
        for at, item in enumerate(shown):
            base = {
                "user_id": f"u{row % 700}",
                "item_id": f"i{item}",
                "event_time": start + timedelta(minutes=row),
                "attribution_token": f"t{row}",
            }
            rows.append(
                base
                | {
                    "event_id": f"{row}-{at}",
                    "event_type": "impression",
                    "position": at,
                    "propensity": logged[row, at],
                    "probability": target[row, at],
                }
            )
            if clicked[row, at]:
                late = base["event_time"] + timedelta(seconds=20)  # type: ignore[operator]
                rows.append(
                    base
                    | {"event_id": f"c{row}-{at}", "event_type": "click"}
                    | {"event_time": late}
                )
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        pl.col("event_time").cast(pl.Datetime("us", "UTC")), pl.col("position").cast(pl.Int32)
    )
    shown = frame.filter(pl.col("event_type") == "impression")
    shown.select("event_id", "probability").write_parquet(folder / "target.parquet")
    items = pl.DataFrame({"item_id": [f"i{n}" for n in range(ITEMS)], "title": "thing"})
    write_dataset(folder / "shop", items, [frame.drop("probability")])
    return float(plackett_luce(TARGET, every).prod(axis=1) @ clicks.sum(axis=1))


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    folder = tmp_path_factory.mktemp("lists")
    return folder, write_lists(folder)


def test_lists_of_a_dataset_are_evaluated_by_their_propensities(
    call: Call, lists: tuple[Path, float], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = lists
    options = ["--target", folder / "target.parquet", "--json"]
    assert call("slates", folder / "shop", *options) == 0
    found = json.loads(capsys.readouterr().out)
    values = {row["method"]: row for row in found["estimates"]}
    assert set(values) == {"sips", "rips"}
    for row in values.values():
        assert row["low"] < truth < row["high"]
    assert values["rips"]["standard_error"] < values["sips"]["standard_error"]
    assert found["logged"]["high"] < truth
    assert "more than" in found["verdict"]
    assert (found["positions"], found["clusters"], found["answer"]) == (3, 700, "ok")
    assert call("slates", folder / "shop", *options, "--depth", "1") == 0
    assert json.loads(capsys.readouterr().out)["positions"] == 1


def scores_of(folder: Path, path: Path, weight: Array, temperature: float = 1.0) -> Path:
    """All items as candidates of every list, with scores that give `weight`."""
    tokens = pl.read_parquet(folder / "shop" / "events" / "*.parquet")["attribution_token"].unique()
    score = pl.DataFrame(
        {"item_id": [f"i{n}" for n in range(len(weight))], "score": temperature * np.log(weight)}
    )
    tokens.to_frame().join(score, how="cross").sample(
        fraction=1.0, shuffle=True, seed=1
    ).write_parquet(path)
    return path


def test_scores_give_the_probabilities_that_are_given_otherwise(
    call: Call, lists: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, truth = lists
    assert call("slates", folder / "shop", "--target", folder / "target.parquet", "--json") == 0
    given = json.loads(capsys.readouterr().out)
    path = scores_of(folder, tmp_path / "scores.parquet", TARGET, temperature=0.3)
    options = ["--target", path, "--temperature", "0.3", "--json"]
    assert call("slates", folder / "shop", *options) == 0
    found = json.loads(capsys.readouterr().out)
    ours, theirs = ({row["method"]: row for row in one["estimates"]} for one in (found, given))
    for method in ("sips", "rips"):
        assert ours[method]["value"] == pytest.approx(theirs[method]["value"])
    assert (found["headline"], found["overlap"]["unlogged"]) == ("cascade_dr", 0.0)
    assert ours["cascade_dr"]["low"] < truth < ours["cascade_dr"]["high"]
    assert ours["cascade_dr"]["standard_error"] < ours["rips"]["standard_error"]


def test_candidates_that_were_in_no_list_are_refused(
    call: Call, lists: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = lists
    path = scores_of(folder, tmp_path / "scores.parquet", np.append(TARGET, 0.5))
    assert call("slates", folder / "shop", "--target", path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["overlap"]["unlogged"] == pytest.approx(0.5 / (0.5 + TARGET.sum()))
    assert "was never logged" in found["verdict"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.head(20), "has no candidates for"),
        (lambda t: pl.concat([t, t.head(1)]), "stands twice among the candidates"),
        (lambda t: t.with_columns(score=pl.lit(float("nan"))), "not finite"),
    ],
)
def test_scores_that_cannot_be_meant_end_with_3_and_say_why(
    call: Call,
    lists: tuple[Path, float],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[pl.DataFrame], pl.DataFrame],
    message: str,
) -> None:
    folder, _ = lists
    path = scores_of(folder, tmp_path / "scores.parquet", TARGET)
    change(pl.read_parquet(path)).write_parquet(path)
    assert call("slates", folder / "shop", "--target", path) == 3
    assert message in " ".join(capsys.readouterr().err.split())
    assert call("slates", folder / "shop", "--target", path, "--temperature", "0") == 3


def test_lists_too_far_from_the_target_are_refused_with_the_depth_that_is_not(
    call: Call, lists: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = lists
    table = pl.read_parquet(folder / "target.parquet")
    first = pl.col("event_id").str.ends_with("-0")
    rare = (pl.col("event_id").hash(1) % 40 == 0).cast(pl.Float64)
    sharp = table.with_columns(probability=pl.when(first).then("probability").otherwise(rare))
    sharp.write_parquet(tmp_path / "sharp.parquet")
    target = ["--target", tmp_path / "sharp.parquet"]
    assert call("slates", folder / "shop", *target) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "No estimate" in printed
    assert "the first 1 positions alone can be answered for (--depth)" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("propensity") * 0, "values that are no probability (above 0, at most 1)"),
        (pl.col("propensity").fill_null(2.0) * 4, "such as 1.33"),
        (pl.lit(None, pl.Float64).alias("reward"), "column reward is empty in 3,000 rows"),
        (pl.lit(float("inf")).alias("reward"), "not finite"),
        (pl.lit("x").alias("reward"), "column reward is String, expected Float64"),
        (pl.lit(1.5).alias("target_probability"), "column target_probability has 3,000 values"),
    ],
)
def test_logs_that_cannot_be_meant_end_with_3_and_say_why(
    call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: pl.Expr, message: str
) -> None:
    log, _ = write_decisions(tmp_path)
    pl.read_parquet(log).with_columns(change).write_parquet(log)
    assert call("decisions", log) == 3
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.with_columns(pl.col("probability") / 2), "sum to 1 in every situation"),
        (lambda t: pl.concat([t, t]), "an action stands twice"),
        (lambda t: t.filter(pl.col("context") == 0), "says nothing of"),
        (lambda t: t.rename({"context": "position"}), "depends on position, which the logged"),
        (lambda t: t.drop("probability"), "lacks the column probability"),
        (lambda t: t.clear(), "has no rows"),
    ],
)
def test_targets_that_cannot_be_meant_end_with_3_and_say_why(
    call: Call,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[pl.DataFrame], pl.DataFrame],
    message: str,
) -> None:
    log, _ = write_decisions(tmp_path)
    path = tmp_path / "target.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    assert call("decisions", log, "--target", path) == 3
    assert message in " ".join(capsys.readouterr().err.split())


def test_lists_need_propensities_and_a_target_for_each(
    call: Call, lists: tuple[Path, float], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = lists
    table = pl.read_parquet(folder / "target.parquet")
    table.head(100).write_parquet(tmp_path / "some.parquet")
    assert call("slates", folder / "shop", "--target", tmp_path / "some.parquet") == 3
    assert "says nothing of 11,900 of 12,000 impressions" in capsys.readouterr().err
    assert call("slates", folder / "shop", "--target", tmp_path / "none.parquet") == 3
    assert call("decisions", tmp_path / "none.parquet") == 3
    assert call("slates", folder / "shop") == 2
