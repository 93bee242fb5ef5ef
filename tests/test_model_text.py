"""LightGBM models are checked before LightGBM, which trusts what it reads, reads them."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import lightgbm
import numpy as np
import pytest

from recsys.ranker.model_text import UnsoundModelError, check_model_text

SURVIVES = """
import json, sys
import lightgbm, numpy
for text in json.load(sys.stdin):
    try:
        booster = lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError:
        continue
    booster.predict(numpy.zeros((1, booster.num_feature())), num_threads=1)
print("alive")
"""


@pytest.fixture(scope="module")
def model() -> str:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(400, 4))
    values[rng.random(values.shape) < 0.1] = np.nan
    labels = np.nan_to_num(values[:, 0]) + np.nan_to_num(values[:, 1]) ** 2
    settings = {"verbosity": -1, "num_leaves": 7, "num_threads": 1, "seed": 3}
    data = lightgbm.Dataset(values, labels, feature_name=["price", "age", "text", "rank"])
    text: str = lightgbm.train(settings, data, num_boost_round=5).model_to_string()
    return text


def test_what_lightgbm_writes_is_sound(model: str) -> None:
    check_model_text(model)


def test_a_split_of_the_known_from_the_missing_is_sound() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(400, 1))
    values[rng.random(400) < 0.3] = np.nan
    data = lightgbm.Dataset(values, np.isnan(values[:, 0]).astype(float))
    settings = {"verbosity": -1, "num_threads": 1, "num_leaves": 2}
    model = lightgbm.train(settings, data, num_boost_round=2).model_to_string()
    assert not np.isfinite(float(numbers_of(model, "threshold")[0]))
    check_model_text(model)


def test_trees_of_one_leaf_are_sound() -> None:
    data = lightgbm.Dataset(np.zeros((30, 2)), np.ones(30))
    booster = lightgbm.train({"verbosity": -1, "num_threads": 1}, data, num_boost_round=3)
    check_model_text(booster.model_to_string())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\nsplit_feature=", "\nsplit_feature=9 ", "cut short|split_feature: expected 6"),
        ("num_leaves=7", "num_leaves=8", "expected 8|expected 7"),
        ("num_cat=0", "num_cat=1", "num_cat is 1"),
        ("is_linear=0", "is_linear=1", "is_linear is 1"),
        ("num_class=1", "num_class=2", "num_class is 2"),
        ("max_feature_idx=3", "max_feature_idx=4", "does not name 5 features"),
        ("Tree=1\n", "Tree=2\n", "tree 1 is not where"),
        ("end of trees", "end of threes", "not as long as"),
    ],
)
def test_what_does_not_add_up_is_refused(model: str, old: str, new: str, said: str) -> None:
    assert old in model
    with pytest.raises(UnsoundModelError, match=said):
        check_model_text(model.replace(old, new, 1))


def changed_numbers(model: str, name: str, numbers: list[str]) -> str:
    """The first tree's list `name` with other numbers, its size in the header as it is then."""
    line = next(line for line in model.splitlines() if line.startswith(f"{name}="))
    changed = model.replace(line, f"{name}={' '.join(numbers)}", 1)
    sizes = next(line for line in model.splitlines() if line.startswith("tree_sizes="))
    first, *rest = sizes.removeprefix("tree_sizes=").split()
    grown = int(first) + len(changed) - len(model)
    return changed.replace(sizes, "tree_sizes=" + " ".join([str(grown), *rest]), 1)


def numbers_of(model: str, name: str) -> list[str]:
    line = next(line for line in model.splitlines() if line.startswith(f"{name}="))
    return line.partition("=")[2].split()


@pytest.mark.parametrize(
    ("name", "bad", "said"),
    [
        ("left_child", "6", "from -7 to 5"),
        ("left_child", "-8", "from -7 to 5"),
        ("left_child", "0", "two parents"),
        ("right_child", "-2147483649", "from -7 to 5"),
        ("split_feature", "4", "from 0 to 3"),
        ("split_feature", "-1", "from 0 to 3"),
        ("decision_type", "16", "from 0 to 15"),
        ("decision_type", "1", "on categories"),
        ("threshold", "nan", "expected 6 numbers"),
        ("threshold", "x", "something else than numbers"),
        ("leaf_value", "inf", "finite"),
        ("shrinkage", "nan", "finite"),
    ],
)
def test_a_reference_out_of_range_is_refused_in_a_file_that_is_whole(
    model: str, name: str, bad: str, said: str
) -> None:
    numbers = numbers_of(model, name)
    check_model_text(changed_numbers(model, name, numbers))
    with pytest.raises(UnsoundModelError, match=rf"tree 0: .*{said}"):
        check_model_text(changed_numbers(model, name, [bad, *numbers[1:]]))


def test_children_that_make_a_loop_are_refused(model: str) -> None:
    left, right = numbers_of(model, "left_child"), numbers_of(model, "right_child")
    for names in (("left_child", left), ("right_child", right)):
        twice = [names[1][-1], *names[1][1:]]
        if twice != names[1]:
            with pytest.raises(UnsoundModelError, match=r"tree 0: .*(two parents|not one tree)"):
                check_model_text(changed_numbers(model, names[0], twice))


def test_every_cut_is_refused(model: str) -> None:
    for place in range(0, model.index("end of parameters"), 97):
        with pytest.raises(UnsoundModelError):
            check_model_text(model[:place])


def test_what_passes_does_not_kill_lightgbm(model: str) -> None:
    rng = random.Random(11)
    passed = []
    for _ in range(800):
        content = bytearray(model.encode())
        content[rng.randrange(model.index("end of trees"))] ^= 1 << rng.randrange(7)
        text = content.decode("ascii", errors="replace")
        try:
            check_model_text(text)
        except UnsoundModelError:
            continue
        passed.append(text)
    assert 100 < len(passed) < 700
    run = subprocess.run(
        [sys.executable, "-c", SURVIVES],
        input=json.dumps(passed),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-500:]
    assert "alive" in run.stdout
