"""The two-part cross-encoder: items and shopper apart below the join layer, joined above it.

Below the join layer every text is read by itself, so the states of an item at the join layer
are computed once and stored. The shopper's side is a list of segments (the query, or the texts of
items), read by themselves to the top; from the join layer up, an item's tokens attend to the item
and to the keys and values of all segments, which are shared by all candidates of a request. The
head compares the pooled item with each pooled segment and starts at the untuned similarity, so
that fine-tuning begins where the pretrained model stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer

from recsys.errors import ModelError
from recsys.text.bert import (
    embed_tokens,
    finish_layer,
    freeze_below,
    layer_count,
    layers,
    mean_pool,
    read_bert_config,
    run_layers,
    self_attention_layer,
    split_heads,
    write_bert_config,
)
from recsys.text.render import ShopperTextKind

WEIGHTS_FILE: Final = "model.safetensors"
SHAPE_FILE: Final = "cross_encoder.json"
BERT_FILE: Final = "bert.json"
CLICK, PURCHASE = 0, 1
"""Columns of the logits."""

MASKED: Final = -1e4
"""Logit of what may not be attended to."""


class CrossEncoderShape(BaseModel):
    """What is needed beside a BERT's configuration to build the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join_layer: int
    """First layer in which item tokens see shopper tokens."""

    max_segments: int
    """Segments on the shopper's side."""

    segment_max_tokens: int = 16
    """Tokens of a segment, from its front, that candidates attend to; its vector pools all."""

    shopper_key_bias: float
    """Start value of the logit bias on shopper keys."""


@dataclass(frozen=True)
class ShopperSide:
    """The shopper's side of b requests, ready to be shared by their candidates.

    Attributes:
        keys: per joined layer, (b, heads, l, d / heads), l tokens of all segments.
        values: as `keys`.
        biases: per joined layer, (b, heads, 1, l): learned logit bias; masked tokens are far below.
        vectors: float32 (b, s, d), pooled unit vectors of the segments.
        present: bool (b, s), true for segments.
    """

    keys: list[Tensor]
    values: list[Tensor]
    biases: list[Tensor]
    vectors: Tensor
    present: Tensor


