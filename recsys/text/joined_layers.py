"""The joined layers as scoring runs them: one request, on the device that computes."""

from __future__ import annotations

import torch
from torch import Tensor

from recsys.text.cross_encoder import CrossEncoder
from recsys.text.joined_pass import JoinedPass, compiled
from recsys.text.shopper_side import ShopperSide
from recsys.text.token_rows import TokenRows


class JoinedLayers:
    """A cross-encoder from its join layer up, for scoring one request at a time.

    Args:
        model: later changes of its weights are not seen.
        dtype: of weights and states; pooling and head are always float32.
        device: where it is computed; states may come from elsewhere.
    """

    def __init__(self, model: CrossEncoder, dtype: torch.dtype, device: str = "cpu") -> None:
        with torch.inference_mode():
            joined = JoinedPass(model, dtype, device)
            self._pass = compiled(joined) if device == "cpu" else joined
        self._segment_max_tokens = model.shape.segment_max_tokens
        self._device = device
        self._dtype = dtype

    @torch.inference_mode()
    def shopper_side(
        self, states: Tensor, texts: TokenRows, kind: int, known: Tensor | None = None
    ) -> ShopperSide:
        """Read the segments of one request to the top; see `CrossEncoder.shopper_side`.

        Args:
            states: (n, d), join-layer states of the rows of `texts`; n may be 0.
            texts: the segments, latest first.
            kind: value of `ShopperTextKind`.
            known: float32 (k, d), the segments' vectors; NaN where they are to be computed, as all
                are without it.
        """
        if len(states) == 0:
            return self._nobody(states.shape[1])
        vectors = torch.full((texts.texts, states.shape[1]), torch.nan) if known is None else known
        wanted = vectors[:, 0].isnan()
        starts = texts.lengths.cumsum(0) - texts.lengths
        unread = TokenRows.of(starts[wanted], texts.lengths[wanted])
        shared = (texts.within < self._segment_max_tokens).nonzero().squeeze(1).to(self._device)
        states, texts = states.to(self._device, self._dtype), texts.to(self._device)
        keys, values, biases, read = self._pass.shopper_side(
            states, texts, shared, unread.to(self._device), kind
        )
        vectors, wanted = vectors.to(self._device), wanted.to(self._device)
        vectors = vectors.index_put((wanted,), read)
        present = torch.ones(1, len(vectors), dtype=torch.bool, device=self._device)
        return ShopperSide(keys, values, biases, vectors[None], present)

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
        states, texts = states.to(self._device, self._dtype), texts.to(self._device)
        shared = (shopper.keys, shopper.values, shopper.biases)
        logits: Tensor = self._pass(states, texts, shared, shopper.vectors, shopper.present)
        return logits
