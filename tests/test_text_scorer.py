"""The text scorer: many requests give what each gives by itself, queries and all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from recsys.interactions import Candidates, Histories, ItemLists
from recsys.text import (
    CrossEncoder,
    CrossEncoderShape,
    ShopperSide,
    ShopperTexts,
    TextScorer,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
    render_shoppers,
)
from recsys.text.encode import Precision
from recsys.text.pair_scores import PairScoreCounts, PairScores
from recsys.text.remembered_sides import RememberedSides

Asked = tuple[list[list[int]], list[str]]
WORDS = ["red", "blue", "green", "white", "mug", "cup", "plate", "bowl", "jar", "lamp", "clock"]
TITLES = [f"{one} {two} {three}" for one in WORDS for two in WORDS for three in WORDS[:3]]
TITLES += ["blue cup", "", "a box " * 30, *("mug " * words for words in range(14, 24))]
BLUE_CUP = TITLES.index("blue cup")
SIDE = ShopperSide([], [], [], torch.zeros(1, 1, 1), torch.zeros(1, 1, dtype=torch.bool))


TWO_PART = CrossEncoderShape(join_layer=3, max_segments=4, shopper_key_bias=0.0)
PLAIN = TWO_PART.model_copy(update={"join_layer": 0, "attention": "plain"})


@pytest.fixture(scope="module", params=[TWO_PART, PLAIN], ids=["two-part", "plain"])
def scorer(request: pytest.FixtureRequest, tiny_bert: Path) -> TextScorer:
    model = CrossEncoder(load_bert(str(tiny_bert)), request.param).eval()
    tokenizer = load_tokenizer(str(tiny_bert))
    tokens = TokenTable.build(tokenizer, TITLES, 24)
    join = request.param.join_layer
    states = encode_states(model.bert, tokens, layer=join, precision="fp32")
    return TextScorer(model, states, tokenizer, 24, "fp32")


def shoppers(contexts: list[list[int]], queries: list[str]) -> ShopperTexts:
    return render_shoppers(
        Histories.empty(len(queries)),
        ItemLists.of(contexts),
        queries,
        item_count=len(TITLES),
        max_segments=4,
    )


def candidates(*requests: list[int]) -> Candidates:
    items = ItemLists.of(requests)
    ranks = np.zeros((len(items.item), 1), np.int32)
    return Candidates(items.offsets, items.item, ("any",), ranks)


def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=0)


CONTEXTS: list[list[int]] = [[3, 50, 7], [], [], [90], [1, 2, 4, 5]]
QUERIES = ["", "Blue Cup", "", "small lamp for the garden", ""]
EVERYTHING = list(range(len(TITLES)))
LISTS = [[0, 9, 40], EVERYTHING, [3, 4], [], [len(TITLES) - 2, len(TITLES) - 1]]


def test_many_requests_give_what_each_gives_by_itself(scorer: TextScorer) -> None:
    together = scorer.scores(shoppers(CONTEXTS, QUERIES), candidates(*LISTS))
    alone = [
        scorer.scores(shoppers([context], [query]), candidates(own))
        for context, query, own in zip(CONTEXTS, QUERIES, LISTS, strict=True)
    ]
    assert together.dtype == np.float32
    assert together.shape == (sum(map(len, LISTS)), 2)
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_scores_keep_the_candidates_order_across_chunks(scorer: TextScorer) -> None:
    side = shoppers([[3, 50, 7]], [""])
    every = scorer.scores(side, candidates(list(range(len(TITLES)))))
    some = [5, 100, 3, 361, 365, 60]
    close(scorer.scores(side, candidates(some)), every[some])


@pytest.mark.parametrize("request_", range(len(CONTEXTS)))
def test_scores_are_the_models(scorer: TextScorer, request_: int) -> None:
    context = CONTEXTS[request_]
    side = shoppers([context], [""])
    states, mask = scorer.states.padded(torch.tensor(EVERYTHING))
    titles, title_mask = scorer.states.padded(torch.tensor(context, dtype=torch.int64))
    slots = torch.arange(len(context))[None]
    with torch.inference_mode():
        shopper = scorer.model.shopper_side(
            titles.float(), title_mask, slots, torch.from_numpy(side.kind)
        )
        expected = scorer.model.score(states.float()[None], mask[None], shopper)[0]
    close(scorer.scores(side, candidates(EVERYTHING)), expected.numpy())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_pairs_score_does_not_depend_on_the_other_candidates(
    scorer: TextScorer, precision: Precision
) -> None:
    either = replace(scorer, precision=precision, pair_scores=PairScores(0))
    side = shoppers([[3, 50, 7, BLUE_CUP]], [""])
    together = either.scores(side, candidates(EVERYTHING))
    for some in ([5], [361, 365, 370], EVERYTHING[::7], EVERYTHING[350:]):
        alone = either.scores(side, candidates(some))
        np.testing.assert_allclose(alone, together[some], atol=1e-5, rtol=0)


def test_a_pair_is_computed_once(scorer: TextScorer) -> None:
    fresh = replace(scorer, pair_scores=PairScores())
    side = shoppers([[3, 50, 7]], [""])
    some = fresh.scores(side, candidates([5, 9, 40]))
    both = fresh.scores(side, candidates([2, 5, 9, 60]))
    assert fresh.pair_scores.counts == PairScoreCounts(hits=2, misses=5, size=5)
    np.testing.assert_array_equal(both[1:3], some[:2])
    close(both, replace(scorer, pair_scores=PairScores(0)).scores(side, candidates([2, 5, 9, 60])))


def test_a_shopper_is_read_once(scorer: TextScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = replace(scorer, pair_scores=PairScores())
    read: list[int] = []
    side_of = fresh._layers.shopper_side

    def counted(states: torch.Tensor, *others: Any) -> Any:
        read.append(len(states))
        return side_of(states, *others)

    monkeypatch.setattr(fresh._layers, "shopper_side", counted)
    side = shoppers([[3, 50, 7]], [""])
    assert not fresh.has_read(side)
    fresh.read_shoppers(side)
    assert fresh.has_read(side)
    found = [fresh.scores(side, candidates(some)) for some in ([5, 9], [40, 60])]
    assert len(read) == 1
    close(np.concatenate(found), scorer.scores(side, candidates([5, 9, 40, 60])))
    fresh.forget()
    assert not fresh.has_read(side)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("capacity", [1, 2, 1000])
def test_texts_that_other_shoppers_had_change_no_score(
    scorer: TextScorer, precision: Precision, capacity: int
) -> None:
    cold = replace(scorer, precision=precision).forgetful()
    warm = replace(cold, remembered_texts=capacity)
    for context in ([3, 50, 7, 3], [50, 90], [], [90, 3, 50], [8, 9], [3, 8, 7, 2]):
        side = shoppers([context], [""])
        found, expected = (one.scores(side, candidates(EVERYTHING)) for one in (warm, cold))
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_a_text_of_several_shoppers_is_read_once(
    scorer: TextScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if scorer.model.shape.attention == "plain":
        pytest.skip("there a text's vector depends on the candidate")
    fresh = replace(scorer, pair_scores=PairScores())
    wanted: list[int] = []
    side_of = fresh._layers.shopper_side

    def counted(states: torch.Tensor, texts: Any, kind: int, known: torch.Tensor) -> Any:
        wanted.append(int(known[:, 0].isnan().sum()))
        return side_of(states, texts, kind, known)

    monkeypatch.setattr(fresh._layers, "shopper_side", counted)
    contexts = ([3, 50, 7], [50, 90, 3], [90, 7])
    for context in contexts:
        fresh.read_shoppers(shoppers([context], [""]))
    fresh.forget()
    fresh.read_shoppers(shoppers([contexts[0]], [""]))
    assert wanted == [3, 1, 0, 3]


def test_shoppers_not_asked_for_longest_are_read_again() -> None:
    sides = RememberedSides(capacity=2)
    read: list[bytes] = []

    def of(shopper: bytes) -> None:
        sides.of(shopper, lambda: read.append(shopper) or SIDE)  # type: ignore[func-returns-value]

    for shopper in (b"a", b"b", b"a", b"c", b"a", b"b"):
        of(shopper)
    assert read == [b"a", b"b", b"c", b"b"]
    assert (b"a" in sides, b"c" in sides) == (True, False)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (([[3, 50]], [""]), ([[50, 3]], [""])),
        (([[BLUE_CUP]], [""]), ([[]], ["blue cup"])),
        (([[]], ["blue cup"]), ([[]], ["red cup"])),
        (([[]], [""]), ([[3]], [""])),
    ],
)
def test_pairs_of_one_shopper_text_are_not_taken_for_anothers(
    scorer: TextScorer,
    one: tuple[list[list[int]], list[str]],
    other: tuple[list[list[int]], list[str]],
) -> None:
    fresh = replace(scorer, pair_scores=PairScores())
    for side in (one, other):
        fresh.scores(shoppers(*side), candidates([5, 9, 40]))
    assert fresh.pair_scores.counts.hits == 0


def test_a_query_reads_like_the_item_of_that_title(scorer: TextScorer) -> None:
    by_query = scorer.scores(shoppers([[]], ["Blue CUP"]), candidates(LISTS[1]))
    by_item = scorer.scores(shoppers([[BLUE_CUP]], [""]), candidates(LISTS[1]))
    close(by_query, by_item)
    assert by_query[:, 0].argmax() == BLUE_CUP


def test_each_request_reads_its_own_query(scorer: TextScorer) -> None:
    side = shoppers([[], [], []], ["blue cup", "gold tray", "blue cup"])
    first, second, third = np.split(scorer.scores(side, candidates(*[[0, 40, 90]] * 3)), 3)
    np.testing.assert_array_equal(first, third)
    assert np.abs(first - second).max() > 1e-3


def test_a_shopper_without_texts_gets_finite_scores(scorer: TextScorer) -> None:
    assert np.isfinite(scorer.scores(shoppers([[]], [""]), candidates(LISTS[1]))).all()


def test_half_precision_arithmetic_stays_near(scorer: TextScorer) -> None:
    rough = TextScorer(scorer.model, scorer.states, scorer.tokenizer, 24, "bf16")
    requests = shoppers(CONTEXTS, QUERIES), candidates(*LISTS)
    np.testing.assert_allclose(rough.scores(*requests), scorer.scores(*requests), atol=0.05)


def test_progress_counts_every_request_once(scorer: TextScorer) -> None:
    seen: list[int] = []
    scorer.scores(shoppers(CONTEXTS, QUERIES), candidates(*LISTS), advance=seen.append)
    assert seen == [1] * len(LISTS)


def test_no_requests_give_no_scores(scorer: TextScorer) -> None:
    assert scorer.scores(shoppers([], []), candidates()).shape == (0, 2)
