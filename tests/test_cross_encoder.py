"""The two-part cross-encoder: its scores are those of one plain pass, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from recsys.errors import ModelError
from recsys.text import (
    BiEncoder,
    CrossEncoder,
    CrossEncoderShape,
    ShopperSide,
    ShopperTextKind,
    TokenTable,
    encode_states,
    load_bert,
    load_tokenizer,
)

TEXTS = [
    "red mug",
    "blue cotton towel for the bath. home",
    "vintage brass candle holder",
    "",
    "small white ceramic cup and plate for tea",
    "a toy star",
    "wedding card and ribbon box",
    "kettle",
]
SEGMENTS = torch.tensor([[1, 5, 3], [4, -1, -1], [6, 2, -1]])
KIND = torch.tensor([ShopperTextKind.HISTORY, ShopperTextKind.QUERY, ShopperTextKind.CONTEXT])
ROWS = torch.tensor([[0, 2, 7], [3, 4, 1], [5, 0, 6]])
JOIN, PLAIN = 3, -5


@dataclass(frozen=True)
class World:
    """A model whose every weight matters, the texts' tokens and their states, unrounded."""

    model: CrossEncoder
    tokens: TokenTable
    states: Tensor
    mask: Tensor

    def side(self, segments: Tensor, kind: Tensor) -> ShopperSide:
        return self.model.shopper_side(self.states, self.mask, segments, kind)

    def score(self, segments: Tensor, kind: Tensor, rows: Tensor) -> Tensor:
        return self.model.score(self.states[rows], self.mask[rows], self.side(segments, kind))


@pytest.fixture(autouse=True)
def without_gradients() -> object:
    with torch.no_grad():
        yield


def fresh(
    folder: Path, bias: float = 0.0, join_layer: int = JOIN, segment_max_tokens: int = 6
) -> CrossEncoder:
    """A two-part model; with `PLAIN` in place of a join layer, one that reads plainly."""
    shape = CrossEncoderShape(
        join_layer=0 if join_layer == PLAIN else join_layer,
        max_segments=4,
        segment_max_tokens=segment_max_tokens,
        shopper_key_bias=bias,
        attention="plain" if join_layer == PLAIN else "two_part",
    )
    return CrossEncoder(load_bert(str(folder)), shape).eval()


def worn_in(model: CrossEncoder) -> CrossEncoder:
    """Random head and biases, and attention sharp enough that a wrong key shows in the score."""
    rng = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if name.endswith((".query.weight", ".key.weight", ".value.weight")):
            weight.mul_(12)
        elif not name.startswith("bert."):
            weight.add_(0.3 * torch.randn(weight.shape, generator=rng))
    return model


