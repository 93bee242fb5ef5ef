"""The arithmetic of scoring is chosen by measurement, and right whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate, chain, repeat
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from trained_shop import TrainedShop

from recsys.interactions import Candidates
from recsys.recommender import Contents
from recsys.text import (
    CrossEncoder,
    CrossEncoderShape,
    FastestPrecision,
    PairScoreCounts,
    PairScores,
    ShopperTextKind,
    ShopperTexts,
    TextScorer,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
    sample_seconds,
)
from recsys.text.encode import Advance, Precision
from recsys.text.joined_layers import JoinedLayers
from recsys.text.kernels import CANDIDATES, RUNS

TITLES = [f"{colour} {thing}" for colour in ("red", "blue", "gold") for thing in ("mug", "lamp")]


@pytest.fixture(scope="module")
def scorer(tiny_bert: Path) -> TextScorer:
    shape = CrossEncoderShape(join_layer=4, max_segments=3, shopper_key_bias=0.0)
    model = CrossEncoder(load_bert(str(tiny_bert)), shape).eval()
    tokenizer = load_tokenizer(str(tiny_bert))
    tokens = TokenTable.build(tokenizer, TITLES * 20, 16)
    states = encode_states(model.bert, tokens, layer=4, precision="fp32")
    return TextScorer(model, states, tokenizer, 16, "bf16")


def clock_of(bf16: float, fp32: float) -> Callable[[], float]:
    """A clock by which each run takes as long as is said, whatever it really takes."""
    steps: Iterator[float] = chain(*(repeat(one, RUNS) for one in (bf16, fp32)))
    now = accumulate(chain.from_iterable((0.0, step) for step in steps))
    return lambda: next(now)


@pytest.mark.parametrize(
    ("own", "bf16", "fp32", "chosen"),
    [
        ("bf16", 0.010, 0.030, "bf16"),
        ("bf16", 0.030, 0.010, "fp32"),
        ("bf16", 0.010, 0.009, "bf16"),
        ("fp32", 0.009, 0.010, "fp32"),
        ("fp32", 0.005, 0.010, "bf16"),
    ],
)
def test_another_precision_is_taken_where_it_is_clearly_faster(
    scorer: TextScorer, own: Precision, bf16: float, fp32: float, chosen: str
) -> None:
    given = replace(scorer, precision=own)
    found = FastestPrecision(clock_of(bf16, fp32)).of(given)
    assert found.precision == chosen
    assert (found is given) == (chosen == own)


def test_models_of_the_same_shape_are_measured_once(scorer: TextScorer, tiny_bert: Path) -> None:
    precision = FastestPrecision(clock_of(0.03, 0.01))
    assert precision.of(scorer).precision == "fp32"
    again = replace(scorer, pair_scores=PairScores())  # the clock has no more to say
    assert precision.of(again).precision == "fp32"
    shape = scorer.model.shape.model_copy(update={"max_segments": 2})
    other = CrossEncoder(load_bert(str(tiny_bert)), shape).eval()
    with pytest.raises(StopIteration):
        precision.of(replace(scorer, model=other))


def test_what_a_few_items_say_is_not_kept_for_a_whole_catalogue(scorer: TextScorer) -> None:
    few = replace(scorer, states=scorer.states.taken(torch.arange(CANDIDATES - 1)))
    steps = chain([0.03] * RUNS + [0.01] * RUNS, [0.01] * RUNS + [0.03] * RUNS)
    now = accumulate(chain.from_iterable((0.0, step) for step in steps))
    precision = FastestPrecision(lambda: next(now))
    assert precision.of(few).precision == "fp32"
    assert precision.of(scorer).precision == "bf16"
    assert precision.of(few).precision == "bf16", "by now it is known"


class MakesKernels(TextScorer):
    """Takes a second in bf16 and two in fp32, and ten more when a list comes for the first time."""

    made: ClassVar[set[tuple[str, bytes]]] = set()
    now: ClassVar[float] = 0.0

    def scores(
        self,
        shoppers: ShopperTexts,
        candidates: Candidates,
        advance: Advance | None = None,
        before_chunk: Callable[[], None] | None = None,
    ) -> NDArray[np.float32]:
        kernel = self.precision, candidates.item.tobytes()
        MakesKernels.now += {"bf16": 1, "fp32": 2}[self.precision] + 10 * (kernel not in self.made)
        self.made.add(kernel)
        return super().scores(shoppers, candidates, advance, before_chunk)


def test_what_is_done_once_is_not_measured(scorer: TextScorer) -> None:
    given = MakesKernels(scorer.model, scorer.states, scorer.tokenizer, 16, "bf16")
    seconds = sample_seconds(given, lambda: MakesKernels.now)
    assert seconds == {"bf16": 1, "fp32": 2}


def test_what_is_measured_is_not_remembered(scorer: TextScorer) -> None:
    given = replace(scorer, pair_scores=PairScores())
    seconds = sample_seconds(given, clock_of(0.3, 0.1))
    assert seconds == pytest.approx({"bf16": 0.3, "fp32": 0.1})
    found = FastestPrecision(clock_of(0.3, 0.1)).of(given)
    assert given.pair_scores.counts == found.pair_scores.counts == PairScoreCounts(0, 0, 0)


def test_full_precision_ranks_like_half_precision(scorer: TextScorer) -> None:
    items = np.arange(len(TITLES), dtype=np.int32)
    candidates = Candidates(np.array([0, 6]), items, (), np.zeros((6, 0), np.int32))
    history = np.array([int(ShopperTextKind.HISTORY)])
    shopper = ShopperTexts(np.array([0, 2]), np.array([2, 5]), history, ())
    half, full = (
        replace(scorer, precision=one, pair_scores=PairScores(0)) for one in ("bf16", "fp32")
    )
    assert isinstance(full._layers, JoinedLayers)
    assert {weight.dtype for weight in full._layers._pass.state_dict().values()} == {torch.float32}
    rough, exact = (one.scores(shopper, candidates)[:, 0] for one in (half, full))
    order = np.argsort(-exact)
    assert np.diff(exact[order]).min() < -0.05
    assert (np.diff(rough[order]) < 0.02).all()


def test_a_bundle_scores_as_its_settings_say(trained_shop: TrainedShop) -> None:
    contents = Contents.load(trained_shop.bundle)
    assert contents.configuration.cross_encoder.scoring == "fp32"
    assert contents.on_this_machine(FastestPrecision(clock_of(0.1, 0.9))) is contents


def test_a_bundle_may_leave_the_precision_to_the_machine(trained_shop: TrainedShop) -> None:
    contents = Contents.load(trained_shop.bundle)
    free = contents.configuration.cross_encoder.model_copy(update={"scoring": "auto"})
    assert free.scoring_precision == free.precision == "fp32"
    configuration = contents.configuration.model_copy(update={"cross_encoder": free})
    contents = replace(contents, configuration=configuration)
    for clock, chosen in ((clock_of(0.1, 0.9), "bf16"), (clock_of(0.9, 0.1), "fp32")):
        assert contents.on_this_machine(FastestPrecision(clock)).texts.scorer.precision == chosen
