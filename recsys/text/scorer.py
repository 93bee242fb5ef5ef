"""Scoring a request's candidates with the cross-encoder and stored item states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from recsys.interactions import Candidates
from recsys.text.compiled_layers import CompiledLayers, ScoringLayers
from recsys.text.cross_encoder import CrossEncoder
from recsys.text.devices import Device
from recsys.text.encode import Advance, Precision, batches_by_length, encode_states
from recsys.text.pair_scores import PairScores
from recsys.text.remembered_sides import DEFAULT_CAPACITY as SIDES
from recsys.text.remembered_sides import RememberedSides
from recsys.text.remembered_vectors import DEFAULT_CAPACITY as VECTORS
from recsys.text.remembered_vectors import RememberedVectors
from recsys.text.render import ShopperTexts
from recsys.text.shopper_side import ShopperSide
from recsys.text.tables import ItemStates, StateTable, TokenTable
from recsys.text.token_rows import TokenRows
from recsys.turns import TURNS

TOKENS_PER_CHUNK: Final = 2_048
_DTYPES: Final = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class TextScorer:
    """The cross-encoder with the states of a catalogue's items.

    Attributes:
        model: with its final weights.
        states: items in catalogue order, at the model's join layer.
        tokenizer: for queries.
        query_max_tokens: tokens of a query that are read.
        precision: of the forward pass.
        pair_scores: what was computed before by this very scorer.
        remembered_shoppers: whose sides, as this very scorer read them lately, are kept at most.
        remembered_texts: whose vectors on shoppers' sides are kept at most.
        device: where joined layers are computed; the items' states stay where they are.
        compiled: the model's layers, shared with others that score by it.
    """

    model: CrossEncoder
    states: ItemStates
    tokenizer: PreTrainedTokenizerFast
    query_max_tokens: int
    precision: Precision
    pair_scores: PairScores = field(default_factory=PairScores)
    remembered_shoppers: int = SIDES
    remembered_texts: int = VECTORS
    device: Device = "cpu"
    compiled: CompiledLayers = field(default_factory=CompiledLayers)

    def scores(
        self,
        shoppers: ShopperTexts,
        candidates: Candidates,
        advance: Advance | None = None,
        before_chunk: Callable[[], None] | None = None,
    ) -> NDArray[np.float32]:
        """Raw logits float32 (m, 2) of click and purchase, one row a candidate, order kept.

        A request's scores are computed from that request alone: the same whether it comes by itself
        or with others. `before_chunk` is called before every forward pass, and may raise to end it.
        """
        logits = np.empty((len(candidates.item), 2), np.float32)
        for i, rows in enumerate(self._requests(candidates)):
            logits[rows] = self._one(shoppers, i, candidates.item[rows], before_chunk)
            if advance:
                advance(1)
        return logits

    def reading(self, states: ItemStates) -> TextScorer:
        """The same model over another catalogue; nothing is remembered of the old one."""
        return replace(self, states=states, pair_scores=PairScores())

    def forgetful(self) -> TextScorer:
        """The same, but it computes everything anew each time."""
        return replace(self, pair_scores=PairScores(0), remembered_shoppers=0, remembered_texts=0)

    def remembered(self, shoppers: ShopperTexts, candidates: Candidates) -> NDArray[np.bool_]:
        """Bool (m,): candidates whose scores are known without computing anything."""
        return np.concatenate(
            [
                np.zeros(0, np.bool_),
                *(
                    self.pair_scores.has(self._named(shoppers, i), candidates.item[rows])
                    for i, rows in enumerate(self._requests(candidates))
                ),
            ]
        )

    def read_shoppers(self, shoppers: ShopperTexts) -> None:
        """Read the shoppers' sides, which `scores` then finds remembered."""
        for request in range(shoppers.count):
            self._shopper_side(shoppers, request)

    def has_read(self, shoppers: ShopperTexts) -> bool:
        """Whether `read_shoppers` has nothing to do."""
        return all(self._named(shoppers, i) in self._sides for i in range(shoppers.count))

    def forget(self) -> None:
        """Be as new: nothing is remembered, and nothing was asked for."""
        self.pair_scores.clear()
        self._sides.clear()
        self._vectors.clear()

    @cached_property
    def _sides(self) -> RememberedSides:
        return RememberedSides(self.remembered_shoppers)

    @cached_property
    def _vectors(self) -> RememberedVectors:
        size = self.model.bert.config.hidden_size
        return RememberedVectors(size, self.remembered_texts)

    @property
    def _layers(self) -> ScoringLayers:
        return self.compiled.of(self.model, _DTYPES[self.precision], self.device)

    @staticmethod
    def _requests(candidates: Candidates) -> Iterator[slice]:
        for start, end in zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True):
            yield slice(int(start), int(end))

    def _one(
        self,
        shoppers: ShopperTexts,
        request: int,
        items: NDArray[np.int32],
        before_chunk: Callable[[], None] | None,
    ) -> NDArray[np.float32]:
        shopper = self._named(shoppers, request)
        logits = self.pair_scores.known(shopper, items)
        unknown = np.isnan(logits[:, 0])
        if unknown.any():
            logits[unknown] = self._computed(shoppers, request, items[unknown], before_chunk)
            self.pair_scores.add(shopper, items[unknown], logits[unknown])
        return logits

    def _named(self, shoppers: ShopperTexts, request: int) -> bytes:
        """What the shopper's text is known by."""
        rows = shoppers.segments[shoppers.offsets[request] : shoppers.offsets[request + 1]]
        items, kind = self.states.texts, int(shoppers.kind[request])
        if len(rows) and int(rows[0]) >= items:
            return bytes([kind]) + shoppers.queries[int(rows[0]) - items].encode()
        return bytes([kind]) + rows.tobytes()

    def _computed(
        self,
        shoppers: ShopperTexts,
        request: int,
        items: NDArray[np.int32],
        before_chunk: Callable[[], None] | None,
    ) -> NDArray[np.float32]:
        rows = torch.from_numpy(items.astype(np.int64))
        logits = torch.empty(len(rows), 2)
        side = self._shopper_side(shoppers, request)
        for chunk in batches_by_length(self.states.lengths_of(rows), TOKENS_PER_CHUNK):
            if before_chunk:
                before_chunk()
            read = _read(self.states, rows[chunk])
            with TURNS.left():
                logits[chunk] = self._layers.logits(*read, side).cpu()
        result: NDArray[np.float32] = logits.numpy()
        return result

    def _shopper_side(self, shoppers: ShopperTexts, request: int) -> ShopperSide:
        named = self._named(shoppers, request)
        return self._sides.of(named, lambda: self._read_shopper(shoppers, request))

    def _read_shopper(self, shoppers: ShopperTexts, request: int) -> ShopperSide:
        own = slice(int(shoppers.offsets[request]), int(shoppers.offsets[request + 1]))
        rows, kind = torch.from_numpy(shoppers.segments[own]), int(shoppers.kind[request])
        items = self.states.texts
        if len(rows) and int(rows[0]) >= items:
            table = self._query_states(shoppers.queries[int(rows[0]) - items])
            read = _read(table, torch.zeros(1, dtype=torch.int64))
            with TURNS.left():
                return self._layers.shopper_side(*read, kind)
        read, known = _read(self.states, rows), self._vectors.known(rows)
        with TURNS.left():
            side = self._layers.shopper_side(*read, kind, known)
        if side.tokens is None and len(rows):
            self._vectors.add(rows, side.vectors[0].cpu())
        return side

    def _query_states(self, query: str) -> StateTable:
        tokens = TokenTable.build(self.tokenizer, [query], self.query_max_tokens)
        return encode_states(
            self.model.bert,
            tokens,
            layer=self.model.shape.join_layer,
            precision=self.precision,
        )


def _read(table: ItemStates, rows: torch.Tensor) -> tuple[torch.Tensor, TokenRows]:
    """The states of the texts `rows`, and where they are."""
    tokens = TokenRows.of(table.offsets[rows], table.lengths_of(rows))
    return table.at(tokens.place), tokens