@pytest.fixture(scope="module")
def tokenizer(tiny_bert: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(str(tiny_bert))


@pytest.fixture(scope="module", params=[JOIN, PLAIN], ids=["two-part", "plain"])
def world(
    request: pytest.FixtureRequest, tiny_bert: Path, tokenizer: PreTrainedTokenizerFast
) -> World:
    with torch.no_grad():
        model = worn_in(fresh(tiny_bert, join_layer=request.param))
        tokens = TokenTable.build(tokenizer, TEXTS, 16)
        ids, mask = tokens.padded(torch.arange(len(TEXTS)))
        return World(model, tokens, model.join_states(ids, mask), mask)


def one_pass(world: World, segments: list[int], kind: int, item: int) -> Tensor:
    """Both logits of one pair by Hugging Face's own layers, item and segments in one sequence.

    Below the join layer every text sees itself; from there on the item also sees the first tokens
    of each segment. In the plain pattern these first tokens are all there is of a segment, and
    every token sees every other from the first layer on.
    """
    model, texts = world.model, [item, *segments]
    plain = model.shape.attention == "plain"
    ids = [world.tokens.padded(torch.tensor([row]))[0][0] for row in texts]
    if plain:
        ids = [ids[0], *(part[: model.shape.segment_max_tokens] for part in ids[1:])]
    owner = torch.cat([torch.full((len(part),), i) for i, part in enumerate(ids)])
    places = torch.cat([torch.arange(len(part)) for part in ids])
    states = model.bert.embeddings(input_ids=torch.cat(ids)[None], position_ids=places[None])
    shared = (owner > 0) & (places < model.shape.segment_max_tokens)
    across = (owner[:, None] == 0) & shared[None, :]
    apart = torch.where(owner[:, None] == owner[None, :], 0.0, -torch.inf)
    for depth, layer in enumerate(model.bert.encoder.layer):
        seen = apart.expand(2, -1, -1)
        if depth >= model.shape.join_layer:
            joined = depth - model.shape.join_layer
            of_key = model.segment_bias[joined][:, (owner - 1).clamp(min=0)]
            bias = model.kind_bias[joined, :, kind, None] + of_key
            if plain:
                bias = torch.where(owner == 0, model.item_bias[joined, :, None], bias)
                across = owner[:, None] != owner[None, :]
            seen = torch.where(across, bias[:, None, :], seen)
        states = layer(states, attention_mask=seen[None])
    pooled = [functional.normalize(states[0, owner == i].mean(0), dim=0) for i in range(len(texts))]
    return head(model, pooled[0], torch.stack(pooled[1:]))


def head(model: CrossEncoder, item: Tensor, segments: Tensor) -> Tensor:
    parts, cosine = model.head, segments @ item
    soft = (10 * cosine).softmax(0) @ cosine
    profile = parts.recency[: len(cosine)].softmax(0) @ segments * len(cosine) ** parts.growth
    matched = parts.metric(item) @ parts.metric(profile)
    compared = parts.similarity(torch.stack([cosine.max(), soft, matched]))
    logits: Tensor = 100 * compared + parts.appeal(item)
    return logits


def expected(world: World) -> Tensor:
    pairs = [
        [one_pass(world, [s for s in own if s >= 0], kind, item) for item in rows]
        for own, kind, rows in zip(SEGMENTS.tolist(), KIND.tolist(), ROWS.tolist(), strict=True)
    ]
    return torch.stack([torch.stack(row) for row in pairs])


def test_the_two_parts_give_the_scores_of_one_plain_pass(world: World) -> None:
    found = world.score(SEGMENTS, KIND, ROWS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected(world), atol=1e-5, rtol=1e-5)
    assert found.std() > 0.5


@pytest.mark.parametrize(
    ("stored_as", "tolerance"),
    [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_scores_from_stored_states_are_those_of_one_plain_pass(
    world: World, stored_as: torch.dtype, tolerance: float
) -> None:
    """Each layer above the join adds to what rounding changed."""
    model, join = world.model, world.model.shape.join_layer
    stored = encode_states(
        model.bert, world.tokens, layer=join, precision="fp32", stored_as=stored_as
    )
    states, mask = stored.padded(torch.arange(len(TEXTS)))
    read = replace(world, states=states.float(), mask=mask).score(SEGMENTS, KIND, ROWS)
    allowed = tolerance * len(model.joined_layers)
    torch.testing.assert_close(read, expected(world), atol=allowed, rtol=1e-5)


@pytest.mark.parametrize("join_layer", [0, 5])
def test_the_lowest_and_highest_join_layer_work(
    tiny_bert: Path, world: World, join_layer: int
) -> None:
    model = worn_in(fresh(tiny_bert, join_layer=join_layer))
    ids, mask = world.tokens.padded(torch.arange(len(TEXTS)))
    other = World(model, world.tokens, model.join_states(ids, mask), mask)
    found = other.score(SEGMENTS, KIND, ROWS)
    torch.testing.assert_close(found, expected(other), atol=1e-5, rtol=1e-5)


def test_padding_has_no_influence(world: World) -> None:
    wide = functional.pad(world.states, (0, 0, 0, 5), value=37.0)
    wide[~functional.pad(world.mask, (0, 5))] = 37.0
    padded = replace(world, states=wide, mask=functional.pad(world.mask, (0, 5)))
    torch.testing.assert_close(
        padded.score(SEGMENTS, KIND, ROWS),
        world.score(SEGMENTS, KIND, ROWS),
        atol=1e-5,
        rtol=1e-5,
    )


def test_a_pair_has_the_same_score_in_any_company(world: World) -> None:
    together = world.score(SEGMENTS, KIND, ROWS)
    for request in range(len(ROWS)):
        one = slice(request, request + 1)
        for place in range(ROWS.shape[1]):
            alone = world.score(SEGMENTS[one], KIND[one], ROWS[one, place : place + 1])
            torch.testing.assert_close(alone[0, 0], together[request, place], atol=1e-5, rtol=1e-5)


def test_scores_follow_the_order_of_candidates(world: World) -> None:
    order = torch.tensor([2, 0, 1])
    shuffled = world.score(SEGMENTS, KIND, ROWS[:, order])
    straight = world.score(SEGMENTS, KIND, ROWS)[:, order]
    torch.testing.assert_close(shuffled, straight, atol=1e-5, rtol=1e-5)


def test_empty_segment_slots_have_no_influence(world: World) -> None:
    cut = world.score(SEGMENTS[1:2, :1], KIND[1:2], ROWS[1:2])
    slots = torch.tensor([[4, -1, -1, -1]])
    for stand_in in (1.0, -50.0):
        states = world.states.clone()
        states[0] = stand_in  # an empty slot is looked up as row 0 and then masked
        side = world.model.shopper_side(states, world.mask, slots, KIND[1:2])
        found = world.model.score(world.states[ROWS[1:2]], world.mask[ROWS[1:2]], side)
        torch.testing.assert_close(found, cut, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [0, 1, 3])
def test_a_shopper_without_texts_gets_finite_scores(world: World, width: int) -> None:
    nothing = torch.full((2, width), -1)
    kind = torch.full((2,), int(ShopperTextKind.NOTHING))
    none = world.states[:0], world.mask[:0]
    found = world.model.score(
        world.states[ROWS[:2]],
        world.mask[ROWS[:2]],
        world.model.shopper_side(*none, nothing, kind),
    )
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, world.score(nothing, kind, ROWS[:2]), atol=1e-5, rtol=1e-5)
    mixed = torch.cat([torch.full((1, 3), -1), SEGMENTS[:1]])
    beside = world.score(mixed, torch.stack([kind[0], KIND[0]]), ROWS[:2])
    torch.testing.assert_close(found[0], beside[0], atol=1e-5, rtol=1e-5)


def test_an_untuned_model_starts_at_the_zero_shot_similarity(
    tiny_bert: Path, tokenizer: PreTrainedTokenizerFast, world: World
) -> None:
    plain = world.model.shape.attention == "plain"
    vectors = torch.from_numpy(
        BiEncoder(load_bert(str(tiny_bert)), tokenizer, "fp32").embed(TEXTS, max_tokens=16)
    )
    model = fresh(tiny_bert, bias=-50, join_layer=PLAIN if plain else JOIN, segment_max_tokens=16)
    ids, mask = world.tokens.padded(torch.arange(len(TEXTS)))
    start = World(model, world.tokens, model.join_states(ids, mask), mask)
    found = start.score(SEGMENTS, KIND, ROWS)
    for request, (own, rows) in enumerate(zip(SEGMENTS, ROWS, strict=True)):
        cosine = vectors[rows] @ vectors[own[own >= 0]].T
        logits = 8 * cosine.amax(1) + 2 * cosine.mean(1) - 5
        torch.testing.assert_close(found[request], logits[:, None].expand(-1, 2), atol=1e-4, rtol=0)

    nothing = start.score(torch.full_like(SEGMENTS, -1), KIND, ROWS)
    torch.testing.assert_close(nothing, torch.full_like(nothing, -5.0))


def test_an_empty_slot_is_never_the_nearest_segment(world: World) -> None:
    random = torch.randn(1, 1, 32, generator=torch.Generator().manual_seed(1))
    item = functional.normalize(random, dim=-1)
    opposite = world.model.head(item, -item, torch.tensor([[True]]))
    slots = functional.pad(-item, (0, 0, 0, 2))
    padded = world.model.head(item, slots, torch.tensor([[True, False, False]]))
    torch.testing.assert_close(padded, opposite)


def test_items_attend_to_the_shoppers_tokens(tiny_bert: Path, world: World) -> None:
    """With the segments' vectors held fixed, only attention can tell two shoppers apart."""
    ids, mask = world.tokens.padded(torch.arange(len(TEXTS)))
    difference = {}
    for bias in (0.0, -50.0):
        model = worn_in(fresh(tiny_bert))
        model.kind_bias.fill_(bias)
        of = World(model, world.tokens, model.join_states(ids, mask), mask)
        one, other = (of.side(rows, KIND[:1]) for rows in (SEGMENTS[:1], SEGMENTS[[1]]))
        swapped = replace(one, keys=other.keys, values=other.values, biases=other.biases)
        rows = ROWS[:1]
        first, second = (model.score(of.states[rows], mask[rows], s) for s in (one, swapped))
        difference[bias] = float((first - second).abs().max())
    assert difference[0.0] > 0.05
    assert difference[-50.0] < 1e-5


def test_where_the_shoppers_text_comes_from_matters(world: World) -> None:
    first = world.score(SEGMENTS[:1], KIND[:1], ROWS[:1])
    second = world.score(SEGMENTS[:1], KIND[1:2], ROWS[:1])
    assert (first - second).abs().max() > 1e-3


def test_half_precision_arithmetic_stays_near(world: World) -> None:
    full = world.score(SEGMENTS, KIND, ROWS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = world.score(SEGMENTS, KIND, ROWS)
    assert rough.dtype == torch.float32
    assert (rough - full).abs().max() < 0.1


def test_every_part_of_the_joined_model_learns(tiny_bert: Path, world: World) -> None:
    plain = world.model.shape.attention == "plain"
    model = worn_in(fresh(tiny_bert, join_layer=PLAIN if plain else JOIN))
    model.freeze(JOIN)
    ids, mask = world.tokens.padded(torch.arange(len(TEXTS)))
    with torch.enable_grad():
        of = World(model, world.tokens, model.join_states(ids, mask), mask)
        of.score(SEGMENTS, KIND, ROWS).square().sum().backward()
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            assert weight.grad is None
        elif not name.endswith("attention.self.key.bias"):  # shifts all keys of a softmax alike
            assert weight.grad is not None, name
            assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("frozen", [0, 1, 4, 6])
def test_freezing_keeps_the_lowest_layers_and_the_embeddings(tiny_bert: Path, frozen: int) -> None:
    model = fresh(tiny_bert)
    model.freeze(frozen)
    for name, weight in model.named_parameters():
        kept = name.startswith("bert.embeddings.") and frozen > 0
        kept |= any(name.startswith(f"bert.encoder.layer.{layer}.") for layer in range(frozen))
        assert weight.requires_grad is not kept, name


def test_dropout_is_set_in_every_layer_and_used_in_training_only(
    tiny_bert: Path, world: World
) -> None:
    model = fresh(tiny_bert)
    ids, mask = world.tokens.padded(torch.arange(len(TEXTS)))
    quiet = model.join_states(ids, mask)
    model.set_dropout(0.5)
    assert torch.equal(model.join_states(ids, mask), quiet)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert not torch.allclose(model.train().join_states(ids, mask), quiet)
        model.set_dropout(0.0)
        assert torch.equal(model.join_states(ids, mask), quiet)


def test_a_saved_model_gives_the_same_scores(world: World, tmp_path: Path) -> None:
    world.model.save(tmp_path / "model")
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}
    loaded = CrossEncoder.load(tmp_path / "model")
    assert not loaded.training
    assert loaded.shape == world.model.shape
    again = replace(world, model=loaded).score(SEGMENTS, KIND, ROWS)
    assert torch.equal(again, world.score(SEGMENTS, KIND, ROWS))


def weights_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def weights_cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2_000])


