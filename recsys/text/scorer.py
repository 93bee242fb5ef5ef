"""Scoring a request's candidates with the cross-encoder and stored item states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from recsys.interactions import Candidates
from recsys.text.cross_encoder import CrossEncoder, ShopperSide
from recsys.text.encode import Advance, Precision, autocast, batches_by_length, encode_states
from recsys.text.render import ShopperTexts
from recsys.text.tables import StateTable, TokenTable

TOKENS_PER_CHUNK = 1_024


@dataclass(frozen=True)
class TextScorer:
    """The cross-encoder with the states of a catalogue's items.

    Attributes:
        model: in evaluation mode.
        states: items in catalogue order, at the model's join layer.
        tokenizer: for queries.
        query_max_tokens: tokens of a query that are read.
        precision: of the forward pass.
    """

    model: CrossEncoder
    states: StateTable
    tokenizer: PreTrainedTokenizerFast
    query_max_tokens: int
    precision: Precision

    def scores(
        self, shoppers: ShopperTexts, candidates: Candidates, advance: Advance | None = None
    ) -> NDArray[np.float32]:
        """Raw logits float32 (m, 2) of click and purchase, one row a candidate, order kept.

        A request's scores are computed from that request alone: the same whether it comes by itself
        or with others.
        """
        logits = np.empty((len(candidates.item), 2), np.float32)
        for i, rows in enumerate(self._requests(candidates)):
            logits[rows] = self._one(shoppers, i, candidates.item[rows])
            if advance:
                advance(1)
        return logits

    @staticmethod
    def _requests(candidates: Candidates) -> Iterator[slice]:
        for start, end in zip(candidates.offsets[:-1], candidates.offsets[1:], strict=True):
            yield slice(int(start), int(end))

    @torch.inference_mode()
    def _one(
        self, shoppers: ShopperTexts, request: int, items: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        rows = torch.from_numpy(items.astype(np.int64))
        logits = torch.empty(len(rows), 2)
        with autocast(self.precision):
            side = self._shopper_side(shoppers, request)
            lengths = self.states.lengths[rows]
            for chunk in batches_by_length(lengths, TOKENS_PER_CHUNK):
                states, mask = self.states.padded(rows[chunk])
                batch = self.model.score(states.float()[None], mask[None], side)
                logits[chunk] = batch[0].float()
        result: NDArray[np.float32] = logits.numpy()
        return result

    def _shopper_side(self, shoppers: ShopperTexts, request: int) -> ShopperSide:
        own = slice(int(shoppers.offsets[request]), int(shoppers.offsets[request + 1]))
        rows = torch.from_numpy(shoppers.segments[own])
        items = len(self.states.lengths)
        if len(rows) and int(rows[0]) >= items:
            states, mask = self._query_states(shoppers.queries[int(rows[0]) - items])
        else:
            states, mask = self.states.padded(rows)
        kind = torch.from_numpy(shoppers.kind[request : request + 1])
        return self.model.shopper_side(states.float(), mask, torch.arange(len(rows))[None], kind)

    def _query_states(self, query: str) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = TokenTable.build(self.tokenizer, [query], self.query_max_tokens)
        table = encode_states(
            self.model.bert,
            tokens,
            layer=self.model.shape.join_layer,
            precision=self.precision,
        )
        return table.padded(torch.zeros(1, dtype=torch.int64))
