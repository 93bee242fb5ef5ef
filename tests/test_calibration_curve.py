"""The calibration curve: right shares, never falling, read back as it was, refused if damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from recsys.errors import ModelError
from recsys.text import Calibration


def drawn(seed: int, size: int = 20_000) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits whose true probability is a third of the sigmoid: badly calibrated as they are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, size).astype(np.float32)
    return logits, rng.random(size) < 1 / 3 / (1 + np.exp(-logits))


def test_probabilities_are_the_shares_that_were_bought() -> None:
    calibration = Calibration.fit(*drawn(1))
    logits, bought = drawn(2)
    found = calibration.probability(logits)
    for low, high in ((0, 0.03), (0.03, 0.1), (0.1, 0.2), (0.2, 0.3), (0.3, 1)):
        inside = (found >= low) & (found < high)
        assert found[inside].mean() == pytest.approx(bought[inside].mean(), abs=0.02)
    assert np.abs(found - 1 / 3 / (1 + np.exp(-logits))).mean() < 0.02


def test_it_agrees_with_scikit_learn_between_and_beyond_the_knots() -> None:
    logits, bought = drawn(3, 500)
    peer = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(logits, bought)
    grid = np.linspace(-12, 12, 301)
    found = Calibration.fit(logits, bought).probability(grid)
    np.testing.assert_allclose(found, peer.predict(grid), atol=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_a_higher_logit_never_has_a_lower_probability(seed: int, size: int) -> None:
    calibration = Calibration.fit(*drawn(seed, size))
    found = calibration.probability(np.linspace(-20, 20, 200))
    assert (np.diff(found) >= 0).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_candidates_without_a_logit_are_left_out_and_stay_unknown(tmp_path: Path) -> None:
    logits, bought = drawn(4, 100)
    with_gaps = np.concatenate([logits, np.full(50, np.nan, np.float32)])
    calibration = Calibration.fit(with_gaps, np.concatenate([bought, np.ones(50, np.bool_)]))
    assert calibration.candidates == 100
    np.testing.assert_array_equal(np.isnan(calibration.probability(with_gaps)), np.isnan(with_gaps))
    calibration.save(tmp_path)
    again = Calibration.load(tmp_path)
    np.testing.assert_array_equal(again.probability(logits), calibration.probability(logits))
    assert again.candidates == 100
    with pytest.raises(ModelError, match="no candidate has a logit"):
        Calibration.fit(np.full(3, np.nan), np.zeros(3, np.bool_))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"logits": [], "probabilities": [], "candidates": 0}',
        '{"logits": [0, 1], "probabilities": [0.5], "candidates": 2}',
        '{"logits": [1, 0], "probabilities": [0.1, 0.5], "candidates": 2}',
        '{"logits": [0, 1], "probabilities": [0.5, 0.1], "candidates": 2}',
        '{"logits": [0, 1], "probabilities": [0.5, 1.5], "candidates": 2}',
        '{"logits": [0, NaN], "probabilities": [0.5, 0.6], "candidates": 2}',
    ],
)
def test_a_damaged_curve_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(ModelError, match=r"calibration\.json"):
        Calibration.load(tmp_path)


def test_a_missing_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't read the calibration"):
        Calibration.load(tmp_path)
