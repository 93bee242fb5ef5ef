"""What it costs to score a request's candidates by text, beside a plain cross-encoder."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from sentence_transformers import CrossEncoder as PeerCrossEncoder
from transformers import BertModel, PreTrainedTokenizerFast

from recsys.interactions import Candidates, InteractionLog
from recsys.recommender import Contents
from recsys.text import (
    CrossEncoder,
    ShopperTextKind,
    ShopperTexts,
    TextScorer,
    TokenTable,
    autocast,
    encode_states,
    locate,
    render_items,
    sample_seconds,
)
from recsys.text.bert import embed_tokens, layer_count, run_layers
from recsys.text.encode import Precision, batches_by_length
from serving.bench.embedding import Embedding, measure_embedding
from serving.bench.item_states import StoredStates, measure_item_states
from serving.bench.machine import Machine, median_ms, this_machine

SHOPPER_TOKENS: Final = (16, 48, 128, 256, 512)
ITEM_TOKENS: Final = (8, 12, 16, 25, 32)
CANDIDATES: Final = (10, 30, 100, 300, 1_000)
SHORT_TITLE: Final = 6
"""Tokens of a short title: from them follows how many items a shopper's history needs."""

USUAL: Final = (128, 12, 100)
"""Shopper tokens, item tokens and candidates that the sweeps vary one of."""

PEERED: Final = ((48, None), (128, None), (256, None), (48, 25), (256, 25))
"""Shopper and item tokens of the tasks that the others do, too; None takes items as they are."""


class Cost(BaseModel):
    """One size of the task, median milliseconds of each way to do it."""

    case: str
    shopper_tokens: int
    item_tokens: float
    """Mean of the items."""

    candidates: int
    two_part_ms: float
    """This product: the shopper's side and all candidates, states of items stored."""

    plain_ms: float | None = None
    """The same weights in the same precision, reading "shopper text, item text" for each pair."""

    peer_ms: float | None = None
    """`sentence_transformers.CrossEncoder.predict` with its defaults, tokenising included."""


class TextScoring(BaseModel):
    """All costs of a run."""

    machine: Machine
    precision: Precision
    repeats: int
    costs: list[Cost]
    embedding: Embedding
    """Of the catalogue, by the pretrained bi-encoder."""

    kernels_ms: dict[Precision, float]
    """Scoring a drawn sample in each precision, as measured when a bundle is opened to serve."""

    item_states: list[StoredStates]
    """What the precision costs and changes that item states are stored in."""


@dataclass(frozen=True)
class Texts:
    """Texts of a shop, and others of any length made of them.

    Attributes:
        tokenizer: of all models.
        titles: texts of the catalogue's items.
        histories: rows of the items that a shopper took up, the latest first, of each shopper.
        rng: draws titles and shoppers.
    """

    tokenizer: PreTrainedTokenizerFast
    titles: Sequence[str]
    histories: Sequence[Sequence[int]]
    rng: np.random.Generator

    def of_tokens(self, count: int, tokens: int) -> list[str]:
        """Texts of exactly so many tokens, special ones included: titles joined, then cut."""
        return [self._of_tokens(tokens) for _ in range(count)]

    def history_of_tokens(self, tokens: int) -> list[str]:
        """A shopper's latest titles that have so many tokens together, special ones included.

        The last one is cut. Where no shopper's history is long enough, others' follow.
        """
        found: list[str] = []
        drawn = self.rng.permutation(len(self.histories)).tolist()
        least = tokens / SHORT_TITLE
        for shopper in sorted(drawn, key=lambda shopper: len(self.histories[shopper]) < least):
            for row in self.histories[shopper]:
                if tokens <= 2:  # noqa: PLR2004 (a text has two special tokens)
                    return found
                found.append(self._cut(self.titles[row], tokens))
                tokens -= len(self.tokenizer(found[-1])["input_ids"])
        return found

    def _of_tokens(self, tokens: int) -> str:
        drawn = self.rng.choice(self.titles, tokens)
        return self._cut(" ".join(drawn.tolist()), tokens)

    def _cut(self, text: str, tokens: int) -> str:
        ids = self.tokenizer(text, truncation=True, max_length=tokens)["input_ids"]
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