class CrossEncoder(nn.Module):
    """Scores candidates of shoppers; see the module's text for the idea.

    Args:
        bert: the pretrained model, adapted in place.
        shape: join layer and segments.

    Raises:
        ModelError: the join layer is not below the top of the model.
    """

    def __init__(self, bert: BertModel, shape: CrossEncoderShape) -> None:
        super().__init__()
        depth = layer_count(bert)
        if not 0 <= shape.join_layer < depth:
            raise ModelError(
                f"join_layer is {shape.join_layer}; this model has {depth} layers, so it must be "
                f"0 to {depth - 1}"
            )
        heads = bert.config.num_attention_heads
        joined = depth - shape.join_layer
        self.bert = bert
        self.shape = shape
        self.kind_bias = nn.Parameter(
            torch.full((joined, heads, len(ShopperTextKind)), shape.shopper_key_bias)
        )
        self.segment_bias = nn.Parameter(torch.zeros(joined, heads, shape.max_segments))
        self.head = _Head(bert.config.hidden_size, shape.max_segments)

    @property
    def joined_layers(self) -> list[BertLayer]:
        """Layers from the join layer up."""
        return layers(self.bert)[self.shape.join_layer :]

    def freeze(self, layers: int) -> None:
        """Keep the `layers` lowest transformer layers and the embeddings as pretrained."""
        freeze_below(self.bert, layers)

    def set_dropout(self, share: float) -> None:
        """Dropout of all layers while training."""
        for module in self.bert.modules():
            if isinstance(module, nn.Dropout):
                module.p = share

    def join_states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """States (u, t, d) at the join layer of token ids int64 (u, t); see `encode_states`."""
        return self.join_states_from(embed_tokens(self.bert, ids), mask, 0)

    def join_states_from(self, states: Tensor, mask: Tensor, layer: int) -> Tensor:
        """States (u, t, d) at the join layer of states (u, t, d) at `layer`, at or below it."""
        return run_layers(self.bert, states, mask, layer, self.shape.join_layer)

    def shopper_side(
        self, states: Tensor, mask: Tensor, segments: Tensor, kind: Tensor
    ) -> ShopperSide:
        """Read the segments to the top.

        Args:
            states: (u, t, d), join-layer states of the u distinct segment texts; u may be 0.
            mask: bool (u, t).
            segments: int64 (b, s), rows of `states` for each request, -1 for none.
            kind: int64 (b,), values of `ShopperTextKind`.
        """
        if segments.shape[1] == 0:
            segments = segments.new_full((len(segments), 1), -1)
        present = segments >= 0
        if len(states) == 0:
            states, mask = states.new_zeros(1, 1, states.shape[-1]), mask.new_zeros(1, 1)
        row = segments.clamp(min=0)
        shared = mask[row] & present.unsqueeze(-1)
        shared[..., self.shape.segment_max_tokens :] = False
        place, token_segment, tokens = _compact(shared, row)
        keys, values, biases = [], [], []
        for depth, layer in enumerate(self.joined_layers):
            _, key, value = split_heads(layer, states)
            keys.append(key.flatten(0, 1)[place].transpose(1, 2))
            values.append(value.flatten(0, 1)[place].transpose(1, 2))
            biases.append(self._bias(depth, token_segment, kind, tokens))
            states = self_attention_layer(layer, states, mask)
        vectors = mean_pool(states, mask)[row] * present.unsqueeze(-1)
        return ShopperSide(keys, values, biases, vectors, present)

    def score(self, states: Tensor, mask: Tensor, shopper: ShopperSide) -> Tensor:
        """Score each request's candidates.

        Args:
            states: (b, k, t, d), join-layer states of k candidates per request.
            mask: bool (b, k, t); a candidate without tokens is padding and gets an arbitrary score.
            shopper: the same b requests.

        Returns:
            float32 (b, k, 2): raw logits of click and purchase. A pair's logits don't depend on the
            other candidates, their order or the padding (up to rounding).
        """
        b, k, t, _ = states.shape
        place = mask.flatten().nonzero().squeeze(1)
        tokens = states.flatten(0, 2)[place]
        for depth, layer in enumerate(self.joined_layers):
            query, key, value = (
                _on_grid(part, place, (b, k, t)) for part in split_heads(layer, tokens)
            )
            context = _joint_attention((query, key, value), mask, shopper, depth)
            tokens = finish_layer(layer, context.flatten(0, 2)[place], tokens)
        count = mask.sum(-1).clamp(min=1).unsqueeze(-1)
        total = tokens.new_zeros(b * k, tokens.shape[-1], dtype=torch.float32)
        total = total.index_add(0, place // t, tokens.float())
        item = functional.normalize(total.view(b, k, -1) / count, dim=-1)
        logits: Tensor = self.head(item, shopper)
        return logits

    def _bias(self, depth: int, token_segment: Tensor, kind: Tensor, tokens: Tensor) -> Tensor:
        by_segment = self.segment_bias[depth][:, token_segment].transpose(0, 1)
        by_kind = self.kind_bias[depth].T[kind].unsqueeze(-1)
        bias = (by_kind + by_segment).masked_fill(~tokens.unsqueeze(1), MASKED)
        return bias.unsqueeze(2)

    def save(self, folder: Path) -> None:
        """Write weights as safetensors and the shapes as JSON into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE)
        (folder / SHAPE_FILE).write_text(self.shape.model_dump_json(indent=2) + "\n")
        write_bert_config(self.bert.config, folder / BERT_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved model, in evaluation mode.

        Raises:
            ModelError: a file is missing, damaged or does not fit the others.
        """
        try:
            shape = CrossEncoderShape.model_validate_json((folder / SHAPE_FILE).read_text())
            config = read_bert_config(folder / BERT_FILE)
            model = cls(BertModel(config, add_pooling_layer=False), shape)
            model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"can't load the cross-encoder in {folder}: {error}") from error
        return model.eval()