def shape_of_another_model(folder: Path) -> None:
    shape = CrossEncoderShape(join_layer=JOIN, max_segments=9, shopper_key_bias=0.0)
    (folder / "cross_encoder.json").write_text(shape.model_dump_json())


def shape_unreadable(folder: Path) -> None:
    (folder / "cross_encoder.json").write_text("{")


@pytest.mark.parametrize(
    "damage", [weights_missing, weights_cut_short, shape_of_another_model, shape_unreadable]
)
def test_a_damaged_model_is_reported(
    world: World, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    world.model.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ModelError, match="can't load the cross-encoder"):
        CrossEncoder.load(tmp_path)


def test_a_plain_model_joins_from_the_first_layer(tiny_bert: Path) -> None:
    shape = CrossEncoderShape(join_layer=2, max_segments=4, shopper_key_bias=0.0, attention="plain")
    with pytest.raises(ModelError, match="join_layer is 2, but the plain attention pattern"):
        CrossEncoder(load_bert(str(tiny_bert)), shape)


@pytest.mark.parametrize("join_layer", [-1, 6, 60])
def test_a_join_layer_outside_the_model_is_reported(tiny_bert: Path, join_layer: int) -> None:
    with pytest.raises(ModelError, match=f"join_layer is {join_layer}; this model has 6 layers"):
        fresh(tiny_bert, join_layer=join_layer)
