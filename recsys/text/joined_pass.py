"""What scoring computes from the join layer up, as a module that torch's own interpreter can run.

The same arithmetic as `CrossEncoder.shopper_side` and `CrossEncoder.score`, which training
differentiates; here without padding, without a batch of requests and without autocast's casts, with
weights that are cast and fused once. Its code keeps to what TorchScript understands.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.bert.modeling_bert import BertLayer

from recsys.text.cross_encoder import CrossEncoder
from recsys.text.shopper_side import MASKED
from recsys.text.token_rows import ROWS, TokenRows, mean_of_texts, unused

_ROWS_OF_HEAD: Final = 16
"""The head's rows are filled up to a multiple: fewer take other kernels, which round otherwise."""

_SHARED_KEYS: Final = 32
"""The keys that candidates share are filled up to a multiple as rows are, see `ROWS`."""


class JoinedPass(nn.Module):
    """A cross-encoder from its join layer up, for one request at a time.

    Args:
        model: later changes of its weights are not seen.
        dtype: of weights and states; pooling and head are always float32.
        device: where it is computed.
    """

    def __init__(self, model: CrossEncoder, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        depths = range(len(model.joined_layers))
        self.layers = _Layers(_Layer(model, depth) for depth in depths).to(device, dtype)
        self.head = copy.deepcopy(model.head).to(device)
        self.rows_of_head = _ROWS_OF_HEAD
        self.shared_keys = _SHARED_KEYS
        self.requires_grad_(False).eval()  # noqa: FBT003

    @torch.jit.export
    def shopper_side(
        self, states: Tensor, texts: TokenRows, shared: Tensor, unread: TokenRows, kind: int
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
        """Keys, values and biases of a `ShopperSide` for one request, and vectors for it.

        Args:
            states: (n, d), join-layer states of the rows of `texts`, in the dtype of the weights; n
                at least 1.
            texts: the segments, latest first.
            shared: int64 (l,), rows whose tokens candidates attend to.
            unread: the u segments whose vectors are wanted, their places among the rows.
            kind: value of `ShopperTextKind`.

        Returns:
            The last is float32 (u, d).
        """
        segment = texts.text[shared]
        more = unused(len(shared), self.shared_keys)
        shared = functional.pad(shared, [0, more])
        keys: list[Tensor] = []
        values: list[Tensor] = []
        biases: list[Tensor] = []
        vectors = torch.zeros(0, states.shape[1], device=states.device)
        for depth, layer in enumerate(self.layers):
            key, value = layer.keys_and_values(states.index_select(0, shared))
            bias = layer.key_biases[:, kind].index_select(1, segment).unsqueeze(1)
            keys.append(key.unsqueeze(0))
            values.append(value.unsqueeze(0))
            biases.append(functional.pad(bias, [0, more], value=layer.masked).unsqueeze(0))
            if depth + 1 < len(self.layers):
                states = layer.read(states, texts)
            elif len(unread.place) > 0:
                own = layer.read(states.index_select(0, unread.place), unread)
                vectors = functional.normalize(mean_of_texts(own, unread), dim=-1)
        return keys, values, biases, vectors

    def forward(
        self,
        states: Tensor,
        texts: TokenRows,
        shared: tuple[list[Tensor], list[Tensor], list[Tensor]],
        vectors: Tensor,
        present: Tensor,
    ) -> Tensor:
        """Raw logits float32 (k, 2) of k candidates.

        Args:
            states: (n, d), join-layer states of the rows of `texts`, in the dtype of the weights.
            texts: the candidates, at least one.
            shared: keys, values and biases of the request's `ShopperSide`; empty for nobody.
            vectors: of that side.
            present: of that side.
        """
        keys, values, biases = shared
        for depth, layer in enumerate(self.layers):
            if len(keys) == 0:
                states = layer.read(states, texts)
            else:
                seen = (keys[depth][0], values[depth][0], biases[depth][0])
                states = layer.read_with(states, texts, seen)
        items = functional.normalize(mean_of_texts(states, texts), dim=-1)
        count = len(items)
        items = functional.pad(items, [0, 0, 0, -count % self.rows_of_head])
        logits: Tensor = self.head(items.unsqueeze(0), vectors, present)
        return logits[0, :count]


class _Layer(nn.Module):
    """A transformer layer: its attention's projections in one matrix, queries scaled.

    It gives back as many rows as it takes, filled up.

    Args:
        model: of whose joined layers it is one.
        depth: which, from the join layer.
    """

    if TYPE_CHECKING:  # TorchScript would look at them, and does not know what is in quotes
        weight: Tensor
        bias: Tensor
        key_biases: Tensor

    def __init__(self, model: CrossEncoder, depth: int) -> None:
        super().__init__()
        block: BertLayer = model.joined_layers[depth]
        attention = block.attention.self
        scale = attention.attention_head_size**-0.5
        parts = (attention.query, attention.key, attention.value)
        with torch.no_grad():
            weight = torch.cat([parts[0].weight * scale, *(part.weight for part in parts[1:])])
            bias = torch.cat([parts[0].bias * scale, *(part.bias for part in parts[1:])])
            by_kind, by_segment = model.kind_bias[depth], model.segment_bias[depth]
            key_biases = by_kind.unsqueeze(2) + by_segment.unsqueeze(1)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("key_biases", key_biases)  # (heads, kinds, segments)
        self.heads = len(key_biases)
        self.rows = ROWS
        self.masked = MASKED
        self.output = copy.deepcopy(block.attention.output.dense)
        self.output_norm = copy.deepcopy(block.attention.output.LayerNorm)
        self.wider = copy.deepcopy(block.intermediate.dense)
        self.activation = copy.deepcopy(block.intermediate.intermediate_act_fn)
        self.narrower = copy.deepcopy(block.output.dense)
        self.norm = copy.deepcopy(block.output.LayerNorm)

    def keys_and_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (heads, n, d / heads), of states (n, d)."""
        size = states.shape[1]
        joined = functional.linear(states, self.weight[size:], self.bias[size:])
        key, value = joined.view(len(states), 2, self.heads, -1).permute(1, 2, 0, 3).unbind()
        return key, value

    def read(self, states: Tensor, texts: TokenRows) -> Tensor:
        """States after the layer, where each text sees only itself, of those (n, d) before it."""
        states, joined = self._projected(states)
        grid, cells = _on_grid(joined, texts)
        weights = _own_scores(grid, cells, texts, self.masked).softmax(-1)
        return self._finished(_own_context(grid, cells, texts, weights), states)

    def read_with(
        self, states: Tensor, texts: TokenRows, seen: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """States after the layer, where each text sees itself and what all of them see.

        Columns of the scores: what all see, then the own text's tokens from its first, then unused
        ones, so that a row's sums don't depend on the other texts.

        Args:
            states: (n, d), before the layer.
            texts: whose tokens the first rows are.
            seen: keys, values and biases, as in a `ShopperSide` of one request.
        """
        states, joined = self._projected(states)
        query = joined[:, 0].transpose(0, 1)
        to_seen = torch.baddbmm(seen[2], query, seen[0].transpose(1, 2))
        grid, cells = _on_grid(joined, texts)
        own = _own_scores(grid, cells, texts, self.masked)
        weights = torch.cat([to_seen, own], dim=-1).softmax(-1)
        to_seen, own = weights.split([to_seen.shape[-1], own.shape[-1]], dim=-1)
        context = _own_context(grid, cells, texts, own) + torch.bmm(to_seen, seen[1])
        return self._finished(context, states)

    def _projected(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States (n, d), filled up, and their queries, keys and values (n, 3, heads, d / heads)."""
        states = functional.pad(states, [0, 0, 0, unused(len(states), self.rows)])
        joined = functional.linear(states, self.weight, self.bias)
        return states, joined.view(len(states), 3, self.heads, -1)

    def _finished(self, context: Tensor, states: Tensor) -> Tensor:
        """After an attention's (heads, n, d / heads) of states (n, d)."""
        attended = self.output(context.transpose(0, 1).flatten(1))
        states = self.output_norm(attended + states)
        output: Tensor = self.norm(self.narrower(self.activation(self.wider(states))) + states)
        return output


class _Layers(nn.ModuleList):
    """Transformer layers, lowest first."""

    if TYPE_CHECKING:

        def __iter__(self) -> Iterator[_Layer]: ...


def compiled(module: JoinedPass) -> JoinedPass:
    """The same in TorchScript, or the module itself where it can't be, as with rare activations.

    TorchScript runs all of a pass without Python, so that another thread can use the interpreter
    meanwhile. It is deprecated in favour of compilers that need a C++ compiler where they run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return cast("JoinedPass", torch.jit.script(module))
        except RuntimeError:
            return module


def _on_grid(joined: Tensor, texts: TokenRows) -> tuple[Tensor, Tensor]:
    """Rows (n, 3, heads, size) on the grid of `texts`: (3, heads, lines, width, size).

    Also int64 (n,), each row's cell; for rows beyond those of `texts` the first.
    """
    lines, width = texts.is_token.shape
    parts, heads, size = joined.shape[1:]
    rows = joined.index_select(0, texts.row).view(lines, width, parts, heads, size)
    cells = functional.pad(texts.cell, [0, len(joined) - len(texts.cell)])
    return rows.permute(2, 3, 0, 1, 4).contiguous(), cells


def _own_scores(grid: Tensor, cells: Tensor, texts: TokenRows, masked: float) -> Tensor:
    """Each row's attention logits on its own text, from its first token on: (heads, n, width).

    Args:
        grid: queries, keys and values on the grid of `texts`.
        cells: of the n rows.
        texts: whose tokens the first rows are.
        masked: logit of cells that are no token.
    """
    scores = grid[0] @ grid[1].transpose(2, 3)
    scores.masked_fill_(texts.is_token.logical_not().unsqueeze(1), masked)
    return scores.flatten(1, 2).index_select(1, cells)


def _own_context(grid: Tensor, cells: Tensor, texts: TokenRows, weights: Tensor) -> Tensor:
    """Sums of a text's own values by `weights` (heads, n, width): (heads, n, size)."""
    lines, width = texts.is_token.shape
    by_line = weights.index_select(1, texts.row).view(len(weights), lines, width, width)
    return (by_line @ grid[2]).flatten(1, 2).index_select(1, cells)
