"""The LightGBM ranker: learns, explains, survives a round trip, refuses what it can't read."""

from __future__ import annotations

import ctypes
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from recsys.config import RankerConfig
from recsys.errors import ModelError
from recsys.ranker import FitInputs, Ranker, TieredRanker, prediction

NAMES = ("signal", "noise", "weak", "unknown")
GROUPS = {"signal": "text", "noise": "price", "weak": "text", "unknown": "user"}
CONFIG = RankerConfig(
    objectives=("lambdarank", "rank_xendcg"),
    rounds=30,
    early_stopping_rounds=10,
    learning_rate=0.05,
    num_leaves=7,
    min_child_samples=5,
    feature_fraction=1.0,
    bagging_fraction=1.0,
)


def fit_inputs(seed: int = 0, requests: int = 60) -> FitInputs:
    """Requests in which the first column, and a little the third, decides what is taken."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 15, requests)
    values = rng.standard_normal((sizes.sum(), 4)).astype(np.float32)
    values[:, 3] = np.nan
    taste = values[:, 0] + 0.3 * values[:, 2] + 0.3 * rng.standard_normal(len(values))
    labels = (taste > 0.8).astype(np.int64) + (taste > 1.6)
    held_back = rng.random(requests) < 0.3
    own = rng.random(len(values)) < 0.2
    unseen = np.zeros(requests, np.bool_)
    return FitInputs(values, NAMES, GROUPS, sizes, labels, held_back, own, unseen)


@pytest.fixture(scope="module")
def ranker() -> Ranker:
    return Ranker.fit(fit_inputs(), CONFIG, seed=3, threads=2)


def fresh(rows: int = 40) -> NDArray[np.float32]:
    return np.random.default_rng(9).standard_normal((rows, 4)).astype(np.float32)


def test_it_learns_what_decides(ranker: Ranker) -> None:
    values = fresh(400)
    assert np.corrcoef(ranker.predict(values), values[:, 0])[0, 1] > 0.7
    _, judge = fit_inputs().sides()
    assert TieredRanker(ranker).judged(judge).mean() > 0.8
    assert set(ranker.rounds) == {"lambdarank", "rank_xendcg"}
    assert all(1 <= rounds <= 30 for rounds in ranker.rounds.values())
    assert next(iter(ranker.importance())) == "signal"
    assert ranker.importance()["unknown"] == 0


def test_the_same_inputs_and_seed_give_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Ranker.fit(fit_inputs(), CONFIG, seed=3, threads=2).save(tmp_path / name)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert set(files[0]) == {"lambdarank.txt", "rank_xendcg.txt", "features.json"}


def test_a_score_does_not_depend_on_the_other_rows(ranker: Ranker) -> None:
    values = fresh()
    alone = [ranker.predict(values[row : row + 1])[0] for row in range(len(values))]
    np.testing.assert_array_equal(ranker.predict(values), alone)


def test_the_trees_do_not_see_held_back_requests() -> None:
    given = fit_inputs()
    upside_down = given.labels.max() - given.labels
    held_back = np.repeat(given.held_back, given.sizes)
    config = CONFIG.model_copy(update={"rounds": 1})
    values = fresh()
    other = replace(given, labels=np.where(held_back, upside_down, given.labels))
    one, two = (Ranker.fit(i, config, seed=3, threads=1) for i in (given, other))
    np.testing.assert_array_equal(one.predict(values), two.predict(values))
    first, second = (TieredRanker(one).judged(i.sides()[1]).mean() for i in (given, other))
    assert first != second


def test_a_request_teaches_the_order_without_own_items_too() -> None:
    given = fit_inputs()
    nothing = replace(given, own=np.zeros_like(given.own))
    one, two = (Ranker.fit(i, CONFIG, seed=3, threads=1) for i in (given, nothing))
    assert (one.predict(fresh()) != two.predict(fresh())).any()
    left = given.where(~given.own)
    assert left.sizes.sum() == len(left.labels) == (~given.own).sum()
    np.testing.assert_array_equal(left.values, given.values[~given.own])
    everything, without = given, left
    learn, judge = given.sides()
    twice = np.bincount(given.request, given.own, minlength=len(given.sizes)) > 0
    expected = everything.useful().sum() + (without.useful() & twice).sum()
    assert len(learn.sizes) + len(judge.sizes) == expected
    all_own = replace(given, own=np.ones_like(given.own))
    assert not all_own.where(~all_own.own).useful().any()
    assert Ranker.fit(all_own, CONFIG, seed=3, threads=1).rounds["lambdarank"] >= 1


def test_contributions_and_groups_sum_to_the_score(ranker: Ranker) -> None:
    values = fresh()
    score = ranker.predict(values)
    contributions = ranker.contributions(values)
    assert contributions.shape == (40, 5)
    np.testing.assert_allclose(contributions.sum(axis=1), score, atol=1e-9)
    explained = ranker.explain(values)
    assert set(explained) == {"text", "price", "user", "base"}
    np.testing.assert_allclose(np.sum(list(explained.values()), axis=0), score, atol=1e-9)
    np.testing.assert_allclose(explained["text"], contributions[:, 0] + contributions[:, 2])


def test_threads_change_no_score(ranker: Ranker) -> None:
    values = fresh(1_000)
    alone = ranker.predict(values)
    with ThreadPoolExecutor(4) as callers:
        wanted = [1, 2, 3, 7, 64] * 20
        for threads, score in zip(
            wanted, callers.map(lambda n: ranker.predict(values, n), wanted), strict=True
        ):
            np.testing.assert_array_equal(score, alone, err_msg=f"{threads} threads")


def test_calls_that_overlap_leave_lightgbm_one_number_of_threads(ranker: Ranker) -> None:
    """LightGBM has one such number a process: changed beside a call, it ends the process."""
    number = ctypes.c_int.in_dll(lightgbm.basic._LIB, "LGBM_DEFAULT_NUM_THREADS")
    values = fresh(1_000)
    ranker.predict(values, 3)
    assert number.value == 3
    with prediction.CALLS.using(2):
        ranker.predict(values, 4)
        assert number.value == 2
        ranker.contributions(values)
        assert number.value == 2
        ranker.predict(fresh(1), 4)
        assert number.value == 2
    ranker.predict(values, 4)
    assert number.value == 4
    ranker.contributions(values)
    assert number.value == 1


def test_no_candidates_have_no_scores(ranker: Ranker) -> None:
    nothing = fresh(0)
    assert ranker.predict(nothing).shape == (0,)
    assert ranker.contributions(nothing).shape == (0, 5)
    assert {len(values) for values in ranker.explain(nothing).values()} == {0}


def test_features_of_another_width_are_refused(ranker: Ranker) -> None:
    with pytest.raises(ModelError, match=r"shape \(40, 3\), but the ranker reads 4"):
        ranker.predict(fresh()[:, :3])


def test_a_saved_ranker_scores_and_explains_as_before(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    again = Ranker.load(tmp_path)
    values = fresh()
    np.testing.assert_array_equal(again.predict(values), ranker.predict(values))
    np.testing.assert_array_equal(again.contributions(values), ranker.contributions(values))
    assert (again.names, again.groups, again.rounds) == (
        ranker.names,
        ranker.groups,
        ranker.rounds,
    )


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.6, 0.9])
def test_a_model_cut_short_is_an_error_not_the_end_of_the_process(
    ranker: Ranker, tmp_path: Path, share: float
) -> None:
    ranker.save(tmp_path)
    text = (tmp_path / "lambdarank.txt").read_text()
    (tmp_path / "lambdarank.txt").write_text(text[: int(len(text) * share)])
    with pytest.raises(ModelError, match="no sound LightGBM"):
        Ranker.load(tmp_path)


def test_a_model_with_a_line_lost_is_refused(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    lines = (tmp_path / "lambdarank.txt").read_text().splitlines(keepends=True)
    lost = next(row for row, line in enumerate(lines) if line.startswith("left_child"))
    (tmp_path / "lambdarank.txt").write_text("".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(ModelError, match="no sound LightGBM"):
        Ranker.load(tmp_path)


def test_a_schema_of_other_features_is_refused(ranker: Ranker, tmp_path: Path) -> None:
    ranker.save(tmp_path)
    schema = json.loads((tmp_path / "features.json").read_text())
    schema["names"][0] = "other"
    schema["groups"]["other"] = schema["groups"].pop("signal")
    (tmp_path / "features.json").write_text(json.dumps(schema))
    with pytest.raises(ModelError, match=r"missing \['signal'\], unexpected \['other'\]"):
        Ranker.load(tmp_path)


def test_a_missing_or_unreadable_schema_is_refused(ranker: Ranker, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't read the ranker"):
        Ranker.load(tmp_path)
    ranker.save(tmp_path)
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(ModelError, match="can't read the ranker"):
        Ranker.load(tmp_path)


def test_requests_that_teach_nothing_are_refused() -> None:
    given = fit_inputs()
    with pytest.raises(ModelError, match="0 held back"):
        Ranker.fit(replace(given, held_back=np.zeros(60, np.bool_)), CONFIG, seed=0, threads=1)
    with pytest.raises(ModelError, match="0 requests to learn from"):
        Ranker.fit(replace(given, labels=np.zeros_like(given.labels)), CONFIG, seed=0, threads=1)


def test_shapes_that_disagree_are_refused() -> None:
    given = fit_inputs()
    with pytest.raises(ModelError, match="59 held-back marks"):
        Ranker.fit(replace(given, held_back=given.held_back[1:]), CONFIG, seed=0, threads=1)
