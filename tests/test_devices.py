"""Scoring on another device than the CPU; where there is none, that it would be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys.config import Configuration
from recsys.errors import ModelError
from recsys.interactions import Candidates
from recsys.text import (
    CrossEncoder,
    CrossEncoderShape,
    PairScores,
    ShopperTextKind,
    ShopperTexts,
    TextScorer,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
    usable_device,
)
from recsys.text.joined_layers import JoinedLayers
from recsys.text.token_rows import TokenRows

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
with_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")
LENGTHS = torch.tensor([3, 5, 3, 17, 18, 4])
TITLES = ["red mug", "blue cup " * 12, "brass lamp", "a box", "silk scarf and ring", "clock"]


def model_of(folder: Path, attention: str) -> CrossEncoder:
    shape = CrossEncoderShape(
        join_layer=0 if attention == "plain" else 4,
        max_segments=4,
        shopper_key_bias=0.0,
        attention="plain" if attention == "plain" else "two_part",
    )
    return CrossEncoder(load_bert(str(folder)), shape).eval()


@without_cuda
def test_the_cpu_is_taken_where_there_is_no_cuda() -> None:
    assert usable_device("auto") == usable_device("cpu") == "cpu"
    with pytest.raises(ModelError, match=r'finds no CUDA device; .* set device = "auto"'):
        usable_device("cuda")


def test_only_known_devices_are_settings() -> None:
    assert Configuration().device == "auto"
    with pytest.raises(ValidationError, match="device"):
        Configuration.model_validate({"device": "tpu"})


@pytest.mark.parametrize("segments", [0, 3])
def test_a_scoring_pass_stays_on_its_device(tiny_bert: Path, segments: int) -> None:
    """On a device that only knows shapes: anything left on the CPU would not mix with it."""
    layers = JoinedLayers(model_of(tiny_bert, "two_part"), torch.bfloat16, "meta")
    starts = torch.cumsum(LENGTHS, 0) - LENGTHS
    states = torch.zeros(int(LENGTHS.sum()), 32, dtype=torch.float16)
    shopper = TokenRows.of(starts[:segments], LENGTHS[:segments])
    items = TokenRows.of(starts, LENGTHS)
    side = layers.shopper_side(states[shopper.place], shopper, int(ShopperTextKind.HISTORY))
    logits = layers.logits(states[items.place], items, side)
    assert logits.shape == (len(LENGTHS), 2)
    assert logits.device.type == side.vectors.device.type == "meta"


@with_cuda
@pytest.mark.parametrize("attention", ["two_part", "plain"])
def test_cuda_gives_the_cpus_scores(tiny_bert: Path, attention: str) -> None:
    model, tokenizer = model_of(tiny_bert, attention), load_tokenizer(str(tiny_bert))
    tokens = TokenTable.build(tokenizer, TITLES, 24)
    join = model.shape.join_layer
    states = encode_states(model.bert, tokens, layer=join, precision="fp32")
    here = TextScorer(model, states, tokenizer, 24, "fp32", PairScores(0))
    there = replace(here, device="cuda", pair_scores=PairScores(0))
    history = np.array([int(ShopperTextKind.HISTORY)])
    shopper = ShopperTexts(np.array([0, 2]), np.array([2, 4]), history, ())
    items = np.arange(len(TITLES), dtype=np.int32)
    asked = Candidates(np.array([0, len(items)]), items, (), np.zeros((len(items), 0), np.int32))
    np.testing.assert_allclose(
        there.scores(shopper, asked), here.scores(shopper, asked), atol=1e-3, rtol=0
    )
