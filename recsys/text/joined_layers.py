"""The joined layers as scoring runs them: one request, weights cast and fused once.

The same arithmetic as `CrossEncoder.shopper_side` and `CrossEncoder.score`, which training
differentiates; here without padding, without a batch of requests and without autocast's casts.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final, Self

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.bert.modeling_bert import BertLayer

from recsys.text.bert import finish_layer
from recsys.text.cross_encoder import CrossEncoder
from recsys.text.shopper_side import MASKED, ShopperSide
from recsys.text.token_rows import TokenRows

_ROWS_OF_HEAD: Final = 16
"""The head's rows are filled up to a multiple: fewer take other kernels, which round otherwise."""

_ROWS_OF_LAYER: Final = 64
_SHARED_KEYS: Final = 16
"""A layer's rows and the keys that candidates share are filled up to multiples: oneDNN makes, and
keeps, a kernel for each shape that comes, and with every request's own a server holds half a
gigabyte of them."""


@dataclass(frozen=True)
class _Layer:
    """A transformer layer in the dtype of scoring.

    Attributes:
        block: the layer; its attention's projections are in `projection` instead.
        projection: weight (3 d, d) and bias (3 d,) of queries, scaled, keys and values.
        key_biases: (heads, kinds, segments), logit bias on shopper keys.
    """

    block: BertLayer
    projection: tuple[Tensor, Tensor]
    key_biases: Tensor

    @classmethod
    def of(cls, model: CrossEncoder, depth: int, dtype: torch.dtype, device: str) -> Self:
        block = model.joined_layers[depth]
        attention = block.attention.self
        scale = attention.attention_head_size**-0.5
        parts = (attention.query, attention.key, attention.value)
        weight = torch.cat([parts[0].weight * scale, *(part.weight for part in parts[1:])])
        bias = torch.cat([parts[0].bias * scale, *(part.bias for part in parts[1:])])
        key_biases = model.kind_bias[depth].unsqueeze(2) + model.segment_bias[depth].unsqueeze(1)
        own = copy.deepcopy(block).eval().to(device, dtype)
        weight, bias, key_biases = (part.to(device, dtype) for part in (weight, bias, key_biases))
        return cls(own, (weight, bias), key_biases)

    def projected(self, states: Tensor) -> Tensor:
        """Queries, keys and values (n, 3, heads, d / heads) of states (n, d)."""
        heads = len(self.key_biases)
        return functional.linear(states, *self.projection).view(len(states), 3, heads, -1)


