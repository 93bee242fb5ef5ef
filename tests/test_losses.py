"""Fine-tuning's losses and its validation metric, against values by hand and the evaluation's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config import CrossEncoderConfig
from recsys.evaluation import ItemSets, ndcg
from training.examples import CLICKED, NOT_CLICKED, PADDING, PURCHASED
from training.fit_cross_encoder import best_step
from training.group_objectives import METRIC, group_loss, group_ndcg, ranking_scores


def loss(logits: list[list[list[float]]], labels: list[list[int]], **weights: float) -> float:
    nothing = {"click_weight": 0.0, "purchase_weight": 0.0, "listwise_weight": 0.0}
    config = CrossEncoderConfig(**{**nothing, **weights})  # type: ignore[arg-type]
    return float(group_loss(torch.tensor(logits), torch.tensor(labels), config))


def bce(logit: float, truth: float) -> float:
    return math.log1p(math.exp(-logit if truth else logit))


LOGITS = [[[0.5, -1.0], [2.0, 0.25], [-1.5, 3.0], [9.0, 9.0]]]
LABELS = [[NOT_CLICKED, PURCHASED, CLICKED, PADDING]]


def test_binary_losses_are_means_over_real_items() -> None:
    click = np.mean([bce(0.5, 0), bce(2.0, 1), bce(-1.5, 1)])
    bought = np.mean([bce(-1.0, 0), bce(0.25, 1), bce(3.0, 0)])
    assert loss(LOGITS, LABELS, click_weight=1.0) == pytest.approx(click, rel=1e-6)
    assert loss(LOGITS, LABELS, purchase_weight=1.0) == pytest.approx(bought, rel=1e-6)
    both = loss(LOGITS, LABELS, click_weight=0.5, purchase_weight=2.0)
    assert both == pytest.approx(0.5 * click + 2.0 * bought, rel=1e-6)


def test_the_listwise_loss_sets_each_positive_against_the_negatives_alone() -> None:
    e = math.exp
    clicks = np.mean([-math.log(e(x) / (e(x) + e(0.5))) for x in (2.0, -1.5)])
    bought = -math.log(e(0.25) / (e(0.25) + e(-1.0) + e(3.0)))
    found = loss(LOGITS, LABELS, listwise_weight=1.0)
    assert found == pytest.approx(clicks + bought, rel=1e-6)


def test_groups_without_an_order_add_nothing_to_the_listwise_loss() -> None:
    lone = [[CLICKED, PADDING, PADDING, PADDING], [NOT_CLICKED, PADDING, PADDING, PADDING]]
    assert loss(LOGITS * 2, lone, listwise_weight=1.0) == 0.0
    together = loss(LOGITS * 3, [*LABELS, *lone], listwise_weight=1.0)
    assert together == pytest.approx(loss(LOGITS, LABELS, listwise_weight=1.0), rel=1e-6)


def test_what_stands_in_padding_counts_nowhere() -> None:
    wild = [[*LOGITS[0][:3], [-50.0, 77.0], [1e4, -1e4]]]
    padded = [[*LABELS[0], PADDING]]
    weights = {"click_weight": 0.3, "purchase_weight": 0.6, "listwise_weight": 1.0}
    assert loss(wild, padded, **weights) == pytest.approx(loss(LOGITS, LABELS, **weights))
    logits = torch.tensor(wild, requires_grad=True)
    group_loss(logits, torch.tensor(padded), CrossEncoderConfig()).backward()
    assert logits.grad is not None
    assert (logits.grad[0, 3:] == 0).all()
    assert (logits.grad[0, :3] != 0).all()


def test_ndcg_of_groups_by_hand() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 99.0], [3.0, 2.0, 1.0, 0.0], [1.0, 2.0, 3.0, 4.0]])
    labels = np.array(
        [
            [CLICKED, NOT_CLICKED, PURCHASED, PADDING],
            [NOT_CLICKED, NOT_CLICKED, NOT_CLICKED, CLICKED],
            [NOT_CLICKED] * 4,
        ]
    )
    found = group_ndcg(scores, labels, np.array([2, 3, 0]))
    two, three = 1 + 1 / math.log2(3), 1 + 1 / math.log2(3) + 0.5
    expected = [(1 / math.log2(3) + 0.5) / two, (1 / math.log2(5)) / three, 0.0]
    np.testing.assert_allclose(found, expected)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), groups=st.integers(1, 6), items=st.integers(1, 30))
def test_ndcg_of_groups_is_the_evaluations_ndcg(seed: int, groups: int, items: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([PADDING, NOT_CLICKED, CLICKED, PURCHASED], (groups, items))
    scores = rng.permuted(np.tile(np.arange(items, dtype=np.float64), (groups, 1)), axis=1)
    missed = rng.integers(0, 3, groups)
    group, place = np.nonzero(labels >= CLICKED)
    absent = np.repeat(np.arange(groups), missed)
    truth = ItemSets.of_pairs(
        np.concatenate([group, absent]),
        np.concatenate([place, 1_000 + np.arange(len(absent))]),
        groups,
    )
    order = np.argsort(-np.where(labels == PADDING, -np.inf, scores), axis=1, kind="stable")
    real = np.take_along_axis(labels, order, axis=1) != PADDING
    expected = np.nan_to_num(ndcg(np.where(real, order, -1), truth, 10))
    relevant = (labels >= CLICKED).sum(axis=1) + missed
    np.testing.assert_allclose(group_ndcg(scores, labels, relevant), expected)


def test_the_best_step_is_the_first_of_the_best_figures() -> None:
    key = f"eval_{METRIC}"
    history = [{key: value, "step": step} for step, value in ((0, 0.2), (4, 0.5), (8, 0.5))]
    assert best_step([*history, {"loss": 0.1, "step": 9}]) == 4
    assert best_step([{key: 0.6, "step": 0}, *history]) == 0


def test_validation_ranks_by_both_outputs() -> None:
    logits = np.array([[[1.0, 3.0], [0.0, -2.0]]], np.float32)
    assert ranking_scores(logits).tolist() == [[2.0, -1.0]]
