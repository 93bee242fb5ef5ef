"""What torch's own interpreter runs is what Python would, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from recsys.text import CrossEncoder, CrossEncoderShape, ShopperTextKind, load_bert
from recsys.text.joined_layers import JoinedLayers
from recsys.text.joined_pass import JoinedPass, compiled
from recsys.text.token_rows import TokenRows

HIDDEN = 32
LENGTHS = [5, 1, 9, 2, 24, 3, 7]
KIND = int(ShopperTextKind.HISTORY)


def model_of(folder: Path, join_layer: int) -> CrossEncoder:
    shape = CrossEncoderShape(join_layer=join_layer, max_segments=4, shopper_key_bias=-1.0)
    model = CrossEncoder(load_bert(str(folder)), shape).eval()
    with torch.no_grad():
        for weight in (model.kind_bias, model.segment_bias, model.head.appeal.weight):
            weight.copy_(torch.randn_like(weight))
    return model


def laid_out(*lengths: int) -> TokenRows:
    sizes = torch.tensor(lengths, dtype=torch.int64)
    return TokenRows.of(sizes.cumsum(0) - sizes, sizes)


def scores(
    one: JoinedPass, dtype: torch.dtype, texts: TokenRows, unread: TokenRows
) -> tuple[Tensor, Tensor]:
    """The vectors of a shopper's unread texts, and the logits of seven items."""
    random = torch.Generator().manual_seed(0)
    states = torch.randn(sum(LENGTHS), HIDDEN, generator=random).to(dtype)
    shopper = torch.randn(len(texts.place), HIDDEN, generator=random).to(dtype)
    shared = (texts.within < 16).nonzero().squeeze(1)
    with torch.inference_mode():
        *seen, vectors = one.shopper_side(shopper, texts, shared, unread, KIND)
        whole = torch.randn(1, texts.texts, HIDDEN, generator=random)
        present = torch.ones(1, texts.texts, dtype=torch.bool)
        return vectors, one(states, laid_out(*LENGTHS), tuple(seen), whole, present)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("join_layer", [3, 5])
def test_compiled_code_gives_the_same_bits(
    tiny_bert: Path, join_layer: int, dtype: torch.dtype
) -> None:
    module = JoinedPass(model_of(tiny_bert, join_layer), dtype, "cpu")
    script = compiled(module)
    assert isinstance(script, torch.jit.ScriptModule)
    for texts, unread in (
        (laid_out(4, 18, 2), laid_out(4, 18, 2)),
        (laid_out(4, 18, 2), TokenRows.of(torch.tensor([22]), torch.tensor([2]))),
        (laid_out(4), laid_out()),
    ):
        expected = scores(module, dtype, texts, unread)
        for _ in range(3):  # the interpreter optimises what it has run before
            found = scores(script, dtype, texts, unread)
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one, other)


def test_what_can_not_be_compiled_runs_in_python(tiny_bert: Path) -> None:
    class Odd(nn.Module):
        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, states: Tensor) -> Tensor:
            return self.function(states)

    model = model_of(tiny_bert, 4)
    for layer in model.joined_layers:
        layer.intermediate.intermediate_act_fn = Odd(lambda states: states.clamp(min=0) ** 1.5)
    module = JoinedPass(model, torch.float32, "cpu")
    assert compiled(module) is module
    layers = JoinedLayers(model, torch.float32)
    texts = laid_out(*LENGTHS)
    side = layers.shopper_side(torch.randn(6, HIDDEN), laid_out(4, 2), KIND)
    assert layers.logits(torch.randn(sum(LENGTHS), HIDDEN), texts, side).isfinite().all()
