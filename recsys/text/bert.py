"""The forward pass of a BERT's layers, one at a time, on tensors with a padding mask."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertLayer

_DRAWING: Final = frozenset({"normal_", "uniform_", "kaiming_uniform_"})
"""Functions and methods by which layers fill themselves at random."""


class Undrawn(TorchFunctionMode):
    """With it, models made in this thread keep their weights as they were allocated.

    For models whose weights are all loaded next: to draw them at random takes longer than to load
    them, and takes numbers from the generator that other threads may be using.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `torch.overrides`."""
        given = kwargs or {}
        if getattr(func, "__name__", "") in _DRAWING:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def embed_tokens(bert: BertModel, ids: Tensor) -> Tensor:
    """Word, position and type embeddings of token ids (b, t) as float32 (b, t, d)."""
    embedded: Tensor = bert.embeddings(input_ids=ids)
    return embedded


def split_heads(layer: BertLayer, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values (..., t, heads, d / heads) of states (..., t, d)."""
    attention = layer.attention.self
    shape = (*states.shape[:-1], attention.num_attention_heads, attention.attention_head_size)
    return (
        attention.query(states).view(shape),
        attention.key(states).view(shape),
        attention.value(states).view(shape),
    )


def finish_layer(layer: BertLayer, context: Tensor, states: Tensor) -> Tensor:
    """Output projection, feed-forward part and both residual norms, after attention."""
    attended = layer.attention.output(context, states)
    output: Tensor = layer.feed_forward_chunk(attended)
    return output


def self_attention_layer(layer: BertLayer, states: Tensor, mask: Tensor) -> Tensor:
    """One layer in which each text sees only itself.

    Args:
        layer: a BERT layer.
        states: (n, d), the tokens of b texts of t, then any rows that belong to none.
        mask: bool (b, t), true for tokens.
    """
    count = mask.numel()
    query, key, value = (
        part[:count].unflatten(0, mask.shape).transpose(1, 2) for part in split_heads(layer, states)
    )
    attended = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None, :]
    )
    context = attended.transpose(1, 2).flatten(-2).flatten(0, 1)
    return finish_layer(layer, functional.pad(context, [0, 0, 0, len(states) - count]), states)


def run_layers(
    bert: BertModel, states: Tensor, mask: Tensor, first: int, last: int, spare: int = 0
) -> Tensor:
    """Layers `first` to `last` (exclusive), each text by itself: (b, t, d).

    Args:
        bert: whose layers they are.
        states: (b, t, d).
        mask: bool (b, t), true for tokens.
        first: layer.
        last: layer, exclusive.
        spare: rows computed beside those of the tokens, for their number to be one of few.
    """
    rows = functional.pad(states.flatten(0, 1), [0, 0, 0, spare])
    for layer in layers(bert)[first:last]:
        rows = self_attention_layer(layer, rows, mask)
    return rows[: mask.numel()].view_as(states)


def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """Mean of the unmasked states (..., t, d) over t, as unit vectors float32 (..., d)."""
    weights = mask.unsqueeze(-1).float()
    mean = (states.float() * weights).sum(-2) / weights.sum(-2).clamp(min=1.0)
    return functional.normalize(mean, dim=-1)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Without autocast, where the device has any."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def layers(bert: BertModel) -> list[BertLayer]:
    """The transformer layers, lowest first."""
    return [layer for layer in bert.encoder.layer if isinstance(layer, BertLayer)]


def layer_count(bert: BertModel) -> int:
    """Number of transformer layers."""
    return int(bert.config.num_hidden_layers)


def freeze_below(bert: BertModel, layer: int) -> None:
    """Keep the embeddings and the layers below `layer` as they are; 0 freezes nothing."""
    frozen: list[nn.Module] = [bert.embeddings, *layers(bert)[:layer]] if layer else []
    for module in frozen:
        module.requires_grad_(False)  # noqa: FBT003


def share_weights(one: nn.Module, other: nn.Module) -> None:
    """Let `other` use `one`'s tensors wherever theirs of that name are equal, bit for bit.

    The others become copies, so that a file they were mapped from can go. Encoders tuned from the
    same model with frozen layers have most of their weights in common.
    """
    known = dict(one.named_parameters())
    for name, weight in other.named_parameters():
        same = known.get(name)
        if same is not None and torch.equal(same, weight):
            weight.data = same.data
        else:
            weight.data = weight.data.clone()


def write_bert_config(config: BertConfig, path: Path) -> None:
    """Write a BERT's shape as JSON, without what only says which library wrote it."""
    shape = config.to_diff_dict()
    for incidental in ("transformers_version", "_name_or_path", "dtype", "torch_dtype"):
        shape.pop(incidental, None)
    path.write_text(json.dumps(shape, indent=2, sort_keys=True) + "\n")


def read_bert_config(path: Path) -> BertConfig:
    """Read what `write_bert_config` wrote."""
    return BertConfig.from_dict(json.loads(path.read_text()))
