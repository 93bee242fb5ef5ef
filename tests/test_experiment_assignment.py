"""Assignment: the same everywhere, even, independent between salts, with layers and overrides."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from recsys.errors import ConfigurationError
from recsys.experiments import (
    Arm,
    Experiment,
    ExperimentPlan,
    choose,
    join_labels,
    read_labels,
    share_of,
)

AB = (Arm(name="control"), Arm(name="treatment"))
GOLDEN = {
    ("arm:ranker", "u1"): 0.8007591363637996,
    ("arm:ranker", "u2"): 0.8913133742856846,
    ("layer:home", "u1"): 0.45593996807592196,
    ("arm:ranker", "Zoë"): 0.3006052829082424,
    ("", ""): 0.4304816492364817,
}
"""Computed once with `printf 'arm:ranker\\0u1' | sha256sum` and its like; never to change."""

PLAN = ExperimentPlan(
    experiments=(
        Experiment(name="ranker", arms=AB, layer="page", end=0.5),
        Experiment(name="badges", arms=AB, layer="page", start=0.5),
        Experiment(name="mail", arms=(*AB, Arm(name="rest", weight=2.0))),
    ),
    holdout=0.1,
)
USERS = [f"user-{number}" for number in range(20_000)]


def test_shares_are_the_golden_ones() -> None:
    assert {key: share_of(*key) for key in GOLDEN} == GOLDEN


def test_assignment_depends_on_no_process_clock_or_host() -> None:
    code = (
        "from recsys.experiments import Arm, Experiment\n"
        "arms = Arm(name='control'), Arm(name='treatment')\n"
        "one = Experiment(name='ranker', arms=arms)\n"
        "print([one.arm_of(f'user-{n}') for n in range(50)])"
    )
    found = set()
    for seed, zone in (("1", "UTC"), ("2", "Pacific/Auckland")):
        environment = os.environ | {"PYTHONHASHSEED": seed, "TZ": zone}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found.add(done.stdout.strip())
    one = Experiment(name="ranker", arms=AB)
    assert found == {str([one.arm_of(user) for user in USERS[:50]])}


def test_a_million_ids_fall_evenly_and_independently_of_another_salt() -> None:
    first, second = (
        np.array([share_of(salt, str(number)) for number in range(size)])
        for salt, size in (("arm:a", 1_000_000), ("arm:b", 200_000))
    )
    counts = np.histogram(first, bins=100, range=(0, 1))[0]
    assert scipy.stats.chisquare(counts).pvalue > 0.001
    table = np.histogram2d(first[:200_000], second, bins=10, range=[[0, 1], [0, 1]])[0]
    assert scipy.stats.chi2_contingency(table).pvalue > 0.001


def test_weights_are_met_and_ends_belong_to_the_next_arm() -> None:
    assert [choose(share, (1.0, 0.0, 3.0)) for share in (0.0, 0.2499, 0.25, 0.9999)] == [0, 0, 2, 2]
    assert choose(1 - 2.0**-53, (0.1, 0.2, 0.0)) == 1
    weighted = Experiment(name="w", arms=(Arm(name="a"), Arm(name="b", weight=9.0)))
    share = np.mean([weighted.arm_of(user) == "b" for user in USERS])
    assert share == pytest.approx(0.9, abs=0.01)


def test_experiments_of_a_layer_share_nobody_and_others_are_independent() -> None:
    found = [PLAN.assign(user).arms for user in USERS]
    both = [one for one in found if "ranker" in one and "badges" in one]
    assert both == []
    table = np.zeros((2, 3))
    for one in found:
        if "ranker" in one:
            place = ["control", "treatment"].index(one["ranker"])
            table[place, ["control", "treatment", "rest"].index(one["mail"])] += 1
    assert table.sum() == pytest.approx(0.45 * len(USERS), rel=0.05)
    assert scipy.stats.chi2_contingency(table).pvalue > 0.001


def test_held_shoppers_are_in_no_experiment_and_labelled() -> None:
    assigned = [PLAN.assign(user) for user in USERS]
    held = [one for one in assigned if one.labels["holdout"] == "held"]
    assert len(held) / len(USERS) == pytest.approx(0.1, abs=0.01)
    assert all(one.arms == {} for one in held)
    assert all(one.arms for one in assigned if one.labels["holdout"] == "exposed")
    assert (
        ExperimentPlan(experiments=PLAN.experiments)
        .assign("user-1")
        .labels.keys()
        .isdisjoint({"holdout"})
    )


def test_overrides_serve_an_arm_without_being_counted() -> None:
    held = next(user for user in USERS if PLAN.assign(user).labels["holdout"] == "held")
    forced = Experiment(name="ranker", arms=AB, end=0.0001, overrides={held: "treatment"})
    found = ExperimentPlan(experiments=(forced,), holdout=0.1).assign(held)
    assert found.arms == {"ranker": "treatment"}
    assert found.labels == {"holdout": "held"}


def test_another_experiment_leaves_assignments_as_they_are() -> None:
    alone = ExperimentPlan(experiments=(PLAN.experiments[0],), holdout=0.1)
    for user in USERS[:500]:
        assert alone.assign(user).arms.get("ranker") == PLAN.assign(user).arms.get("ranker")


def test_labels_are_read_as_they_are_written() -> None:
    text = join_labels({"ranker": "treatment", "badges": "a"})
    assert text == "badges/a,ranker/treatment"
    assert read_labels(text) == {"ranker": "treatment", "badges": "a"}
    assert read_labels(" b , ranker/x,ranker/y,") == {"default": "b", "ranker": "y"}
    assert read_labels("") == {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "a/b", "arms": AB}, "letters, digits"),
        ({"name": "a", "arms": (AB[0], AB[0])}, "two arms have one name"),
        ({"name": "a", "arms": (Arm(name="x", weight=0.0),)}, "no arm has a weight"),
        ({"name": "a", "arms": AB, "start": 0.5, "end": 0.5}, "which is nobody"),
        ({"name": "a", "arms": AB, "overrides": {"u": "c"}}, "overrides to arms"),
    ],
)
def test_experiments_that_cannot_run_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Experiment.model_validate(wrong)


def test_plans_that_cannot_run_are_refused() -> None:
    one = Experiment(name="a", arms=AB, layer="page", end=0.6)
    other = Experiment(name="b", arms=AB, layer="page", start=0.5)
    with pytest.raises(ConfigurationError, match="same shares of layer page"):
        ExperimentPlan(experiments=(one, other))
    with pytest.raises(ConfigurationError, match="names of their own"):
        ExperimentPlan(experiments=(one, one))
    with pytest.raises(ConfigurationError, match="names of their own"):
        ExperimentPlan(experiments=(Experiment(name="holdout", arms=AB),))
    with pytest.raises(ValidationError):
        Arm(name="a", weight=-1.0)
