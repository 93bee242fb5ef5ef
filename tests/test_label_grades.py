"""Label grades: read from a settings file, refused where LightGBM could not use them."""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import pytest

from recsys.config import Configuration, LabelGrades, load_configuration
from recsys.errors import ConfigurationError
from recsys.interactions import EventKind


def grades_of(path: Path, text: str) -> LabelGrades:
    path.write_text(f"[ranker.grades]\n{text}\n")
    return load_configuration(path, Configuration()).ranker.grades


def test_every_kind_of_event_has_a_grade() -> None:
    assert set(LabelGrades.model_fields) == {kind.name.lower() for kind in EventKind}
    assert LabelGrades().model_dump() == {
        "purchase": 3,
        "add_to_cart": 2,
        "share": 2,
        "review": 2,
        "click": 1,
        "view": 1,
        "hide": 0,
    }


def test_a_settings_file_changes_single_grades(tmp_path: Path) -> None:
    found = grades_of(tmp_path / "c.toml", "purchase = 5\nview = 0")
    assert found == LabelGrades(purchase=5, view=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hide = -1", r"ranker\.grades\.hide: .*greater than or equal to 0"),
        ("purchase = 31", r"ranker\.grades\.purchase: .*less than or equal to 30"),
        ("click = 1.5", r"ranker\.grades\.click: .*integer"),
        ("like = 1", r"ranker\.grades\.like: "),
        (
            "purchase = 0\nadd_to_cart = 0\nshare = 0\nreview = 0\nclick = 0\nview = 0",
            r"ranker\.grades: .*all grades are 0; give at least one",
        ),
    ],
)
def test_unusable_grades_are_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        grades_of(tmp_path / "c.toml", text)


def test_the_highest_grade_is_the_highest_label_that_lightgbm_knows() -> None:
    assert fit(LabelGrades(purchase=30).purchase).num_trees() == 1
    with pytest.raises(lightgbm.basic.LightGBMError, match="31 is not less than the number of"):
        fit(31)


def fit(label: int) -> lightgbm.Booster:
    data = lightgbm.Dataset(
        np.arange(20.0).reshape(20, 1), np.array([0, label] * 10), group=[2] * 10
    )
    settings = {"objective": "lambdarank", "verbosity": -1, "min_data_in_leaf": 1}
    return lightgbm.train(settings, data, num_boost_round=1)