class _Head(nn.Module):
    """Compares the pooled item with the pooled segments; starts at the untuned similarity.

    With unit vectors i of the item and v of the n segments, and recency weights r that sum to 1
    over the segments, a logit is `SCALE * w · (best, soft, matched) + u · i + bias`: the highest
    cosine, the cosines' mean weighted by `softmax(SHARPNESS * cosine)`, and the match of item and
    profile in a learned metric, `(A i) · (A sum(r v)) * n ** growth`. It starts as `SCALE * (0.08
    best + 0.02 mean cosine) - 5`: A is the identity, r is even, u and growth are zero.
    """

    SCALE = 100.0
    """Large, so that one learning rate suits the weights and the biases."""

    SHARPNESS = 10.0

    def __init__(self, hidden: int, max_segments: int) -> None:
        super().__init__()
        self.similarity = nn.Linear(3, 2)
        self.recency = nn.Parameter(torch.zeros(max_segments))
        self.growth = nn.Parameter(torch.zeros(()))
        self.metric = nn.Linear(hidden, hidden, bias=False)
        self.appeal = nn.Linear(hidden, 2, bias=False)
        with torch.no_grad():
            self.similarity.weight.copy_(torch.tensor([0.08, 0.0, 0.02]).expand(2, 3))
            self.similarity.bias.fill_(-0.05)
            nn.init.eye_(self.metric.weight)
            self.appeal.weight.zero_()

    def forward(self, item: Tensor, shopper: ShopperSide) -> Tensor:
        """Logits float32 (b, k, 2) of pooled items (b, k, d), always in full precision."""
        with torch.autocast("cpu", enabled=False):
            return self._logits(item, shopper)

    def _logits(self, item: Tensor, shopper: ShopperSide) -> Tensor:
        present = shopper.present.unsqueeze(1)
        cosine = item @ shopper.vectors.transpose(1, 2)
        best = cosine.masked_fill(~present, -1.0).amax(-1).masked_fill(~present.any(-1), 0.0)
        soft = (_weights(self.SHARPNESS * cosine, present) * cosine).sum(-1)
        recent = _weights(self.recency[: cosine.shape[-1]].expand_as(present), present)
        count = present.sum(-1, keepdim=True).clamp(min=1)
        profile = recent @ shopper.vectors * count**self.growth
        matched = (self.metric(item) @ self.metric(profile).transpose(1, 2)).squeeze(-1)
        compared = self.similarity(torch.stack([best, soft, matched], dim=-1))
        logits: Tensor = self.SCALE * compared + self.appeal(item)
        return logits


def _compact(present: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move each request's existing tokens to the front and cut to the longest request.

    Args:
        present: bool (b, s, t).
        row: int64 (b, s), rows of the segments' states (u, t, d).

    Returns:
        Each kept token's place in the flattened states (b, l), its segment (b, l), and whether it
        exists (b, l).
    """
    b, s, t = present.shape
    flat = present.view(b, s * t)
    length = max(int(flat.sum(1).max()), 1) if b else 1
    order = torch.argsort(~flat, dim=1, stable=True)[:, :length]
    place = (row.unsqueeze(-1) * t + torch.arange(t)).view(b, s * t)
    return place.gather(1, order), order // t, flat.gather(1, order)


def _weights(logits: Tensor, present: Tensor) -> Tensor:
    """Softmax over the present segments; all zero where there are none."""
    weights = logits.masked_fill(~present, MASKED).softmax(-1)
    return weights * present


def _on_grid(part: Tensor, place: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Heads (n, heads, size) of the existing tokens at their places in (b, k, t, heads, size)."""
    b, k, t = grid
    padded = part.new_zeros(b * k * t, *part.shape[1:])
    return padded.index_copy(0, place, part).view(b, k, t, *part.shape[1:])


def _joint_attention(
    heads: tuple[Tensor, Tensor, Tensor], mask: Tensor, shopper: ShopperSide, depth: int
) -> Tensor:
    """Item tokens attend to their own item and to the shopper's tokens: (b, k, t, d)."""
    query, key, value = heads
    b, k, t, parts, size = query.shape
    query = query * size**-0.5
    own = torch.einsum("bkqhs,bkths->bhkqt", query, key)
    own = own + torch.where(mask, 0.0, MASKED)[:, None, :, None, :]
    shared = query.permute(0, 3, 1, 2, 4).reshape(b, parts, k * t, size)
    shared = shared @ shopper.keys[depth].transpose(-1, -2) + shopper.biases[depth]
    weights = torch.cat([own, shared.view(b, parts, k, t, -1)], dim=-1).softmax(-1)
    weights = weights.to(value.dtype)
    from_own = torch.einsum("bhkqt,bkths->bkqhs", weights[..., :t], value)
    from_shared = weights[..., t:].reshape(b, parts, k * t, -1) @ shopper.values[depth]
    from_shared = from_shared.view(b, parts, k, t, size).permute(0, 2, 3, 1, 4)
    return (from_own + from_shared).flatten(-2)