@dataclass(frozen=True)
class Task:
    """One shopper's titles and candidates, scored in three ways.

    Attributes:
        scorer: the product's, its states made for other texts.
        shopper: the shopper's titles.
        items: the candidates' texts.
    """

    scorer: TextScorer
    shopper: list[str]
    items: list[str]

    @cached_property
    def _tokens(self) -> TokenTable:
        return TokenTable.build(self.scorer.tokenizer, self.items + self.shopper, 510)

    @cached_property
    def sizes(self) -> tuple[int, float]:
        """Tokens of the shopper's side, and of an item on average."""
        lengths, items = self._tokens.lengths, len(self.items)
        return int(lengths[items:].sum()), float(lengths[:items].float().mean())

    def two_part(self, repeats: int) -> float:
        """Milliseconds of the product's way."""
        model = _with_segments(self.scorer.model, len(self.shopper))
        join, precision = model.shape.join_layer, self.scorer.precision
        states = encode_states(model.bert, self._tokens, layer=join, precision=precision)
        tokenizer = self.scorer.tokenizer
        scorer = TextScorer(model, states, tokenizer, 32, precision).forgetful()
        items = np.arange(len(self.items), dtype=np.int32)
        offsets = np.array([0, len(items)])
        ranks = np.zeros((len(items), 0), np.int32)
        candidates = Candidates(offsets, items, (), ranks)
        shoppers = ShopperTexts(
            np.array([0, len(self.shopper)]),
            np.arange(len(self.shopper)) + len(self.items),
            np.array([int(ShopperTextKind.HISTORY)]),
            (),
        )
        return median_ms(lambda: scorer.scores(shoppers, candidates), repeats)

    def plain(self, repeats: int) -> float:
        """Milliseconds of a plain cross-encoder of the same weights, in the same precision."""
        pairs = [f"{' '.join(self.shopper)} {item}" for item in self.items]
        tokens = TokenTable.build(self.scorer.tokenizer, pairs, 512)
        precision = self.scorer.precision
        return median_ms(lambda: _read(self.scorer.model.bert, tokens, precision), repeats)

    def peer(self, peer: PeerCrossEncoder, repeats: int) -> float:
        """Milliseconds of the peer's `predict`."""
        shopper = ". ".join(self.shopper)
        pairs = [(shopper, item) for item in self.items]
        return median_ms(lambda: peer.predict(pairs), repeats)


def measure_text_scoring(
    contents: Contents,
    out: Path,
    repeats: int,
    seed: int,
) -> TextScoring:
    """Cost against the shopper's tokens, the items' tokens and the number of candidates.

    Args:
        contents: of a bundle: weights, tokenizer, titles and shoppers' histories are taken; it
            names the model that the peer loads: as large, weights don't change its cost.
        out: a folder on the disk whose reads are timed; nothing stays in it.
        repeats: runs that each median is of.
        seed: of the texts that are drawn.
    """
    scorer, config = contents.texts.scorer, contents.configuration.text
    titles = render_items(contents.catalogue.table)
    texts = Texts(scorer.tokenizer, titles, _histories(contents.log), np.random.default_rng(seed))
    peer = PeerCrossEncoder(locate(config.pretrained), num_labels=1, device="cpu")
    costs = []
    for shopper, item in PEERED:
        name = "with peer, real items" if item is None else "with peer, items of one length"
        cost, task = _cost(scorer, texts, (name, shopper, item, USUAL[2]), repeats)
        cost.plain_ms, cost.peer_ms = task.plain(repeats), task.peer(peer, repeats)
        costs.append(cost)
    sweeps: dict[str, list[tuple[int, int | None, int]]] = {
        "shopper tokens": [(tokens, USUAL[1], USUAL[2]) for tokens in SHOPPER_TOKENS],
        "item tokens": [(USUAL[0], tokens, USUAL[2]) for tokens in ITEM_TOKENS],
        "candidates": [(USUAL[0], None, count) for count in CANDIDATES],
    }
    for name, sizes in sweeps.items():
        costs += [_cost(scorer, texts, (name, *size), repeats)[0] for size in sizes]
    return TextScoring(
        machine=this_machine(),
        precision=scorer.precision,
        repeats=repeats,
        costs=costs,
        embedding=measure_embedding(
            titles, config.pretrained, scorer.precision, config.item_max_tokens, repeats
        ),
        kernels_ms={
            precision: 1_000 * seconds
            for precision, seconds in sample_seconds(scorer, time.perf_counter).items()
        },
        item_states=measure_item_states(scorer, titles, out, repeats, seed),
    )


def _cost(
    scorer: TextScorer, texts: Texts, size: tuple[str, int, int | None, int], repeats: int
) -> tuple[Cost, Task]:
    name, shopper, item, count = size
    items = _drawn(texts, count) if item is None else texts.of_tokens(count, item)
    task = Task(scorer, texts.history_of_tokens(shopper), list(items))
    shopper_tokens, item_tokens = task.sizes
    cost = Cost(
        case=name,
        shopper_tokens=shopper_tokens,
        item_tokens=item_tokens,
        candidates=count,
        two_part_ms=task.two_part(repeats),
    )
    return cost, task


def _histories(log: InteractionLog) -> list[list[int]]:
    """Distinct items of each shopper, the latest first."""
    histories = log.histories(np.arange(len(log.user_ids)))
    bounds = itertools.pairwise(histories.offsets.tolist())
    items = (histories.item[first:end][::-1].tolist() for first, end in bounds)
    return [list(dict.fromkeys(rows)) for rows in items]


def _drawn(texts: Texts, count: int) -> NDArray[np.str_]:
    return texts.rng.choice(np.array(texts.titles), count)


def _with_segments(model: CrossEncoder, segments: int) -> CrossEncoder:
    """The model with room for so many titles: only cost is measured, so the new ones are zeros."""
    room = max(segments, model.shape.max_segments)
    shape = model.shape.model_copy(update={"max_segments": room})
    return CrossEncoder(model.bert, shape).eval()


@torch.inference_mode()
def _read(bert: BertModel, tokens: TokenTable, precision: Precision) -> None:
    for rows in batches_by_length(tokens.lengths):
        ids, mask = tokens.padded(rows)
        with autocast(precision):
            run_layers(bert, embed_tokens(bert, ids), mask, 0, layer_count(bert))
