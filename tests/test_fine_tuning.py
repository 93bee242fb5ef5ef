"""Fine-tuning: losses and metric by hand, learning, keeping the best, stopping, going on."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.progress import Progress

from recsys.config import CrossEncoderConfig
from recsys.evaluation import ItemSets, ndcg
from recsys.text import (
    CrossEncoder,
    CrossEncoderShape,
    ShopperTextKind,
    ShopperTexts,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
)
from training.examples import CLICKED, NOT_CLICKED, PADDING, PURCHASED, Groups
from training.fit_cross_encoder import (
    METRIC,
    Examples,
    FitJob,
    FitResult,
    TextRows,
    best_step,
    fit_cross_encoder,
    group_loss,
    group_ndcg,
    last_complete_checkpoint,
    ranking_scores,
    score_groups,
)

RECIPE = CrossEncoderConfig(
    join_layer=4,
    frozen_layers=4,
    learning_rate=3e-3,
    head_learning_rate=1e-2,
    groups_per_batch=8,
    epochs=3.0,
    evaluation_steps=4,
    patience=10,
    precision="fp32",
)


# --- losses and metric ------------------------------------------------------------------------


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
    group_loss(logits, torch.tensor(padded), CrossEncoderConfig()).backward()  # type: ignore[no-untyped-call]
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


# --- learning ---------------------------------------------------------------------------------

COLOURS = ("gold", "blue", "red", "green")
THINGS = ("cup", "lamp", "ring", "box", "tray", "bowl", "clock", "shoe", "kettle", "basket")


def shop_texts() -> list[str]:
    """Forty items; item 4 i + c has colour c."""
    return [f"{colour} {thing}" for thing in THINGS for colour in COLOURS]


def golden_groups(count: int, seed: int) -> Groups:
    """Shoppers with any history who all take the one golden item among eight."""
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, 40, 3 * count)
    negatives = np.array([item for item in range(40) if item % 4])
    item = np.array([rng.permutation(negatives)[:8] for _ in range(count)])
    label = np.full(item.shape, NOT_CLICKED, np.int8)
    place = rng.integers(0, 8, count)
    item[np.arange(count), place] = 4 * rng.integers(0, 10, count)
    label[np.arange(count), place] = rng.choice([CLICKED, PURCHASED], count)
    kind = np.full(count, ShopperTextKind.HISTORY, np.int64)
    shoppers = ShopperTexts(np.arange(count + 1) * 3, segments, kind, ())
    return Groups(shoppers, item.astype(np.int32), label, np.ones(count, np.int64))


class Interrupting(Progress):
    """Breaks off fine-tuning after a step, as a lost machine would."""

    def __init__(self, after: int) -> None:
        super().__init__(disable=True)
        self._after = after

    def update(self, *given: Any, **fields: Any) -> None:
        super().update(*given, **fields)
        if fields.get("completed") == self._after:
            raise KeyboardInterrupt


class Bench:
    """A fresh encoder with examples, to be tuned in a folder."""

    def __init__(self, pretrained: Path, folder: Path, recipe: CrossEncoderConfig = RECIPE) -> None:
        torch.manual_seed(1)
        shape = CrossEncoderShape(
            join_layer=recipe.join_layer,
            max_segments=4,
            segment_max_tokens=8,
            shopper_key_bias=recipe.shopper_key_bias,
        )
        self.encoder = CrossEncoder(load_bert(str(pretrained)), shape).eval()
        self.encoder.set_dropout(recipe.dropout)
        tokens = TokenTable.build(load_tokenizer(str(pretrained)), shop_texts(), 8)
        states = encode_states(self.encoder.bert, tokens, layer=4, precision="fp32")
        rows = TextRows(tokens, states if recipe.frozen_layers >= recipe.join_layer else None)
        self.train = Examples(golden_groups(64, seed=1), rows)
        self.validation = Examples(golden_groups(40, seed=2), rows)
        self.job = FitJob(recipe, folder, seed=3, progress=Progress(disable=True))

    def fit(self, **changes: object) -> FitResult:
        job = replace(self.job, **changes)  # type: ignore[arg-type]
        return fit_cross_encoder(self.encoder, self.train, self.validation, job)

    def ndcg(self) -> float:
        groups = self.validation.groups
        scores = score_groups(self.encoder, self.validation, self.job)
        return float(group_ndcg(scores, groups.label, groups.relevant).mean())

    def weights(self) -> dict[str, NDArray[np.float32]]:
        return {name: value.numpy().copy() for name, value in self.encoder.state_dict().items()}


Make = partial[Bench]


@pytest.fixture
def bench(tiny_bert: Path, tmp_path: Path) -> Make:
    return partial(Bench, tiny_bert, tmp_path / "checkpoints")


def evaluations(result: FitResult) -> dict[int, float]:
    key = f"eval_{METRIC}"
    return {int(entry["step"]): entry[key] for entry in result.history if key in entry}


@pytest.fixture(scope="module")
def tuned(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, FitResult]:
    """An encoder tuned without interruption."""
    torch.set_num_threads(1)
    bench = Bench(tiny_bert, tmp_path_factory.mktemp("tuned"))
    before = bench.ndcg()
    result = bench.fit()
    assert evaluations(result)[0] == pytest.approx(before, abs=1e-6)
    return bench, result


def test_a_few_steps_learn_an_easy_task(tuned: tuple[Bench, FitResult]) -> None:
    bench, result = tuned
    found = evaluations(result)
    assert list(found) == list(range(0, 25, 4))
    assert result.steps == 24
    assert found[0] < 0.6
    assert max(found.values()) > found[0] + 0.2
    assert bench.ndcg() == pytest.approx(max(found.values()), abs=1e-6)


def test_frozen_layers_stay_as_pretrained(tuned: tuple[Bench, FitResult], bench: Make) -> None:
    before, after = bench().weights(), tuned[0].weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    frozen = [f"bert.encoder.layer.{layer}." for layer in range(4)] + ["bert.embeddings."]
    assert not [name for name in changed if name.startswith(tuple(frozen))]
    assert {name.split(".")[0] for name in changed} >= {"bert", "head", "kind_bias"}
    assert any(name.startswith("bert.encoder.layer.5.") for name in changed)


def test_layers_below_the_join_can_be_tuned_too(bench: Make) -> None:
    recipe = RECIPE.model_copy(update={"frozen_layers": 2, "epochs": 1.0})
    made = bench(recipe)
    before = made.weights()
    made.fit()
    after = made.weights()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    layers = {int(name.split(".")[3]) for name in changed if ".layer." in name}
    assert layers == {2, 3, 4, 5}


def test_the_best_weights_are_kept_not_the_last(bench: Make) -> None:
    wild = {"learning_rate": 0.3, "head_learning_rate": 1.0, "warmup_share": 0.9, "epochs": 4.0}
    made = bench(RECIPE.model_copy(update={**wild, "evaluation_steps": 2}))
    result = made.fit()
    found = evaluations(result)
    assert found[result.best_step] == max(found.values())
    assert found[result.steps] < max(found.values())
    assert made.ndcg() == pytest.approx(max(found.values()), abs=1e-6)


def test_without_any_gain_the_untuned_weights_are_kept(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"epochs": 1.0}))
    made.validation = replace(
        made.validation, groups=replace(made.validation.groups, relevant=np.zeros(40, np.int64))
    )
    before = made.weights()
    result = made.fit()
    assert (result.steps, result.best_step) == (8, 0)
    after = made.weights()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_tuning_stops_when_validation_stands_still(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"evaluation_steps": 1, "patience": 2}))
    made.validation = replace(
        made.validation, groups=replace(made.validation.groups, relevant=np.zeros(40, np.int64))
    )
    assert made.fit().steps == 3


@pytest.mark.parametrize("after", [3, 8, 14])
def test_a_run_that_broke_off_goes_on_to_the_same_weights(
    tuned: tuple[Bench, FitResult], bench: Make, after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench().fit(progress=Interrupting(after))
    made = bench()
    kept = last_complete_checkpoint(made.job.folder)
    assert (Path(kept).name if kept else None) == {3: None, 8: "checkpoint-4", 14: "checkpoint-12"}[
        after
    ]
    result = made.fit()
    whole, straight = tuned
    assert (result.steps, result.best_step) == (straight.steps, straight.best_step)
    assert evaluations(result) == evaluations(straight)
    ours, theirs = made.weights(), whole.weights()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


def test_a_finished_run_makes_no_further_step(bench: Make) -> None:
    recipe = RECIPE.model_copy(update={"epochs": 1.0})
    first = bench(recipe)
    done = first.fit()
    again = bench(recipe)
    result = again.fit(progress=Interrupting(1))
    assert (result.steps, result.best_step) == (done.steps, done.best_step)
    ours, theirs = again.weights(), first.weights()
    assert [name for name in ours if not np.array_equal(ours[name], theirs[name])] == []


def test_half_written_checkpoints_are_dropped(bench: Make) -> None:
    made = bench(RECIPE.model_copy(update={"epochs": 1.0}))
    made.fit()
    folder = made.job.folder
    newest = last_complete_checkpoint(folder)
    assert newest == str(folder / "checkpoint-8")
    shutil.copytree(newest, folder / "checkpoint-12")
    state = folder / "checkpoint-12" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    (folder / "checkpoint-16").mkdir()
    (folder / "checkpoint-16" / "model.safetensors").write_bytes(b"half")
    assert last_complete_checkpoint(folder) == newest
    assert not (folder / "checkpoint-12").exists()
    assert not (folder / "checkpoint-16").exists()
    assert last_complete_checkpoint(folder / "nowhere") is None


# --- batches ----------------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_batch_or_the_padding(
    tuned: tuple[Bench, FitResult],
) -> None:
    bench, _ = tuned
    groups = bench.validation.groups
    scores = score_groups(bench.encoder, bench.validation, bench.job)
    assert scores.shape == groups.item.shape
    wider = np.full((40, 30), PADDING, np.int8)
    wider[:, :8] = groups.label
    item = np.zeros((40, 30), np.int32)
    item[:, :8] = groups.item
    padded = replace(bench.validation, groups=replace(groups, item=item, label=wider))
    found = score_groups(bench.encoder, padded, bench.job)[:, :8]
    np.testing.assert_allclose(found, scores, atol=2e-5)


def test_a_batch_holds_each_distinct_text_once(tuned: tuple[Bench, FitResult]) -> None:
    bench, _ = tuned
    groups = bench.train.groups
    batch = bench.train.collate([5, 0, 9])
    texts = batch["texts"]
    own = [groups.shoppers.segments[3 * row : 3 * row + 3] for row in (5, 0, 9)]
    distinct = np.unique(np.concatenate([np.concatenate(own), groups.item[[5, 0, 9]].ravel()]))
    assert len(texts) == len(distinct)
    assert distinct[batch["items"]].tolist() == groups.item[[5, 0, 9]].tolist()
    assert distinct[batch["segments"]].tolist() == [rows.tolist() for rows in own]
    assert batch["labels"][:, 0].tolist() == [1, 1, 1]


def test_shoppers_without_text_are_scored_too(tuned: tuple[Bench, FitResult]) -> None:
    bench, _ = tuned
    groups = bench.validation.groups
    nothing = ShopperTexts(
        np.zeros(41, np.int64),
        np.zeros(0, np.int64),
        np.full(40, ShopperTextKind.NOTHING, np.int64),
        (),
    )
    blank = replace(bench.validation, groups=replace(groups, shoppers=nothing))
    assert np.isfinite(score_groups(bench.encoder, blank, bench.job)).all()


def test_validation_ranks_by_both_outputs() -> None:
    logits = np.array([[[1.0, 3.0], [0.0, -2.0]]], np.float32)
    assert ranking_scores(logits).tolist() == [[2.0, -1.0]]