class JoinedLayers:
    """A cross-encoder from its join layer up, for scoring one request at a time.

    Args:
        model: later changes of its weights are not seen.
        dtype: of weights and states; pooling and head are always float32.
        device: where it is computed; states may come from elsewhere.
    """

    def __init__(self, model: CrossEncoder, dtype: torch.dtype, device: str = "cpu") -> None:
        depths = range(len(model.joined_layers))
        with torch.inference_mode():
            self._layers = [_Layer.of(model, depth, dtype, device) for depth in depths]
            self._head = copy.deepcopy(model.head).eval().to(device)
        self._device = device
        self._segment_max_tokens = model.shape.segment_max_tokens
        self._dtype = dtype

    @torch.inference_mode()
    def shopper_side(self, states: Tensor, texts: TokenRows, kind: int) -> ShopperSide:
        """Read the segments of one request to the top; see `CrossEncoder.shopper_side`.

        Args:
            states: (n, d), join-layer states of the rows of `texts`; n may be 0.
            texts: the segments, latest first.
            kind: value of `ShopperTextKind`.
        """
        if len(states) == 0:
            return self._nobody(states.shape[1])
        states = self._filled(states)
        shared = (texts.within < self._segment_max_tokens).nonzero().squeeze(1).to(self._device)
        texts = texts.to(self._device)
        segment = texts.text[shared]
        keys, values, biases = [], [], []
        for layer in self._layers:
            joined = layer.projected(states)
            key, value = joined[shared, 1:].permute(1, 2, 0, 3)
            bias = layer.key_biases[:, None, kind, segment]
            unused = -len(shared) % _SHARED_KEYS
            keys.append(functional.pad(key[None], (0, 0, 0, unused)))
            values.append(functional.pad(value[None], (0, 0, 0, unused)))
            biases.append(functional.pad(bias[None], (0, unused), value=MASKED))
            context = _attended(joined, texts)
            states = finish_layer(layer.block, context, states)
        vectors = functional.normalize(texts.mean(states), dim=-1)
        present = torch.ones(1, len(vectors), dtype=torch.bool, device=self._device)
        return ShopperSide(keys, values, biases, vectors[None], present)

    def _filled(self, states: Tensor) -> Tensor:
        """States (n, d) in the dtype of scoring, and rows of zeros that belong to no text."""
        own = states.to(self._device, self._dtype)
        return functional.pad(own, (0, 0, 0, -len(own) % _ROWS_OF_LAYER))

    def _nobody(self, size: int) -> ShopperSide:
        """The side of a shopper without texts: no keys, and a vector that is not there."""
        nothing: list[Tensor] = []
        present = torch.zeros(1, 1, dtype=torch.bool, device=self._device)
        vectors = torch.zeros(1, 1, size, device=self._device)
        return ShopperSide(nothing, nothing, nothing, vectors, present)

    @torch.inference_mode()
    def logits(self, states: Tensor, texts: TokenRows, shopper: ShopperSide) -> Tensor:
        """Raw logits float32 (k, 2) of k candidates; see `CrossEncoder.score`.

        Args:
            states: (n, d), join-layer states of the rows of `texts`.
            texts: the candidates, at least one.
            shopper: of one request.
        """
        states, texts = self._filled(states), texts.to(self._device)
        for depth, layer in enumerate(self._layers):
            context = _attended(layer.projected(states), texts, _shared(shopper, depth))
            states = finish_layer(layer.block, context, states)
        items = functional.normalize(texts.mean(states), dim=-1)
        count = len(items)
        items = functional.pad(items, (0, 0, 0, -count % _ROWS_OF_HEAD))
        logits: Tensor = self._head(items[None], shopper.vectors, shopper.present)[0, :count]
        return logits


def _shared(shopper: ShopperSide, depth: int) -> tuple[Tensor, Tensor, Tensor] | None:
    """What candidates of one request attend to in a layer; None for nothing."""
    if not shopper.keys:
        return None
    return shopper.keys[depth][0], shopper.values[depth][0], shopper.biases[depth][0]


def _attended(
    joined: Tensor, texts: TokenRows, shared: tuple[Tensor, Tensor, Tensor] | None = None
) -> Tensor:
    """Each row attends to its own text and to `shared` keys, values and biases: (n, d).

    What is a text's own is computed on the grid of `texts`, what is shared on the rows. Columns of
    the scores: shared tokens, then the own text's from its first, then unused ones, so that a
    row's sums don't depend on the other texts.

    Args:
        joined: (n, 3, heads, d / heads), queries, keys and values; rows beyond those of `texts`
            get something finite.
        texts: whose tokens the first rows are.
        shared: of one request.
    """
    cell = functional.pad(texts.cell, (0, len(joined) - len(texts.cell)))
    lines = joined.index_select(0, texts.row).unflatten(0, texts.is_token.shape)
    grid = lines.permute(2, 3, 0, 1, 4).contiguous()
    scores = grid[0] @ grid[1].transpose(2, 3)
    scores.masked_fill_(~texts.is_token[:, None], MASKED)
    scores = scores.flatten(1, 2).index_select(1, cell)
    if shared:
        query = joined[:, 0].transpose(0, 1)
        to_shared = torch.baddbmm(shared[2], query, shared[0].transpose(1, 2))
        weights = torch.cat([to_shared, scores], dim=-1).softmax(-1)
    else:
        weights = scores.softmax(-1)
    own = weights[..., -texts.width :].index_select(1, texts.row)
    own = own.unflatten(1, texts.is_token.shape) @ grid[2]
    context = own.flatten(1, 2).index_select(1, cell)
    if shared:
        context += torch.bmm(weights[..., : -texts.width], shared[1])
    rows: Tensor = context.transpose(0, 1).flatten(1)
    return rows
