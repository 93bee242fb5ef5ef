"""A cross-encoder's layers as scoring runs them, made once for all catalogues that it scores."""

from __future__ import annotations

from threading import Lock

import torch

from recsys.text.cross_encoder import CrossEncoder
from recsys.text.devices import Device
from recsys.text.joined_layers import JoinedLayers
from recsys.text.plain_pass import PlainLayers

ScoringLayers = JoinedLayers | PlainLayers


class CompiledLayers:
    """Makes the layers when they are first asked for, and keeps them; for several threads.

    To cast, fuse and compile them takes as long as several requests, and the first requests run
    them slowly, so a change of the catalogue should not cost it again.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._made: tuple[CrossEncoder, torch.dtype, Device, ScoringLayers] | None = None

    def of(self, model: CrossEncoder, dtype: torch.dtype, device: Device) -> ScoringLayers:
        """The layers of a model; the last ones that were asked for are kept.

        Args:
            model: with its final weights: later changes of these are not seen.
            dtype: see `JoinedLayers`.
            device: see `JoinedLayers`.
        """
        with self._lock:
            if self._made is None or self._made[:3] != (model, dtype, device):
                self._made = (model, dtype, device, _made(model, dtype, device))
            return self._made[3]


def _made(model: CrossEncoder, dtype: torch.dtype, device: Device) -> ScoringLayers:
    if model.shape.attention == "plain":
        return PlainLayers(model.plain_pass(), model.shape.segment_max_tokens, dtype, device)
    return JoinedLayers(model, dtype, device)
