"""The plain pattern: item and shopper as one sequence, everything attends to everything.

Every text keeps its own positions, as in the two-part pattern; what differs is who attends to whom.
Keys of another text have a learned logit bias: with a strongly negative one every text starts by
reading itself, as the pretrained model does.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.bert.modeling_bert import BertLayer

from recsys.text.bert import finish_layer, full_precision, mean_pool, split_heads
from recsys.text.head import SimilarityHead
from recsys.text.shopper_side import MASKED, ShopperSide, ShopperTokens, on_grid
from recsys.text.token_rows import TokenRows

_ITEM: Final = -1
_CELLS_PER_PASS: Final = 1 << 19
"""Of the attention scores of a head, which bounds the memory of a pass."""


class KeyBiases(NamedTuple):
    """Learned logit biases on keys of another text, by layer and head.

    Attributes:
        kind: (layers, heads, kinds), on shopper keys by where the shopper's text comes from.
        segment: (layers, heads, segments), added to `kind` by place.
        item: (layers, heads), on item keys.
    """

    kind: Tensor
    segment: Tensor
    item: Tensor

    def on_keys(self, depth: int, shopper: ShopperTokens, item_tokens: int) -> Tensor:
        """(b, heads, t + l), of the item's t tokens and then the shopper's l."""
        by_segment = self.segment[depth][:, shopper.segment].transpose(0, 1)
        by_kind = self.kind[depth].T[shopper.kind].unsqueeze(-1)
        item = self.item[depth][None, :, None].expand(len(shopper.states), -1, item_tokens)
        return torch.cat([item, by_kind + by_segment], dim=-1)


@dataclass(frozen=True)
class PlainPass:
    """A BERT's layers and the head, reading item and shopper together.

    Attributes:
        layers: from the first to the last.
        biases: of those layers.
        head: compares what was pooled.
    """

    layers: Sequence[BertLayer]
    biases: KeyBiases
    head: SimilarityHead

    def logits(self, states: Tensor, mask: Tensor, shopper: ShopperSide) -> Tensor:
        """Raw logits float32 (b, k, 2); see `CrossEncoder.score`."""
        b, k, t, size = states.shape
        if shopper.tokens is None:
            raise ValueError("this shopper's side was made for the two-part pattern")
        tokens = shopper.tokens
        grid = (b, k, t + tokens.states.shape[1])
        together = torch.cat([states, _for_each(tokens.states, k)], dim=2)
        exists = torch.cat([mask, _for_each(tokens.exists, k)], dim=2)
        owner = functional.pad(tokens.segment, (t, 0), value=_ITEM)
        apart = owner.unsqueeze(2) != owner.unsqueeze(1)
        absent = None if exists.all() else ~exists
        place = exists.flatten().nonzero().squeeze(1)
        rows = together.flatten(0, 2)[place]
        for depth, layer in enumerate(self.layers):
            query, key, value = (on_grid(part, place, grid) for part in split_heads(layer, rows))
            bias = self.biases.on_keys(depth, tokens, t).unsqueeze(2) * apart.unsqueeze(1)
            context = _attended((query, key, value), bias, absent)
            rows = finish_layer(layer, context.flatten(0, 2)[place], rows)
        together = on_grid(rows, place, grid)
        item = mean_pool(together[:, :, :t], mask)
        vectors = _pooled_segments(together[:, :, t:], tokens, shopper.present)
        present = _for_each(shopper.present, k)
        with full_precision(item.device):
            logits: Tensor = self.head(
                item.view(b * k, 1, size), vectors.flatten(0, 1), present.flatten(0, 1)
            )
        return logits.view(b, k, 2)

    def cast(self, dtype: torch.dtype, device: str) -> Self:
        """A copy on a device with layers and biases in `dtype`; the head keeps its own."""
        with torch.inference_mode():
            layers = [copy.deepcopy(layer).eval().to(device, dtype) for layer in self.layers]
            biases = KeyBiases(*(bias.detach().to(device, dtype) for bias in self.biases))
            return type(self)(layers, biases, copy.deepcopy(self.head).eval().to(device))


class PlainLayers:
    """The plain pattern as scoring runs it: one request at a time, weights cast once.

    Args:
        model: in the plain pattern; later changes of its weights are not seen.
        segment_max_tokens: tokens of a segment that are read, from its front.
        dtype: of weights and states; pooling and head are always float32.
        device: where it is computed; states may come from elsewhere.
    """

    def __init__(
        self, model: PlainPass, segment_max_tokens: int, dtype: torch.dtype, device: str = "cpu"
    ) -> None:
        self._pass = model.cast(dtype, device)
        self._device = device
        self._segment_max_tokens = segment_max_tokens
        self._dtype = dtype

    @torch.inference_mode()
    def shopper_side(
        self, states: Tensor, texts: TokenRows, kind: int, known: Tensor | None = None
    ) -> ShopperSide:
        """The tokens of one request's segments; see `JoinedLayers.shopper_side`.

        Nothing is `known` of a segment: its vector depends on the candidate.
        """
        del known
        kept = texts.within < self._segment_max_tokens
        segment = texts.text[kept][None].to(self._device)
        read = states[kept][None].to(self._device, self._dtype)
        exists = torch.ones_like(segment, dtype=torch.bool)
        segments = texts.texts
        present = torch.full((1, max(segments, 1)), segments > 0, device=self._device)
        tokens = ShopperTokens(read, segment, exists, torch.tensor([kind], device=self._device))
        return ShopperSide([], [], [], read.new_zeros(*present.shape, 0), present, tokens)

    @torch.inference_mode()
    def logits(self, states: Tensor, texts: TokenRows, shopper: ShopperSide) -> Tensor:
        """Raw logits float32 (k, 2) of k candidates; see `JoinedLayers.logits`."""
        states, texts = states.to(self._device, self._dtype), texts.to(self._device)
        mask = texts.is_token[: texts.texts]
        lines = states[texts.row].unflatten(0, texts.is_token.shape)[: texts.texts]
        length = texts.width + (shopper.tokens.states.shape[1] if shopper.tokens else 0)
        pairs = max(_CELLS_PER_PASS // length**2, 1)
        parts = zip(lines.split(pairs), mask.split(pairs), strict=True)
        return torch.cat([self._pass.logits(one[None], of[None], shopper)[0] for one, of in parts])


def _for_each(part: Tensor, count: int) -> Tensor:
    """(b, ...) as (b, count, ...), the same for each candidate."""
    return part.unsqueeze(1).expand(-1, count, *part.shape[1:])


def _attended(heads: tuple[Tensor, Tensor, Tensor], bias: Tensor, absent: Tensor | None) -> Tensor:
    """Attention over heads (b, k, n, heads, size): (b, k, n, d).

    Args:
        heads: queries, keys and values.
        bias: (b, heads, n, n), added to the logits.
        absent: bool (b, k, n), keys that are only padding; None where none is.
    """
    query, key, value = (part.transpose(2, 3) for part in heads)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + bias.unsqueeze(1)
    if absent is not None:
        scores = scores.masked_fill(absent[:, :, None, None], MASKED)
    context: Tensor = scores.softmax(-1).to(value.dtype) @ value
    return context.transpose(2, 3).flatten(-2)


def _pooled_segments(states: Tensor, tokens: ShopperTokens, present: Tensor) -> Tensor:
    """Unit vectors float32 (b, k, s, d) of the segments in states (b, k, l, d)."""
    slots = torch.arange(present.shape[1], device=present.device)
    member = (tokens.segment.unsqueeze(1) == slots[:, None]) & tokens.exists.unsqueeze(1)
    with full_precision(states.device):
        total = member.float().unsqueeze(1) @ states.float()
    return functional.normalize(total, dim=-1)
