"""Which arithmetic scores fastest on this machine: measured, not assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from threading import Lock
from typing import Final

import numpy as np

from recsys.interactions import Candidates
from recsys.text.compiled_layers import CompiledLayers
from recsys.text.encode import Precision
from recsys.text.pair_scores import PairScores
from recsys.text.render import ShopperTextKind, ShopperTexts
from recsys.text.scorer import TextScorer

RUNS: Final = 5
CANDIDATES: Final = 100
CLEARLY: Final = 0.8
"""Share of the given precision's time within which another must be to take its place: near it, the
choice would be up to chance and change from start to start."""

_PRECISIONS: Final[tuple[Precision, ...]] = ("bf16", "fp32")


class FastestPrecision:
    """Chooses by measurement, once for all models of the same shape; for several threads.

    A catalogue of few items tells little, so that what it says is not kept for others.

    Args:
        clock: seconds from any start.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._chosen: dict[tuple[str, ...], Precision] = {}
        self._measuring = Lock()

    def of(self, scorer: TextScorer) -> TextScorer:
        """The scorer, or one in another precision, remembering nothing, that is clearly faster.

        Args:
            scorer: of a catalogue, with its own precision as the one to keep.
        """
        model = scorer.model
        shape = (model.shape.model_dump_json(), str(model.bert.config.to_diff_dict()))
        key = (*shape, scorer.precision, scorer.device)
        with self._measuring:
            chosen = self._chosen.get(key) or self._measured(scorer)
            if scorer.states.texts >= CANDIDATES:
                self._chosen[key] = chosen
        if chosen == scorer.precision:
            return scorer
        return replace(scorer, precision=chosen, pair_scores=PairScores())

    def _measured(self, scorer: TextScorer) -> Precision:
        seconds = sample_seconds(scorer, self._clock)
        best = min(seconds, key=lambda precision: seconds[precision])
        is_clear = seconds[best] < CLEARLY * seconds[scorer.precision]
        return best if is_clear else scorer.precision


def sample_seconds(scorer: TextScorer, clock: Callable[[], float]) -> dict[Precision, float]:
    """Median seconds, in each precision, of scoring drawn items for a shopper with drawn titles.

    Everything is scored once before it is timed: a kernel is made when a shape comes for the first
    time, which takes longer than to run it, and longest in bf16.
    """
    found = {}
    for precision in _PRECISIONS:
        fresh = replace(scorer, precision=precision, compiled=CompiledLayers()).forgetful()
        taken = []
        for run in range(RUNS):
            asked = _drawn(fresh, run)
            fresh.scores(*asked)
            started = clock()
            fresh.scores(*asked)
            taken.append(clock() - started)
        found[precision] = float(np.median(taken))
    return found


def _drawn(scorer: TextScorer, seed: int) -> tuple[ShopperTexts, Candidates]:
    rng = np.random.default_rng(seed)
    items, titles = scorer.states.texts, scorer.model.shape.max_segments
    count = min(CANDIDATES, items)
    shopper = ShopperTexts(
        np.array([0, titles if items else 0]),
        rng.integers(0, items, titles) if items else np.zeros(0, np.int64),
        np.array([int(ShopperTextKind.HISTORY)]),
        (),
    )
    drawn = rng.choice(items, count, replace=False).astype(np.int32)
    return shopper, Candidates(np.array([0, count]), drawn, (), np.zeros((count, 0), np.int32))
