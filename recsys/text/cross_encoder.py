"""The cross-encoder: items and shopper apart below the join layer, joined above it.

The shopper's side is a list of segments (the query, or the texts of items). In the two-part pattern
every text is read by itself below the join layer, so the states of an item at the join layer are
computed once and stored. The segments are read by themselves to the top; from the join layer up, an
item's tokens attend to the item and to the keys and values of all segments, which are shared by all
candidates of a request. In the plain pattern, there for comparison, item and segments are one
sequence in which everything attends to everything from the first layer on.

The head compares the pooled item with each pooled segment and starts at the untuned similarity, so
that fine-tuning begins where the pretrained model stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

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
    Undrawn,
    embed_tokens,
    finish_layer,
    freeze_below,
    full_precision,
    layer_count,
    layers,
    mean_pool,
    read_bert_config,
    run_layers,
    self_attention_layer,
    split_heads,
    write_bert_config,
)
from recsys.text.head import SimilarityHead
from recsys.text.plain_pass import KeyBiases, PlainPass
from recsys.text.render import ShopperTextKind
from recsys.text.shopper_side import MASKED, ShopperSide, ShopperTokens, compact, on_grid

WEIGHTS_FILE: Final = "model.safetensors"
SHAPE_FILE: Final = "cross_encoder.json"
BERT_FILE: Final = "bert.json"
CLICK, PURCHASE = 0, 1
"""Columns of the logits."""

Attention = Literal["two_part", "plain"]


class CrossEncoderShape(BaseModel):
    """What is needed beside a BERT's configuration to build the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    join_layer: int
    """First layer in which item tokens see shopper tokens."""

    max_segments: int
    """Segments on the shopper's side."""

    segment_max_tokens: int = 16
    """Tokens of a segment, from its front, that candidates attend to; its vector pools all. In the
    plain pattern the others are not read."""

    shopper_key_bias: float
    """Start value of the logit bias on keys of other texts."""

    attention: Attention = "two_part"
    """Who attends to whom from the join layer up; the plain pattern is joined from layer 0."""


class CrossEncoder(nn.Module):
    """Scores candidates of shoppers; see the module's text for the idea.

    Args:
        bert: the pretrained model, adapted in place.
        shape: join layer and segments.

    Raises:
        ModelError: the join layer is not below the top of the model, or not 0 in the plain pattern.
    """

    def __init__(self, bert: BertModel, shape: CrossEncoderShape) -> None:
        super().__init__()
        depth = layer_count(bert)
        _check_join_layer(shape, depth)
        heads = bert.config.num_attention_heads
        joined = depth - shape.join_layer
        self.bert = bert
        self.shape = shape
        self.kind_bias = nn.Parameter(
            torch.full((joined, heads, len(ShopperTextKind)), shape.shopper_key_bias)
        )
        self.segment_bias = nn.Parameter(torch.zeros(joined, heads, shape.max_segments))
        if shape.attention == "plain":
            self.item_bias = nn.Parameter(torch.full((joined, heads), shape.shopper_key_bias))
        self.head = SimilarityHead(bert.config.hidden_size, shape.max_segments)

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
        """Read the segments to the top; in the plain pattern, put their tokens side by side.

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
        place, token_segment, tokens = compact(shared, row)
        if self.shape.attention == "plain":
            together = ShopperTokens(states.flatten(0, 1)[place], token_segment, tokens, kind)
            return ShopperSide([], [], [], states.new_zeros(*row.shape, 0), present, together)
        keys, values, biases = [], [], []
        for depth, layer in enumerate(self.joined_layers):
            _, key, value = split_heads(layer, states)
            keys.append(key.flatten(0, 1)[place].transpose(1, 2))
            values.append(value.flatten(0, 1)[place].transpose(1, 2))
            biases.append(self._bias(depth, token_segment, kind, tokens))
            states = self_attention_layer(layer, states.flatten(0, 1), mask).view_as(states)
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
        if shopper.tokens is not None:
            return self.plain_pass().logits(states, mask, shopper)
        b, k, t, _ = states.shape
        place = mask.flatten().nonzero().squeeze(1)
        tokens = states.flatten(0, 2)[place]
        for depth, layer in enumerate(self.joined_layers):
            query, key, value = (
                on_grid(part, place, (b, k, t)) for part in split_heads(layer, tokens)
            )
            context = _joint_attention((query, key, value), mask, shopper, depth)
            tokens = finish_layer(layer, context.flatten(0, 2)[place], tokens)
        count = mask.sum(-1).clamp(min=1).unsqueeze(-1)
        total = tokens.new_zeros(b * k, tokens.shape[-1], dtype=torch.float32)
        total = total.index_add(0, place // t, tokens.float())
        item = functional.normalize(total.view(b, k, -1) / count, dim=-1)
        with full_precision(item.device):
            logits: Tensor = self.head(item, shopper.vectors, shopper.present)
        return logits

    def plain_pass(self) -> PlainPass:
        """The plain pattern's way through the layers, over these very weights."""
        biases = KeyBiases(self.kind_bias, self.segment_bias, self.item_bias)
        return PlainPass(self.joined_layers, biases, self.head)

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
            with Undrawn():
                model = cls(BertModel(config, add_pooling_layer=False), shape)
            model.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"can't load the cross-encoder in {folder}: {error}") from error
        return model.eval()


def _check_join_layer(shape: CrossEncoderShape, depth: int) -> None:
    if not 0 <= shape.join_layer < depth:
        raise ModelError(
            f"join_layer is {shape.join_layer}; this model has {depth} layers, so it must be "
            f"0 to {depth - 1}"
        )
    if shape.attention == "plain" and shape.join_layer:
        raise ModelError(
            f"join_layer is {shape.join_layer}, but the plain attention pattern joins item and "
            "shopper from layer 0"
        )


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
